"""The seam between what is served and what is learned: queries go in, ranked items with their experts' shares come out."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.events import BehaviorEvent, Item
from schemas.patterns import Pattern

Shares = npt.NDArray[np.floating[Any]]
NO_SHARES: Shares = np.zeros(0, np.float32)
ONE_SHARE: Shares = np.ones(1, np.float32)  # of the only expert that had a say


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Rank for this user.

    Without ``now_ms`` the ranking is the standing one, as of the user's last event (it must not depend on any later time);
    with it the time (and the place, if given) of the answer is known. ``allowed`` is a mask over catalogue rows (bool[rows],
    None: all rows); rows beyond its length are not allowed.
    """

    user_id: str
    k: int = 10
    now_ms: int | None = None
    lat: float | None = None
    lon: float | None = None
    allowed: npt.NDArray[np.bool_] | None = None


class RankedItem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One item, its catalogue row, its probability of being the next one, and what it owes to whom.

    ``shares`` (float [len(experts)]) is how much each of the ``experts`` gave, in log-odds units. Items of one ranking share
    the tuple and are lines of one matrix: a dictionary for each would cost more than ranking it.
    """

    item_id: str
    row: int
    probability: float
    experts: tuple[str, ...] = ()
    shares: Shares = NO_SHARES


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """The best allowed items of one query, most probable first; ``explore_probability`` is the gate's."""

    user_id: str
    items: list[RankedItem]
    explore_probability: float
    fallback: str | None = None


class Ranker(Protocol):
    """What a served strategy can do. No I/O, no clock; one thread at a time."""

    model_version: str

    def observe(self, events: Sequence[BehaviorEvent]) -> None:
        """Test, then train on each event in order, then remember it. Events are valid and ordered per user."""

    def upsert_items(self, items: Sequence[Item]) -> None:
        """Admit or change catalogue items (available=False withdraws one)."""

    def apply_patterns(self, patterns: Sequence[Pattern]) -> set[str]:
        """Take in pattern updates (the last version of a key wins); the ids of the users that they concern."""

    def rank(self, queries: Sequence[Query]) -> list[Ranking]:
        """One ranking per query, in order; never empty while an allowed item is known."""

    def state(self) -> dict[str, object]:
        """Everything learned and remembered, as tensors, numpy arrays and plain values (safe to load weights-only)."""

    def load_state(self, state: dict[str, object]) -> None:
        """Take over what ``state`` gave; ValueError if it does not fit these settings."""


@runtime_checkable
class Measured(Protocol):
    """A ranker that says how it does and how much it holds; both are asked for several times a second."""

    def losses(self) -> dict[str, float]:
        """By part the loss on new events before they were learned (moving mean, nats); parts that have learned something."""

    def sizes(self) -> dict[str, int]:
        """How much is held, by kind. O(1)."""


@runtime_checkable
class LazyLearner(Protocol):
    """A ranker whose learning can wait until nobody else does: it then gets whole blocks, and pauses between their steps."""

    def admit(self, events: Sequence[BehaviorEvent]) -> Any:
        """Remember the events, so that rankings know them at once; ``learning`` must follow, in the same order."""

    def learning(self, admitted: Sequence[Any], train: bool) -> Iterator[None]:
        """Test, then train on what was admitted, with a pause after each step; without ``train`` it is only counted."""
