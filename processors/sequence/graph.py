"""Which items, or places, belong together: a decayed co-occurrence graph and walks on it."""

from __future__ import annotations

from typing import Any

import numpy as np

from processors.payload import decode_payload, encode_payload
from processors.sequence.columns import Floats, Ints
from processors.sequence.recent import RecentStates
from processors.sequence.sessions import steps_back
from processors.sequence.settings import DAY_S
from processors.sequence.transition_counts import TransitionCounts
from processors.sequence.walks import walk

_FORMAT = "chronotope.behaviour_graph.1"


class BehaviourGraph:
    """An undirected graph of states (items, or places) whose edges are decayed co-occurrences within a session.

    An event is joined to each of its user's ``depth`` latest different states in the same session, with weight
    1 / steps back. Rows are those of :class:`TransitionCounts`: exact until a bound is reached, then Space-Saving.
    O(depth) per event.

    Args:
        gap_s: the longest pause within a session.
        depth: how many steps back an event is joined to.
        half_life_s: seconds after which a co-occurrence counts half.
        max_neighbours, max_nodes, max_edges: the bounds; an edge is held from both its ends.
        max_users: users whose last states are remembered.

    Example:
        >>> graph = BehaviourGraph()
        >>> graph.update([1, 1, 2, 2, 2], [10, 11, 10, 11, 12], [0.0, 1.0, 2.0, 3.0, 4.0])
        >>> graph.neighbours(10, time_s=4.0)[0].tolist()
        [11, 12]
        >>> graph.similar([12], k=2)[0].tolist()
        [11, 10]
    """

    def __init__(
        self,
        gap_s: float = 1800.0,
        depth: int = 5,
        half_life_s: float = 30 * DAY_S,
        max_neighbours: int = 256,
        max_nodes: int = 1 << 18,
        max_edges: int = 1 << 22,
        max_users: int = 1 << 20,
    ) -> None:
        self._recent = RecentStates(depth, gap_s, max_users)
        self._edges = TransitionCounts(
            half_life_s=half_life_s,
            max_states_per_context=max_neighbours,
            max_contexts=max_nodes,
            max_transitions=max_edges,
            max_states=max_nodes,
        )

    @property
    def edges(self) -> TransitionCounts:
        """The rows: ``count(a, b, time_s)`` is the weight of the edge between a and b."""
        return self._edges

    def update(self, users: Any, states: Any, time_s: Any, sessions: Any = None) -> None:
        """Join each event to what its user met just before.

        Args:
            users, states: int64[n].
            time_s: float64[n], each user's events in order; a late one joins nothing.
            sessions: int64[n] or None, session ids.

        Raises:
            TypeError, ValueError: as :meth:`RecentStates.update`; nothing has changed.
        """
        before, _, _ = self._recent.update(users, states, time_s, sessions)
        earlier, later, times, weights = steps_back(before, states, time_s, distinct=True)
        ends = np.stack([earlier, later], axis=1)
        both = np.repeat(times, 2), np.repeat(weights, 2)
        self._edges.update(ends.ravel(), ends[:, ::-1].ravel(), both[0], weights=both[1])

    def neighbours(self, state: int, time_s: float, k: int = 10) -> tuple[Ints, Floats]:
        """The ``k`` states that co-occur most with ``state`` and their decayed co-occurrences, heaviest first."""
        states, weights = self._edges.counts_of(int(state), time_s)
        return states[:k], weights[:k]

    def similar(
        self,
        states: Any,
        k: int = 10,
        *,
        weights: Any = None,
        restart: float = 0.3,
        steps: int = 4,
        width: int = 256,
    ) -> tuple[Ints, Floats]:
        """The ``k`` states nearest to a set of states by random walks with restart (personalised PageRank).

        The walk is cut off after ``steps`` steps and carries the ``width`` heaviest states of each, so the work is
        bounded and the result the same every time; all counts of a row decay alike, so it needs no time. The given states
        are not among the answers.

        Args:
            states: int64[m], where the walks start.
            weights: float64[m] or None: how often they start there.
            restart: the probability to stop at a state, in (0, 1).
            steps, width: the bounds.

        Raises:
            ValueError: an argument is out of range.
        """
        starts = np.ascontiguousarray(states, np.int64).ravel()
        shares = np.ones(len(starts)) if weights is None else np.ascontiguousarray(weights, np.float64).ravel()
        if shares.shape != starts.shape or not ((shares > 0) & np.isfinite(shares)).all():
            raise ValueError("weights must be positive, one for each of states")
        if not 0 < restart < 1:
            raise ValueError(f"restart must lie in (0, 1), got {restart}")
        if steps < 1 or width < 1 or k < 1:
            raise ValueError(f"steps, width and k must be at least 1, got {steps}, {width}, {k}")
        found, mass = walk(self._edges.tables, starts, shares / max(shares.sum(), 1e-300), restart, steps, width)
        others = ~np.isin(found, starts)
        return found[others][:k], mass[others][:k]

    @property
    def nbytes(self) -> int:
        return self._recent.nbytes + self._edges.nbytes

    def to_bytes(self) -> bytes:
        """The whole graph; :meth:`from_bytes` goes on exactly like this one."""
        return encode_payload(_FORMAT, {"recent": self._recent.to_bytes(), "edges": self._edges.to_bytes()})

    @classmethod
    def from_bytes(cls, payload: bytes) -> BehaviourGraph:
        """The graph of :meth:`to_bytes`. Raises ValueError for any other payload."""
        parts = decode_payload(_FORMAT, payload)
        graph = cls()
        graph._recent = RecentStates.from_bytes(parts["recent"])
        graph._edges = TransitionCounts.from_bytes(parts["edges"])
        return graph
