"""Rows of several origins in one order of event time, however far apart the origins are when a backlog is read.

A partition that is read quickly runs ahead of the others by days of event time; a window that followed it would have lost
the others' points before they come. So rows wait until every origin that still has a backlog has come as far. What an origin
itself sends out of order is not waited for: under load its backlog would keep everybody's rows for the allowed lateness. An
origin that has caught up with its producers holds nobody back, so at live speed nothing waits longer than for the next batch of
each origin.
"""

from collections.abc import Mapping

import numpy as np

from streams.stages.columns import Ints

UNHEARD_MS = -(2**62)
ALL_MS = 2**62
Rows = dict[str, np.ndarray]


class TimeAligner:
    """Holds rows back until their turn; at most ``max_held`` of them, then the oldest go first whoever is behind.

    Rows of origins that are in order themselves come out in that of (time_ms, origin, origin_offset), however they are batched.
    """

    def __init__(self, origins: int, max_held: int = 200_000) -> None:
        self.max_held = max_held
        self._clock_ms = np.full(origins, UNHEARD_MS, np.int64)
        self._caught_up = np.zeros(origins, np.bool_)
        self._held: Rows | None = None

    def __len__(self) -> int:
        return 0 if self._held is None else len(self._held["time_ms"])

    def hear(self, origin: int, clock_ms: int, caught_up: bool) -> None:
        """An origin has come as far as ``clock_ms``, and has a backlog or not."""
        self._clock_ms[origin] = max(int(self._clock_ms[origin]), clock_ms)
        self._caught_up[origin] = caught_up

    @property
    def complete_ms(self) -> int:
        """The event time up to which every origin with a backlog has come; more of that very time may come."""
        behind = self._clock_ms[~self._caught_up]
        return int(behind.min()) if len(behind) else ALL_MS

    def push(self, rows: Mapping[str, np.ndarray]) -> None:
        """Hold rows (columns time_ms, origin, origin_offset and any others)."""
        held = self._held
        self._held = dict(rows) if held is None else {
            name: np.concatenate([held[name], column]) for name, column in rows.items()
        }  # fmt: skip

    def release(self) -> Rows | None:
        """The rows whose turn it is, in order; None if there are none. O(held rows log held rows)."""
        if self._held is None:
            return None
        time_ms = self._held["time_ms"]
        order = np.lexsort((self._held["origin_offset"], self._held["origin"], time_ms))
        ready = int(np.searchsorted(time_ms[order], self.complete_ms, side="left"))
        ready = max(ready, len(order) - self.max_held)
        if not ready:
            return None
        released = {name: column[order[:ready]] for name, column in self._held.items()}
        self._held = (
            {name: column[order[ready:]] for name, column in self._held.items()} if ready < len(order) else None
        )
        return released

    def state(self) -> tuple[dict[str, Ints], Rows]:
        """The origins' arrays, and the held rows."""
        return {"clock_ms": self._clock_ms, "caught_up": self._caught_up.astype(np.int64)}, dict(self._held or {})

    def load(self, origins: Mapping[str, Ints], held: Rows) -> None:
        """Become the aligner of ``state()``."""
        clocks = origins["clock_ms" if "clock_ms" in origins else "watermark_ms"]  # what states of before held back by
        self._clock_ms, self._caught_up = np.array(clocks), origins["caught_up"].astype(np.bool_)
        self._held = held or None
