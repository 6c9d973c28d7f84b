"""The strategies that can be served, by name, and which of them serves whom."""

from collections.abc import Callable, Sequence

import msgspec
import torch

from model_server.fusion_ranker import FusionRanker, FusionSettings
from model_server.items import ItemTable
from model_server.ranking import Ranker
from model_server.rules.fallback import FallbackRanker
from model_server.rules.hard import RowMap
from model_server.settings import ServerSettings
from schemas.codes import code_of


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
        popular = FallbackRanker(ItemTable())
        return Strategy(name=name, ranker=popular, item_ids=lambda: popular.item_ids)
    raise ValueError(f"unknown strategy {name!r}: use fused or popular")


class Assignment:
    """Which strategy serves a user: by a hash of the user, so the same on every instance and after every restart.

    >>> assignment = Assignment({"a": 1.0, "b": 3.0})
    >>> served = [assignment.of(f"user-{n}") for n in range(1000)]
    >>> 200 < served.count("a") < 300
    True
    """

    def __init__(self, shares: dict[str, float]) -> None:
        total = sum(shares.values())
        self.names = list(shares)
        self._until: list[tuple[float, str]] = []
        reached = 0.0
        for name, share in shares.items():
            reached += share / total
            self._until.append((reached, name))

    def of(self, user_id: str) -> str:
        """The name of the user's strategy. O(strategies)."""
        if len(self._until) == 1:
            return self._until[0][1]
        point = code_of("strategy:" + user_id) / 2**63
        return next((name for until, name in self._until if point < until), self._until[-1][1])
