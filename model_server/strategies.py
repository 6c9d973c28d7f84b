"""The strategies that can be served, by name; what they are told, and that one's failure is never another's."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import structlog
import torch

from model_server.fusion_ranker import FusionRanker, FusionSettings
from model_server.items import ItemTable
from model_server.metrics import ServerMetrics
from model_server.ranking import Query, Ranker, Ranking
from model_server.rules.fallback import FallbackRanker, FallbackSettings
from model_server.rules.hard import RowMap
from model_server.settings import ServerSettings
from schemas.events import BehaviorEvent, Item
from schemas.patterns import Pattern

log = structlog.get_logger(__name__)
STRATEGIES = ("fused", "popular")


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
        fusion = FusionRanker(FusionSettings(device=settings.device))
        return Strategy(name=name, ranker=fusion, item_ids=lambda: fusion.catalogue.item_ids)
    if name == "popular":
        popular = FallbackRanker(ItemTable(), FallbackSettings(max_users=settings.max_users))
        return Strategy(name=name, ranker=popular, item_ids=lambda: popular.item_ids)
    raise ValueError(f"unknown strategy {name!r}; known are {', '.join(STRATEGIES)}")


def build_strategies(settings: ServerSettings, items: ItemTable, metrics: ServerMetrics) -> "StrategySet":
    """The served strategies, the shadow if there is one, and the fallback, which numbers items as ``items`` does."""
    names = dict.fromkeys([*settings.strategies, *([settings.shadow] if settings.shadow is not None else [])])

    def build() -> tuple[FallbackRanker, list[Strategy]]:
        fallback = FallbackRanker(items, FallbackSettings(max_users=settings.max_users))
        return fallback, [build_strategy(name, settings) for name in names]

    return StrategySet(build, metrics)


class StrategySet:
    """All strategies of an instance, served or shadow, and the fallback that answers when one of them cannot.

    A batch that makes a strategy fail is given to it again one element at a time: a bad one spoils only itself.
    """

    def __init__(self, build: Callable[[], tuple[FallbackRanker, list[Strategy]]], metrics: ServerMetrics) -> None:
        self._build, self._metrics = build, metrics
        self.rebuild()

    def rebuild(self) -> None:
        """Start again with untrained strategies."""
        self.fallback, strategies = self._build()
        self._by_name = {strategy.name: strategy for strategy in strategies}

    def __getitem__(self, name: str) -> Strategy:
        return self._by_name[name]

    def __iter__(self) -> Iterator[Strategy]:
        return iter(self._by_name.values())

    def observe(self, events: Sequence[BehaviorEvent]) -> None:
        """Every strategy learns from these events."""
        self.fallback.observe(events)
        for strategy in self:
            self._guarded(strategy, "observe", strategy.ranker.observe, events)

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
