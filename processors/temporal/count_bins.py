"""Event times in, regular counts out: one number per key and bin, in event time."""

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from processors.temporal.arrays import Floats, Ints
from processors.temporal.bank import checked_events

# Keys remembered that have not had enough events, for each that may be live.
_NEWCOMERS_PER_KEY = 64
# Events of an open bin that are kept as they came; more are added up.
_MAX_RAW = 1 << 16


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
    min_events: int
    next_bin: int | None
    latest_s: float
    open: dict[int, tuple[bytes, bytes]]
    live: tuple[bytes, bytes, bytes]
    newcomers: dict[int, tuple[int, int]]
    late_events: int
    evicted_keys: int


class _OpenBin:
    """Events per key of a bin that is not closed."""

    def __init__(self, keys: Ints, counts: Ints) -> None:
        self._keys, self._counts = keys, counts
        self._raw: list[Ints] = []
        self._n_raw = 0

    def add(self, keys: Ints) -> None:
        """Count an event of each key. O(log) per event, amortised."""
        self._raw.append(keys)
        self._n_raw += len(keys)
        if self._n_raw > max(_MAX_RAW, len(self._keys)):
            self.totals()

    def totals(self) -> tuple[Ints, Ints]:
        """Keys in order, and the events of each."""
        if self._raw:
            keys, counts = np.unique(np.concatenate(self._raw), return_counts=True)
            if len(self._keys):
                merged = np.union1d(self._keys, keys)
                counts = _counts_of(merged, self._keys, self._counts) + _counts_of(merged, keys, counts)
                keys = merged
            self._keys, self._counts, self._raw, self._n_raw = keys, counts, [], 0
        return self._keys, self._counts


class _Live(NamedTuple):
    """The live keys in order, the last bin in which each had an event, and its decayed number of events."""

    keys: Ints
    last_bin: Ints
    level: Floats


class CountBins:
    """Counts events per key in bins of `bin_s` seconds that are aligned with the epoch.

    A bin is closed when the latest event time seen lies `lateness_s` past its end; an event for a closed bin is counted
    in `late_events` and otherwise ignored. A key is live from the bin in which it has had `min_events` events, in at most
    `idle_bins` bins, until it has been silent for `idle_bins` bins. At most `max_keys` are live: beyond, the busiest are,
    by their events with a memory of `idle_bins` bins, and whoever has to go is counted in `evicted_keys`. The order of the
    events decides what happens, and not how they are cut into batches. O(log) per event, O(live keys) per closed bin.

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
        self._open: dict[int, _OpenBin] = {}
        self._live = _Live(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        # The bin of the first event and the number of events of keys that have not had enough, or not enough to be live.
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
        clock_s = np.maximum.accumulate(np.maximum(time_s, self._latest_s))
        ends = np.floor((clock_s - self.lateness_s) / self.bin_s).astype(np.int64)
        first = self._next_bin if self._next_bin is not None else int(ends[0])
        in_time = bins >= np.concatenate([[first], ends[:-1]])
        if not in_time.all():
            self.late_events += int(len(keys) - in_time.sum())
            keys, bins = keys[in_time], bins[in_time]
        self._count(keys, bins)
        self._latest_s = float(clock_s[-1])
        closed = self._close_until(int(ends[-1]))
        self._next_bin = int(ends[-1])
        return closed

    def _count(self, keys: Ints, bins: Ints) -> None:
        if (bins[1:] < bins[:-1]).any():
            order = np.argsort(bins, kind="stable")
            keys, bins = keys[order], bins[order]
        starts = np.flatnonzero(np.concatenate([[True], bins[1:] != bins[:-1]])) if len(bins) else bins
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(bins)]):
            bin_index = int(bins[start])
            if bin_index not in self._open:
                self._open[bin_index] = _OpenBin(keys[:0], keys[:0])
            self._open[bin_index].add(keys[start:end].copy())

    def _close_until(self, end: int) -> list[ClosedBin]:
        closed: list[ClosedBin] = []
        at = self._next_bin
        while True:
            if at is None or not len(self._live.keys):
                # Nobody is live: nothing to tell before the next bin with an event.
                at = min((bin_index for bin_index in self._open if bin_index < end), default=end)
            if at >= end:
                return closed
            one = self._close(at)
            if len(one.keys):
                closed.append(one)
            at += 1

    def _close(self, bin_index: int) -> ClosedBin:
        tally = self._open.pop(bin_index, None)
        keys, counts = tally.totals() if tally else (self._live.keys[:0], self._live.keys[:0])
        live = self._live
        count = _counts_of(live.keys, keys, counts)
        level = live.level * (1.0 - 1.0 / self.idle_bins) + count
        last_bin = np.where(count > 0, bin_index, live.last_bin)
        awake = bin_index - last_bin <= self.idle_bins
        live = _Live(live.keys, last_bin, level)
        if not awake.all():
            live, count = _Live(live.keys[awake], last_bin[awake], level[awake]), count[awake]
        others = _places(live.keys, keys) < 0
        ready = self._newcomers_ready(keys[others].tolist(), counts[others].tolist(), bin_index)
        if ready:
            live = self._admit(live, ready, bin_index)
            count = _counts_of(live.keys, keys, counts)
        self._live = live
        return ClosedBin(bin_index * self.bin_s, live.keys, count)

    def _newcomers_ready(self, keys: list[int], counts: list[int], bin_index: int) -> dict[int, int]:
        """Count the events of keys that are not live; those with enough of them, and how many."""
        ready: dict[int, int] = {}
        for key, count in zip(keys, counts):
            first, events = self._newcomers.get(key, (bin_index, 0))
            if bin_index - first > self.idle_bins:
                first, events = bin_index, 0
            self._newcomers[key] = first, events + count
            if events + count >= self.min_events:
                ready[key] = events + count
        self._forget_newcomers(bin_index)
        return ready

    def _admit(self, live: _Live, ready: dict[int, int], bin_index: int) -> _Live:
        """Let the busiest be live; at equal numbers of events those that are already."""
        keys = np.concatenate([live.keys, np.fromiter(ready, np.int64, len(ready))])
        level = np.concatenate([live.level, np.fromiter(ready.values(), np.float64, len(ready))])
        last_bin = np.concatenate([live.last_bin, np.full(len(ready), bin_index)])
        is_new = np.arange(len(keys)) >= len(live.keys)
        kept = np.lexsort((keys, is_new, -level))[: self.max_keys]
        self.evicted_keys += len(live.keys) - int((~is_new[kept]).sum())
        for key in keys[kept[is_new[kept]]].tolist():
            self._newcomers.pop(key, None)
        kept = kept[np.argsort(keys[kept])]
        return _Live(keys[kept], last_bin[kept], level[kept])

    def _forget_newcomers(self, bin_index: int) -> None:
        if len(self._newcomers) <= _NEWCOMERS_PER_KEY * self.max_keys:
            return
        fresh = {key: own for key, own in self._newcomers.items() if bin_index - own[0] <= self.idle_bins}
        by_promise = sorted(fresh, key=lambda key: (-fresh[key][1], -fresh[key][0], key))
        kept = by_promise[: _NEWCOMERS_PER_KEY * self.max_keys // 2]
        self._newcomers = {key: fresh[key] for key in kept}

    def to_bytes(self) -> bytes:
        """Settings and state; equal events give equal bytes."""
        totals = {bin_index: self._open[bin_index].totals() for bin_index in sorted(self._open)}
        return msgspec.msgpack.encode(
            _State(
                self.bin_s,
                self.lateness_s,
                self.idle_bins,
                self.max_keys,
                self.min_events,
                self._next_bin,
                self._latest_s,
                {bin_index: (keys.tobytes(), counts.tobytes()) for bin_index, (keys, counts) in totals.items()},
                (self._live.keys.tobytes(), self._live.last_bin.tobytes(), self._live.level.tobytes()),
                dict(sorted(self._newcomers.items())),
                self.late_events,
                self.evicted_keys,
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
        bins._open = {at: _OpenBin(_ints(keys), _ints(counts)) for at, (keys, counts) in state.open.items()}
        keys, last_bin, level = state.live
        bins._live = _Live(_ints(keys), _ints(last_bin), np.frombuffer(level))
        bins._newcomers = state.newcomers
        bins.late_events, bins.evicted_keys = state.late_events, state.evicted_keys
        return bins


def _ints(data: bytes) -> Ints:
    return np.frombuffer(data, np.int64)


def _counts_of(wanted: Ints, keys: Ints, counts: Ints) -> Ints:
    """The counts of the wanted keys, 0 where there is none; both in order."""
    if not len(keys):
        return np.zeros(len(wanted), np.int64)
    at = _places(keys, wanted)
    return np.where(at >= 0, counts[at], 0)


def _places(keys: Ints, wanted: Ints) -> Ints:
    """Where each of the wanted is among the keys, which are in order; -1 where it is not."""
    if not len(keys):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)
