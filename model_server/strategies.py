"""The strategies that can be served, by name; what they are told, and that one's failure is never another's."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog
import torch

from model_server import compiled
from model_server.fusion.settings import FusionSettings
from model_server.fusion_ranker import FusionRanker
from model_server.items import ItemTable
from model_server.metrics import ServerMetrics
from model_server.ranking import LazyLearner, Measured, Query, Ranker, Ranking
from model_server.rules.fallback import FallbackRanker, FallbackSettings
from model_server.rules.hard import RowMap
from model_server.settings import ServerSettings
from model_server.training import TrainingBacklog
from schemas.events import BehaviorEvent, Item
from schemas.patterns import Pattern

log = structlog.get_logger(__name__)
STRATEGIES = ("fused", "popular")
ADMITTED_AT_ONCE = 256  # events: a step of learning takes so many, and nobody is ranked meanwhile


class Strategy(msgspec.Struct, frozen=True, kw_only=True):
    """A named ranker and how its rows are numbered."""

    name: str
    ranker: Ranker
    item_ids: Callable[[], Sequence[str]]
    rows: RowMap = msgspec.field(default_factory=RowMap)


def build_strategy(name: str, settings: ServerSettings) -> Strategy:
    """The strategy of this name, untrained. Raises ValueError naming the known ones if there is none."""
    if name == "fused":
        torch.set_num_threads(settings.torch_threads)
        compiled.warm_up()
        fusion = FusionRanker(
            FusionSettings(device=settings.device, sequence=settings.model_preset, seed=settings.seed),
            # Whoever has events that wait to be learned must not lose the slot that they name.
            max_users=max(settings.max_users, settings.most_untrained_events + 2 * settings.consume_batch),
        )
        return Strategy(name=name, ranker=fusion, item_ids=lambda: fusion.catalogue.item_ids)
    if name == "popular":
        popular = FallbackRanker(ItemTable(), FallbackSettings(max_users=settings.max_users))
        return Strategy(name=name, ranker=popular, item_ids=lambda: popular.item_ids)
    raise ValueError(f"unknown strategy {name!r}; known are {', '.join(STRATEGIES)}")


def asked_strategies(settings: ServerSettings) -> list[str]:
    """The names of the strategies that the settings ask for, served ones first, the shadow last, each once."""
    return list(dict.fromkeys([*settings.strategies, *([settings.shadow] if settings.shadow is not None else [])]))


def unknown_strategies(settings: ServerSettings) -> list[str]:
    """A sentence for each strategy that the settings name and nobody knows.

    >>> unknown_strategies(ServerSettings(redis=None, strategies={"fused": 1, "best": 1}))
    ["'best' is no strategy, known are fused, popular"]
    """
    unknown = sorted({*asked_strategies(settings)} - {*STRATEGIES})
    return [f"{name!r} is no strategy, known are {', '.join(STRATEGIES)}" for name in unknown]


def build_strategies(settings: ServerSettings, items: ItemTable, metrics: ServerMetrics) -> "StrategySet":
    """The served strategies, the shadow if there is one, and the fallback, which numbers items as ``items`` does."""

    def build() -> tuple[FallbackRanker, list[Strategy]]:
        fallback = FallbackRanker(items, FallbackSettings(max_users=settings.max_users))
        return fallback, [build_strategy(name, settings) for name in asked_strategies(settings)]

    return StrategySet(build, metrics, settings.most_untrained_events)


class StrategySet:
    """All strategies of an instance, served or shadow, and the fallback that answers when one of them cannot.

    A batch that makes a strategy fail is given to it again one element at a time: a bad one spoils only itself.
    """

    def __init__(
        self,
        build: Callable[[], tuple[FallbackRanker, list[Strategy]]],
        metrics: ServerMetrics,
        most_untrained: int = 2_048,
    ) -> None:
        self._build, self._metrics, self._most_untrained = build, metrics, most_untrained
        self.rebuild()

    def rebuild(self) -> None:
        """Start again with untrained strategies."""
        self.fallback, strategies = self._build()
        self._by_name = {strategy.name: strategy for strategy in strategies}
        self._backlogs = {
            strategy.name: TrainingBacklog(strategy.ranker, self._most_untrained)
            for strategy in strategies
            if isinstance(strategy.ranker, LazyLearner)
        }

    def __getitem__(self, name: str) -> Strategy:
        return self._by_name[name]

    def __iter__(self) -> Iterator[Strategy]:
        return iter(self._by_name.values())

    def observe(self, events: Sequence[BehaviorEvent]) -> None:
        """Every strategy knows these events from now on; one that can put off learning from them does."""
        self.fallback.observe(events)
        now_s = time.monotonic()
        for strategy in self:
            backlog = self._backlogs.get(strategy.name)
            if backlog is None:
                self._guarded(strategy, "observe", strategy.ranker.observe, events)
                continue
            for start in range(0, len(events), ADMITTED_AT_ONCE):
                some = events[start : start + ADMITTED_AT_ONCE]
                for untrained in self._guarded(strategy, "admit", partial(backlog.admit, now_s=now_s), some):
                    self._metrics.untrained.labels(strategy.name).inc(untrained)

    def learning_due(self) -> bool:
        """Whether a strategy has something to learn now."""
        now_s = time.monotonic()
        return any(backlog.due(now_s) for backlog in self._backlogs.values())

    def midway(self) -> bool:
        """Whether a strategy has begun a block and not ended it."""
        return any(backlog.midway for backlog in self._backlogs.values())

    def learn_step(self, begin: bool = True) -> None:
        """One step of learning of each strategy that has something to learn; without ``begin`` no new block is begun."""
        now_s = time.monotonic()
        for name, backlog in self._backlogs.items():
            if backlog.midway or (begin and backlog.due(now_s)):
                with self._metrics.learn_step_seconds.time():
                    try:
                        backlog.step()
                    except Exception:
                        self._failed(self._by_name[name], "learn")

    def finish_learning(self) -> None:
        """Bring every strategy to a state that holds all events: what waits to be learned is only counted."""
        for name, backlog in self._backlogs.items():
            try:
                self._metrics.untrained.labels(name).inc(backlog.finish())
            except Exception:
                self._failed(self._by_name[name], "learn")

    def measure(self) -> None:
        """Put into the metrics how the strategies do, how much they hold, and what they take of the GPU."""
        for strategy in self:
            if isinstance(strategy.ranker, Measured):
                self._metrics.note_model(strategy.name, strategy.ranker.losses(), strategy.ranker.sizes())
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            self._metrics.gpu_bytes.labels("tensors").set(torch.cuda.memory_allocated())
            self._metrics.gpu_bytes.labels("held").set(torch.cuda.memory_reserved())

    def upsert_items(self, items: Sequence[Item]) -> None:
        """Every strategy admits or changes these items."""
        self.fallback.upsert_items(items)
        for strategy in self:
            self._guarded(strategy, "upsert_items", strategy.ranker.upsert_items, items)

    def apply_patterns(self, patterns: Sequence[Pattern]) -> set[str]:
        """Every strategy takes in these patterns; the users that they concern, by any strategy's account."""
        concerned = self.fallback.apply_patterns(patterns)
        for strategy in self:
            for users in self._guarded(strategy, "apply_patterns", strategy.ranker.apply_patterns, patterns):
                concerned = concerned | users
        return concerned

    def rank(self, strategy: Strategy, queries: Sequence[Query]) -> list[Ranking]:
        """One ranking per query, in order; an empty one for a query that the strategy cannot answer."""
        try:
            return strategy.ranker.rank(queries)
        except Exception:
            self._failed(strategy, "rank")
        return [self._rank_alone(strategy, query) for query in queries]

    def state(self) -> dict[str, Any]:
        """What every strategy and the fallback have learned."""
        return {
            "fallback": self.fallback.state(),
            "by_name": {strategy.name: strategy.ranker.state() for strategy in self},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave. Raises what a ranker raises if it does not fit; ``rebuild`` then."""
        self.fallback.load_state(state["fallback"])
        for strategy in self:
            strategy.ranker.load_state(state["by_name"][strategy.name])

    def _rank_alone(self, strategy: Strategy, query: Query) -> Ranking:
        try:
            return strategy.ranker.rank([query])[0]
        except Exception:
            self._failed(strategy, "rank")
            return Ranking(user_id=query.user_id, items=[], explore_probability=1.0)

    def _guarded(
        self, strategy: Strategy, call: str, function: Callable[[Any], Any], batch: Sequence[Any]
    ) -> list[Any]:
        try:
            return [function(batch)]
        except Exception:
            self._failed(strategy, call)
        results = []
        for element in batch:
            try:
                results.append(function([element]))
            except Exception:
                self._failed(strategy, call)
        return results

    def _failed(self, strategy: Strategy, call: str) -> None:
        self._metrics.model_errors.labels(strategy.name, call).inc()
        log.exception("a strategy failed", strategy=strategy.name, call=call)
