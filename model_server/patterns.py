"""The latest version of every mined pattern, as tensors that the experts read."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from model_server.catalogue import Catalogue
from schemas.patterns import (
    ClusterUpdate,
    CoVisitUpdate,
    ForecastUpdate,
    Pattern,
    PeriodEstimate,
    PeriodicityUpdate,
    ProfileUpdate,
    SequenceUpdate,
    TransitionUpdate,
)

UNIT_SEPARATOR = "\x1f"  # between the user and the item of a period's entity


def pattern_key(pattern: Pattern) -> tuple[str, ...]:
    """What a later version of the pattern replaces: its kind and its key."""
    match pattern:
        case ClusterUpdate():
            return "cluster", pattern.cluster_id
        case CoVisitUpdate():
            return "covisit", pattern.item_id
        case PeriodicityUpdate():
            return "periodicity", pattern.entity_kind, pattern.entity
        case ForecastUpdate():
            return "forecast", pattern.entity_kind, pattern.entity
        case TransitionUpdate():
            return "transition", pattern.state_kind, pattern.from_state, pattern.user_id or ""
        case SequenceUpdate():
            return "sequence", pattern.state_kind, *pattern.states
        case ProfileUpdate():
            return "profile", pattern.user_id


def _matters(pattern: Pattern) -> bool:
    """Whether anybody reads the pattern, or is concerned by it."""
    match pattern:
        case TransitionUpdate():
            return pattern.state_kind == "item" and pattern.user_id is None
        case PeriodicityUpdate():
            return pattern.user_id is not None
        case ForecastUpdate() | SequenceUpdate():
            return False
        case _:
            return True


class RowLists:
    """For each catalogue row a short list of (row, weight), strongest first: tensors [rows, width]; row -1 is padding.

    >>> lists = RowLists(torch.device("cpu"), width=2)
    >>> lists.put(3, [1, 2, 5], [0.5, 0.3, 0.1])
    >>> lists.neighbours[3].tolist(), lists.read(torch.tensor([[3]]), torch.tensor([[2, 9]])).tolist()
    ([1, 2], [[0.30000001192092896, 0.0]])
    """

    def __init__(self, device: torch.device, width: int, capacity: int = 1024) -> None:
        self.width, self.device = width, device
        self.neighbours = torch.full((capacity, width), -1, dtype=torch.long, device=device)
        self.weights = torch.zeros((capacity, width), device=device)

    def put(self, row: int, neighbours: Sequence[int], weights: Sequence[float]) -> None:
        """Replace the list of one row; what exceeds the width is cut."""
        self.reserve(row + 1)
        held = min(len(neighbours), self.width)
        self.neighbours[row] = -1
        self.weights[row] = 0.0
        self.neighbours[row, :held] = torch.tensor(neighbours[:held], dtype=torch.long)
        self.weights[row, :held] = torch.tensor(weights[:held])

    def reserve(self, rows: int) -> None:
        """Make room for this many rows."""
        if rows > len(self.weights):
            more = max(rows, 2 * len(self.weights)) - len(self.weights)
            self.neighbours = torch.cat(
                (self.neighbours, torch.full((more, self.width), -1, dtype=torch.long, device=self.device))
            )
            self.weights = torch.cat((self.weights, torch.zeros((more, self.width), device=self.device)))

    def read(self, source: Tensor, target: Tensor, factor: Tensor | None = None, order: Tensor | None = None) -> Tensor:
        """Summed weights [n, m] of the targets int64[n, m] in the lists of the sources int64[n, s]; -1: none, with weight 0.

        A source's list counts ``factor`` [n, s] times. The targets of one row must be distinct (but for -1), or only one of
        equals counts.
        Who reads several lists for the same targets sorts them once: ``order`` is ``target.argsort(1)``.
        """
        listed = self.neighbours[source.clamp(min=0)].flatten(1)
        times = (source >= 0).float() if factor is None else factor * (source >= 0)
        weight = (self.weights[source.clamp(min=0)] * times[..., None]).flatten(1)
        order = torch.argsort(target, 1) if order is None else order
        ordered = target.gather(1, order)
        at = torch.searchsorted(ordered, listed).clamp(max=target.shape[1] - 1)
        weight = weight * ((ordered.gather(1, at) == listed) & (listed >= 0))
        summed = torch.zeros(target.shape, device=self.device).scatter_add_(1, at, weight)
        return torch.zeros_like(summed).scatter_(1, order, summed)

    def state(self) -> dict[str, Tensor]:
        """Both tensors."""
        return {"neighbours": self.neighbours.cpu().clone(), "weights": self.weights.cpu().clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take over what ``state`` gave; ValueError for another width."""
        if state["weights"].shape[1] != self.width:
            raise ValueError(f"lists of width {state['weights'].shape[1]} in the state, {self.width} here")
        self.neighbours, self.weights = (
            state["neighbours"].to(self.neighbours).clone(),
            state["weights"].to(self.weights).clone(),
        )


class PatternStore:
    """The last version of each pattern wins, in whatever order they come.

    What the experts read all the time (transitions and co-visits of items) is kept as tensors, crowds and the users' periods by
    key, of profiles the version alone (they say whom they concern), and of the rest nothing. Versions are kept of the latest
    ``max_patterns`` patterns; with that of a crowd or a period goes the pattern: it has not been told for so long.
    """

    def __init__(
        self, catalogue: Catalogue, device: torch.device, width: int = 32, max_patterns: int = 1_000_000
    ) -> None:
        self._catalogue, self._max_patterns = catalogue, max_patterns
        self._version: OrderedDict[tuple[str, ...], int] = OrderedDict()  # the longest untold first
        self.transitions = RowLists(device, width)
        self.covisits = RowLists(device, width)
        self.clusters: dict[str, ClusterUpdate] = {}
        self.periods_of_user: dict[str, dict[int, list[PeriodEstimate]]] = {}

    def __len__(self) -> int:
        return len(self._version)

    def apply(self, patterns: Iterable[Pattern]) -> list[Pattern]:
        """Take in those that are newer than what is known of their key; the ones taken, in order.

        Those that nobody reads and that concern nobody are taken every time.
        """
        taken = []
        for pattern in patterns:
            if _matters(pattern):
                key = pattern_key(pattern)
                if pattern.version <= self._version.get(key, -1):
                    continue
                self._version[key] = pattern.version
                self._version.move_to_end(key)
                self._take(pattern)
            taken.append(pattern)
        while len(self._version) > self._max_patterns:
            self._forget(*self._version.popitem(last=False)[0])
        self.reserve()
        return taken

    def _forget(self, kind: str, *key: str) -> None:
        if kind == "cluster":
            self.clusters.pop(key[0], None)
        elif kind == "periodicity" and key[0] == "user_item":
            user_id, _, item_id = key[1].partition(UNIT_SEPARATOR)
            self._put_periods(user_id, item_id, [])

    def _put_periods(self, user_id: str, item_id: str, periods: list[PeriodEstimate]) -> None:
        row = self._catalogue.rows_of([item_id])[0]
        held = self.periods_of_user.setdefault(user_id, {})
        held.pop(row, None)
        if periods:
            held[row] = periods
        if not held:
            del self.periods_of_user[user_id]

    def reserve(self) -> None:
        """Make room for the rows that the catalogue has by now."""
        self.transitions.reserve(len(self._catalogue))
        self.covisits.reserve(len(self._catalogue))

    def _take(self, pattern: Pattern) -> None:
        match pattern:
            case TransitionUpdate(state_kind="item", user_id=None):
                rows = self._catalogue.rows_of([pattern.from_state, *(s.name for s in pattern.next_states)])
                self.transitions.put(rows[0], rows[1:], [s.share for s in pattern.next_states])
            case CoVisitUpdate():
                rows = self._catalogue.rows_of([pattern.item_id, *(n.item_id for n in pattern.neighbours)])
                self.covisits.put(rows[0], rows[1:], [n.confidence for n in pattern.neighbours])
            case ClusterUpdate(change="died"):
                self.clusters.pop(pattern.cluster_id, None)
            case ClusterUpdate():
                self.clusters[pattern.cluster_id] = pattern
                if pattern.change == "merged" and pattern.related_cluster_id is not None:
                    self.clusters.pop(pattern.cluster_id, None)
            case PeriodicityUpdate(user_id=str(user_id), item_id=str(item_id)):
                self._put_periods(user_id, item_id, pattern.periods)
            case _:
                pass
