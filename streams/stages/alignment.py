"""Rows of several origins in one order of event time, however far apart the origins are when a backlog is read.

A partition that is read quickly runs ahead of the others by days of event time; a window that followed it would have lost
the others' points before they come. So rows wait until no origin that still has a backlog can be older. An origin that has
caught up with its producers holds nobody back, so at live speed nothing waits longer than for the next batch of each origin.
"""

from collections.abc import Mapping

import numpy as np

from streams.stages.columns import Ints

UNHEARD_MS = -(2**62)
ALL_MS = 2**62
Rows = dict[str, np.ndarray]


class TimeAligner:
    """Holds rows back until their turn; at most ``max_held`` of them, then the oldest go first whoever is behind.

    The order in which rows come out is that of (time_ms, origin, origin_offset), whatever the order of the batches.
    """

    def __init__(self, origins: int, max_held: int = 200_000) -> None:
        self.max_held = max_held
        self._watermark_ms = np.full(origins, UNHEARD_MS, np.int64)
        self._caught_up = np.zeros(origins, np.bool_)
        self._held: Rows | None = None

    def __len__(self) -> int:
        return 0 if self._held is None else len(self._held["time_ms"])

    def hear(self, origin: int, watermark_ms: int, caught_up: bool) -> None:
        """An origin will send nothing older than ``watermark_ms`` any more, and has a backlog or not."""
        self._watermark_ms[origin] = max(int(self._watermark_ms[origin]), watermark_ms)
        self._caught_up[origin] = caught_up

    @property
    def complete_ms(self) -> int:
        """The event time before which everything that is known to be coming has come; more of that very time may come."""
        behind = self._watermark_ms[~self._caught_up]
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
        return {"watermark_ms": self._watermark_ms, "caught_up": self._caught_up.astype(np.int64)}, dict(
            self._held or {}
        )

    def load(self, origins: Mapping[str, Ints], held: Rows) -> None:
        """Become the aligner of ``state()``."""
        self._watermark_ms, self._caught_up = np.array(origins["watermark_ms"]), origins["caught_up"].astype(np.bool_)
        self._held = held or None
