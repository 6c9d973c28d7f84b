"""From users to refresh to recommendations: rank by strategy, keep the rules, fill up, say why."""

import itertools
import math
import secrets
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from model_server.experiments import Assignment, team_draft
from model_server.items import ItemTable
from model_server.metrics import ServerMetrics
from model_server.ranking import Query, RankedItem, Ranking
from model_server.reasons import ReasonWriter, Shown
from model_server.rules.diversity import diversify
from model_server.rules.hard import UNCONSTRAINED, Constraints, allowed_mask, permits, permits_all
from model_server.settings import ServerSettings
from model_server.strategies import Strategy, StrategySet
from model_server.versions import VersionClock
from schemas.codes import code_of
from schemas.headers import Headers
from schemas.recommendations import Recommendation, RecommendedItem, Trigger


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One recommendation to make: for whom, why, for which moment and place, within which rules.

    ``since_ms`` is the wall time of the cause; ``source_offset`` is the user's last event that the ranker has learned from;
    ``trace`` is the trace context of the cause.
    """

    user_id: str
    trigger: Trigger
    since_ms: int
    k: int
    now_ms: int | None = None
    lat: float | None = None
    lon: float | None = None
    request_id: str | None = None
    constraints: Constraints = UNCONSTRAINED
    last_item: str = ""
    source_partition: int = -1
    source_offset: int = -1
    trace: Headers = msgspec.field(default_factory=list)


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A recommendation with the ranking that it was made from; ``chosen_by`` names an interleaved item's strategy each."""

    task: Task
    ranking: Ranking
    recommendation: Recommendation
    chosen_by: tuple[str, ...] = ()


class Recommender:
    """Makes recommendations in batches; an item that breaks a rule never gets through, whatever a model says."""

    FEW_EXCLUDED = 64
    CANDIDATES_PER_DIVERSE_ITEM = 3

    def __init__(
        self,
        settings: ServerSettings,
        items: ItemTable,
        strategies: StrategySet,
        reasons: ReasonWriter,
        versions: VersionClock,
        metrics: ServerMetrics,
    ) -> None:
        self._settings, self._items, self._strategies = settings, items, strategies
        self._reasons, self._versions, self._metrics = reasons, versions, metrics
        self._assignment = Assignment(settings.strategies)
        self._depth = self.CANDIDATES_PER_DIVERSE_ITEM if settings.diversity else 1
        self._run = secrets.token_hex(4)
        self._count = itertools.count()

    def make(self, tasks: Sequence[Task], wall_ms: int) -> list[Made]:
        """One recommendation per task, in order; empty only if no allowed item is known."""
        if self._settings.interleave:
            return self._interleaved(tasks, wall_ms)
        groups: dict[str, list[int]] = defaultdict(list)
        for index, task in enumerate(tasks):
            groups[self._assignment.of(task.user_id)].append(index)
        made: dict[int, Made] = {}
        for name, indexes in groups.items():
            strategy = self._strategies[name]
            group = [tasks[index] for index in indexes]
            rankings = self.rank(strategy, group)
            chosen = [self._chosen(strategy, task, ranking) for task, ranking in zip(group, rankings)]
            worded = self._worded(group, chosen, name, strategy.ranker.model_version, wall_ms)
            for index, task, ranking, recommendation in zip(indexes, group, rankings, worded):
                made[index] = Made(task=task, ranking=ranking, recommendation=recommendation)
        return [made[index] for index in range(len(tasks))]

    def rank(self, strategy: Strategy, tasks: Sequence[Task]) -> list[Ranking]:
        """What a strategy ranks for these tasks, before the rules have the last word."""
        return self._strategies.rank(strategy, [self._query(strategy, task) for task in tasks])

    def _interleaved(self, tasks: Sequence[Task], wall_ms: int) -> list[Made]:
        first, second = (self._strategies[name] for name in self._assignment.names[:2])
        name, version = f"{first.name}+{second.name}", f"{first.ranker.model_version}+{second.ranker.model_version}"
        rankings, chosen, teams = self.rank(first, tasks), [], []
        for task, a, b in zip(tasks, rankings, self.rank(second, tasks)):
            seed = code_of(f"{task.user_id}:{task.source_offset}")
            lists = self._chosen(first, task, a), self._chosen(second, task, b)
            items, credited = team_draft(*lists, task.k, seed)
            chosen.append(items)
            teams.append(tuple((first.name, second.name)[team] for team in credited))
        worded = self._worded(tasks, chosen, name, version, wall_ms)
        return [
            Made(task=task, ranking=ranking, recommendation=recommendation, chosen_by=chosen_by)
            for task, ranking, recommendation, chosen_by in zip(tasks, rankings, worded, teams)
        ]

    def _query(self, strategy: Strategy, task: Task) -> Query:
        constraints = task.constraints
        k, allowed = task.k * self._depth, None
        if constraints.selects or len(constraints.excluded) > self.FEW_EXCLUDED:
            mask = allowed_mask(self._items, constraints)
            allowed = strategy.rows.translate(mask, self._items, strategy.item_ids())
        else:
            k += len(constraints.excluded)
        return Query(user_id=task.user_id, k=k, now_ms=task.now_ms, lat=task.lat, lon=task.lon, allowed=allowed)

    def _chosen(self, strategy: Strategy, task: Task, ranking: Ranking) -> list[RankedItem]:
        chosen = self._permitted(strategy, task, ranking)
        if self._settings.diversity:
            chosen = diversify(self._items, chosen, task.k, self._settings.diversity)
        if len(chosen) < task.k:
            return self._fill(task, chosen)
        if ranking.fallback is not None:
            self._metrics.fallbacks.labels(ranking.fallback).inc()
        return chosen

    def _worded(
        self,
        tasks: Sequence[Task],
        chosen: Sequence[Sequence[RankedItem]],
        strategy: str,
        model_version: str,
        wall_ms: int,
    ) -> list[Recommendation]:
        shown = [Shown(task.user_id, task.last_item, items) for task, items in zip(tasks, chosen)]
        return [
            Recommendation(
                user_id=task.user_id,
                version=self._versions.next(wall_ms * 1000),
                request_id=task.request_id or f"{self._run}-{next(self._count):x}",
                generated_at_ms=wall_ms,
                trigger=task.trigger,
                model_version=model_version,
                strategy=strategy,
                expires_at_ms=wall_ms + int(self._settings.ttl_s * 1000),
                source_partition=task.source_partition,
                source_offset=task.source_offset,
                items=[
                    RecommendedItem(item_id=item.item_id, score=item.probability, reasons=why)
                    for item, why in zip(items, reasons)
                ],
                limited=task.constraints.selects,
            )
            for task, items, reasons in zip(tasks, chosen, self._reasons.write(shown))
        ]

    def _permitted(self, strategy: Strategy, task: Task, ranking: Ranking) -> list[RankedItem]:
        first = ranking.items[: task.k * self._depth]
        item_ids = {item.item_id for item in first}
        if (
            len(item_ids) == len(first)
            and permits_all(self._items, task.constraints, item_ids)
            and math.isfinite(sum([item.probability for item in first]))
        ):
            return first
        chosen: list[RankedItem] = []
        have: set[str] = set()
        for item in ranking.items:
            if not math.isfinite(item.probability):
                self._metrics.model_errors.labels(strategy.name, "not_finite").inc()
                return []
            if item.item_id not in have and permits(self._items, task.constraints, item.item_id):
                have.add(item.item_id)
                chosen.append(item)
                if len(chosen) == task.k * self._depth:
                    break
        return chosen

    def _fill(self, task: Task, chosen: list[RankedItem]) -> list[RankedItem]:
        have = {item.item_id for item in chosen}
        mask = allowed_mask(self._items, task.constraints)
        if len(have) >= mask.sum():
            return chosen
        query = Query(
            user_id=task.user_id, k=task.k + len(have), now_ms=task.now_ms, lat=task.lat, lon=task.lon, allowed=mask
        )
        ranking = self._strategies.fallback.rank([query])[0]
        self._metrics.fallbacks.labels(ranking.fallback or "personal").inc()
        least = min((item.probability for item in chosen), default=1.0)
        more = [
            msgspec.structs.replace(item, probability=min(item.probability, least))
            for item in ranking.items
            if item.item_id not in have
        ]
        return (chosen + more)[: task.k]
