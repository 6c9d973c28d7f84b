"""When counts rise: an event at every hour in which an entity goes from quiet to busy, by its own standards."""

import msgspec
import numpy as np

from processors.temporal.arrays import Bools, Floats, Ints
from processors.temporal.count_bins import ClosedBin

# A count is busy from one of its own standard deviations above the mean, and from three of a Poisson count of that size, which
# is 1/2 for the square root of any; below the mean it is quiet.
_BUSY = 1.0
_BUSY_BY_CHANCE = 3.0 * 0.5
_MIN_BINS = 24


class _State(msgspec.Struct, frozen=True, array_like=True):
    memory_bins: int
    keys: bytes
    bins: bytes
    mean: bytes
    variance: bytes
    is_quiet: bytes


class Onsets:
    """Finds the bins in which a key's count rises above its usual level after it was below.

    A count n is looked at as sqrt(n + 3/8), whose noise does not grow with it (Anscombe 1948); the usual level is its mean over
    about the last ``memory_bins`` bins. Busy is a bin that chance does not explain and that lies a standard deviation above that
    level. A key without a day's bins has no onsets yet, and one that is missing in a bin is forgotten. O(keys) per bin.

    >>> onsets = Onsets()
    >>> for hour in range(72):
    ...     busy = 30 if hour % 24 in (9, 10, 11) else 1
    ...     keys, time_s = onsets.update(ClosedBin(3600.0 * hour, np.array([7]), np.array([busy])))
    ...     if len(keys):
    ...         print(keys.tolist(), time_s.tolist())
    [7] [118800.0]
    [7] [205200.0]
    """

    def __init__(self, memory_bins: int = 168) -> None:
        if memory_bins < _MIN_BINS:
            raise ValueError(f"memory_bins must be at least {_MIN_BINS}, got {memory_bins}")
        self.memory_bins = memory_bins
        self._keys: Ints = np.empty(0, np.int64)
        self._bins: Ints = np.empty(0, np.int64)
        self._mean: Floats = np.empty(0)
        self._variance: Floats = np.empty(0)
        self._is_quiet: Bools = np.empty(0, np.bool_)

    def update(self, closed: ClosedBin) -> tuple[Ints, Floats]:
        """Look at the next bin, its keys in order: those whose onset it is, and the bin's start for each."""
        self._follow(closed.keys)
        value = np.sqrt(closed.counts + 0.375)
        is_known = self._bins >= _MIN_BINS
        is_busy = is_known & (value > self._mean + np.maximum(_BUSY * np.sqrt(self._variance), _BUSY_BY_CHANCE))
        is_onset = is_busy & self._is_quiet
        self._is_quiet = ~is_busy & (self._is_quiet | (is_known & (value < self._mean)))
        self._bins += 1
        weight, error = np.minimum(self._bins, self.memory_bins), value - self._mean
        self._mean += error / weight
        self._variance += (error * (value - self._mean) - self._variance) / weight
        keys = closed.keys[is_onset]
        return keys, np.full(len(keys), closed.start_s)

    def _follow(self, keys: Ints) -> None:
        if np.array_equal(keys, self._keys):
            return
        known = np.isin(keys, self._keys, assume_unique=True)
        at = np.searchsorted(self._keys, keys[known])
        for name in ("_bins", "_mean", "_variance", "_is_quiet"):
            before = getattr(self, name)
            after = np.zeros(len(keys), before.dtype)
            after[known] = before[at]
            setattr(self, name, after)
        self._keys = keys

    def to_bytes(self) -> bytes:
        """All that was learned."""
        columns = (self._keys, self._bins, self._mean, self._variance, self._is_quiet)
        return msgspec.msgpack.encode(_State(self.memory_bins, *(column.tobytes() for column in columns)))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Onsets":
        """Onsets from ``to_bytes``.

        Raises:
            ValueError: not the state of onsets.
        """
        try:
            state = msgspec.msgpack.decode(data, type=_State)
        except msgspec.MsgspecError as error:
            raise ValueError(f"data cannot be decoded: {error}") from error
        onsets = cls(state.memory_bins)
        onsets._keys, onsets._bins = np.frombuffer(state.keys, np.int64), np.frombuffer(state.bins, np.int64).copy()
        onsets._mean, onsets._variance = np.frombuffer(state.mean).copy(), np.frombuffer(state.variance).copy()
        onsets._is_quiet = np.frombuffer(state.is_quiet, np.bool_)
        return onsets
