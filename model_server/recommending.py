"""From users to refresh to recommendations: rank by strategy, keep the rules, fill up, say why."""

import itertools
import math
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec
import structlog

from model_server.items import ItemTable
from model_server.metrics import ServerMetrics
from model_server.ranking import Query, RankedItem, Ranking
from model_server.reasons import ReasonWriter
from model_server.rules.fallback import FallbackRanker
from model_server.rules.hard import UNCONSTRAINED, Constraints, allowed_mask, permits
from model_server.settings import ServerSettings
from model_server.strategies import Assignment, Strategy
from model_server.versions import VersionClock
from schemas.recommendations import Recommendation, RecommendedItem, Trigger

log = structlog.get_logger(__name__)


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One recommendation to make: for whom, why, for which moment and place, within which rules.

    ``since_ms`` is the wall time of the cause; ``source_offset`` is the user's last event that the ranker has learned from.
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


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A recommendation with the ranking that it was made from."""

    task: Task
    ranking: Ranking
    recommendation: Recommendation


class Recommender:
    """Makes recommendations in batches; an item that breaks a rule never gets through, whatever a model says."""

    FEW_EXCLUDED = 64

    def __init__(
        self,
        settings: ServerSettings,
        items: ItemTable,
        strategies: Mapping[str, Strategy],
        fallback: FallbackRanker,
        reasons: ReasonWriter,
        versions: VersionClock,
        metrics: ServerMetrics,
    ) -> None:
        self._settings, self._items, self._strategies, self._fallback = settings, items, strategies, fallback
        self._reasons, self._versions, self._metrics = reasons, versions, metrics
        self._assignment = Assignment(settings.strategies)
        self._run = secrets.token_hex(4)
        self._count = itertools.count()

    def make(self, tasks: Sequence[Task], wall_ms: int) -> list[Made]:
        """One recommendation per task, in order; empty only if no allowed item is known."""
        groups: dict[str, list[int]] = defaultdict(list)
        for index, task in enumerate(tasks):
            groups[self._assignment.of(task.user_id)].append(index)
        made: dict[int, Made] = {}
        for name, indexes in groups.items():
            strategy = self._strategies[name]
            group = [tasks[index] for index in indexes]
            for index, task, ranking in zip(indexes, group, self._rank(strategy, group)):
                made[index] = self._finish(strategy, task, ranking, wall_ms)
        return [made[index] for index in range(len(tasks))]

    def _rank(self, strategy: Strategy, tasks: Sequence[Task]) -> list[Ranking]:
        queries = [self._query(strategy, task) for task in tasks]
        try:
            rankings = strategy.ranker.rank(queries)
        except Exception:
            self._metrics.model_errors.labels(strategy.name, "rank").inc()
            log.exception("ranking a batch failed, trying its users one by one", strategy=strategy.name)
            return [self._rank_alone(strategy, query) for query in queries]
        return rankings

    def _rank_alone(self, strategy: Strategy, query: Query) -> Ranking:
        try:
            return strategy.ranker.rank([query])[0]
        except Exception:
            self._metrics.model_errors.labels(strategy.name, "rank").inc()
            return Ranking(user_id=query.user_id, items=[], explore_probability=1.0)

    def _query(self, strategy: Strategy, task: Task) -> Query:
        constraints = task.constraints
        k, allowed = task.k, None
        if constraints.selects or len(constraints.excluded) > self.FEW_EXCLUDED:
            mask = allowed_mask(self._items, constraints)
            allowed = strategy.rows.translate(mask, self._items, strategy.item_ids())
        else:
            k += len(constraints.excluded)
        return Query(user_id=task.user_id, k=k, now_ms=task.now_ms, lat=task.lat, lon=task.lon, allowed=allowed)

    def _finish(self, strategy: Strategy, task: Task, ranking: Ranking, wall_ms: int) -> Made:
        chosen = self._permitted(strategy, task, ranking)
        if len(chosen) < task.k:
            chosen = self._fill(task, chosen)
        elif ranking.fallback is not None:
            self._metrics.fallbacks.labels(ranking.fallback).inc()
        recommendation = Recommendation(
            user_id=task.user_id,
            version=self._versions.next(wall_ms * 1000),
            request_id=task.request_id or f"{self._run}-{next(self._count):x}",
            generated_at_ms=wall_ms,
            trigger=task.trigger,
            model_version=strategy.ranker.model_version,
            strategy=strategy.name,
            expires_at_ms=wall_ms + int(self._settings.ttl_s * 1000),
            source_partition=task.source_partition,
            source_offset=task.source_offset,
            items=[
                RecommendedItem(
                    item_id=item.item_id,
                    score=item.probability,
                    reasons=self._reasons.write(task.user_id, item, task.last_item),
                )
                for item in chosen
            ],
        )
        return Made(task=task, ranking=ranking, recommendation=recommendation)

    def _permitted(self, strategy: Strategy, task: Task, ranking: Ranking) -> list[RankedItem]:
        chosen: list[RankedItem] = []
        for item in ranking.items:
            if not math.isfinite(item.probability):
                self._metrics.model_errors.labels(strategy.name, "not_finite").inc()
                return []
            if permits(self._items, task.constraints, item.item_id):
                chosen.append(item)
                if len(chosen) == task.k:
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
        ranking = self._fallback.rank([query])[0]
        self._metrics.fallbacks.labels(ranking.fallback or "personal").inc()
        least = min((item.probability for item in chosen), default=1.0)
        more = [
            msgspec.structs.replace(item, probability=min(item.probability, least))
            for item in ranking.items
            if item.item_id not in have
        ]
        return (chosen + more)[: task.k]
