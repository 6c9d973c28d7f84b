"""Event times in, regular counts out: one number per key and bin, in event time."""

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from processors.temporal.arrays import Ints
from processors.temporal.bank import checked_events

# Keys remembered that have not had enough events, for each that may be live.
_NEWCOMERS_PER_KEY = 64


class ClosedBin(NamedTuple):
    """The counts of all live keys in [start_s, start_s + bin_s); a live key without events counts 0."""

    start_s: float
    keys: Ints
    counts: Ints


class _State(msgspec.Struct, frozen=True, array_like=True):
    bin_s: float
    lateness_s: float
    idle_bins: int
    max_keys: int
    next_bin: int | None
    latest_s: float
    open: dict[int, dict[int, int]]
    last_active: dict[int, int]
    late_events: int
    evicted_keys: int
    min_events: int
    newcomers: dict[int, tuple[int, int]]


class CountBins:
    """Counts events per key in bins of `bin_s` seconds that are aligned with the epoch.

    A bin is closed when the latest event time seen lies `lateness_s` past its end; an event for a closed bin is counted
    in `late_events` and otherwise ignored. A key is live from the bin in which it has had `min_events` events, in at most
    `idle_bins` bins, until it has been silent for `idle_bins` bins; beyond `max_keys` the longest silent go
    (`evicted_keys`). O(1) per event, O(live keys) per closed bin.

    >>> bins = CountBins(bin_s=60.0)
    >>> for closed in bins.update([1, 1, 2, 1], [0.0, 59.0, 61.0, 185.0]):
    ...     print(closed.start_s, closed.keys.tolist(), closed.counts.tolist())
    0.0 [1] [2]
    60.0 [1, 2] [0, 1]
    120.0 [1, 2] [0, 0]
    """

    def __init__(
        self,
        bin_s: float = 3600.0,
        lateness_s: float = 0.0,
        idle_bins: int = 24 * 28,
        max_keys: int = 10_000,
        min_events: int = 1,
    ) -> None:
        for name, is_fine in (
            ("bin_s", 0 < bin_s < float("inf")),
            ("lateness_s", 0 <= lateness_s < float("inf")),
            ("idle_bins", idle_bins >= 1),
            ("max_keys", max_keys >= 1),
            ("min_events", min_events >= 1),
        ):
            if not is_fine:
                raise ValueError(f"{name} is out of range")
        self.bin_s, self.lateness_s, self.idle_bins, self.max_keys = bin_s, lateness_s, idle_bins, max_keys
        self.min_events = min_events
        self.late_events = 0
        self.evicted_keys = 0
        self._next_bin: int | None = None
        self._latest_s = 0.0
        self._open: dict[int, dict[int, int]] = {}
        self._last_active: dict[int, int] = {}
        # The bin of the first event and the number of events of keys that have not had enough.
        self._newcomers: dict[int, tuple[int, int]] = {}

    def update(self, keys: npt.ArrayLike, time_s: npt.ArrayLike) -> list[ClosedBin]:
        """Count events (keys int64[n], time_s float64[n]); returns the bins that they close, oldest first.

        Raises:
            TypeError, ValueError: as `PeriodicityBank.update`; nothing is counted then.
        """
        keys, time_s = checked_events(keys, time_s)
        if not len(keys):
            return []
        bins = np.floor(time_s / self.bin_s).astype(np.int64)
        if self._next_bin is None:
            self._next_bin = int(bins.min())
        in_time = bins >= self._next_bin
        self.late_events += int(len(keys) - in_time.sum())
        pairs, counts = np.unique(np.stack([bins[in_time], keys[in_time]]), axis=1, return_counts=True)
        for bin_index, key, count in zip(pairs[0].tolist(), pairs[1].tolist(), counts.tolist()):
            in_bin = self._open.setdefault(bin_index, {})
            in_bin[key] = in_bin.get(key, 0) + count
        self._latest_s = max(self._latest_s, float(time_s.max()))
        return self._closed()

    def _closed(self) -> list[ClosedBin]:
        end = int(np.floor((self._latest_s - self.lateness_s) / self.bin_s))
        closed = []
        while self._next_bin is not None and self._next_bin < end:
            if not self._last_active:
                # Nobody is live: nothing to tell before the next bin with an event.
                self._next_bin = min([end, *(bin_index for bin_index in self._open if bin_index < end)])
                if self._next_bin == end:
                    break
            closed.append(self._close(self._next_bin))
            self._next_bin += 1
        return [one for one in closed if len(one.keys)]

    def _close(self, bin_index: int) -> ClosedBin:
        counts = self._open.pop(bin_index, {})
        for key, count in counts.items():
            if key in self._last_active or self._is_admitted(key, count, bin_index):
                self._last_active[key] = bin_index
        self._forget_newcomers(bin_index)
        silent = [key for key, last in self._last_active.items() if bin_index - last > self.idle_bins]
        for key in silent:
            del self._last_active[key]
        excess = len(self._last_active) - self.max_keys
        if excess > 0:
            by_silence = sorted(self._last_active, key=lambda key: (self._last_active[key], counts.get(key, 0), key))
            for key in by_silence[:excess]:
                del self._last_active[key]
            self.evicted_keys += excess
        live = np.sort(np.fromiter(self._last_active, np.int64, len(self._last_active)))
        values = np.fromiter((counts.get(key, 0) for key in live.tolist()), np.int64, len(live))
        return ClosedBin(bin_index * self.bin_s, live, values)

    def _is_admitted(self, key: int, count: int, bin_index: int) -> bool:
        first, events = self._newcomers.pop(key, (bin_index, 0))
        if bin_index - first > self.idle_bins:
            first, events = bin_index, 0
        if events + count >= self.min_events:
            return True
        self._newcomers[key] = first, events + count
        return False

    def _forget_newcomers(self, bin_index: int) -> None:
        if len(self._newcomers) <= _NEWCOMERS_PER_KEY * self.max_keys:
            return
        fresh = {key: own for key, own in self._newcomers.items() if bin_index - own[0] <= self.idle_bins}
        by_promise = sorted(fresh, key=lambda key: (-fresh[key][1], -fresh[key][0], key))
        kept = by_promise[: _NEWCOMERS_PER_KEY * self.max_keys // 2]
        self._newcomers = {key: fresh[key] for key in kept}

    def to_bytes(self) -> bytes:
        """Settings and state."""
        return msgspec.msgpack.encode(
            _State(
                self.bin_s,
                self.lateness_s,
                self.idle_bins,
                self.max_keys,
                self._next_bin,
                self._latest_s,
                self._open,
                self._last_active,
                self.late_events,
                self.evicted_keys,
                self.min_events,
                self._newcomers,
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "CountBins":
        """Bins from `to_bytes`.

        Raises:
            ValueError: not the state of bins.
        """
        try:
            state = msgspec.msgpack.decode(data, type=_State)
        except msgspec.MsgspecError as error:
            raise ValueError(f"data cannot be decoded: {error}") from error
        bins = cls(state.bin_s, state.lateness_s, state.idle_bins, state.max_keys, state.min_events)
        bins._next_bin, bins._latest_s = state.next_bin, state.latest_s
        bins._open, bins._last_active = state.open, state.last_active
        bins._newcomers = state.newcomers
        bins.late_events, bins.evicted_keys = state.late_events, state.evicted_keys
        return bins
