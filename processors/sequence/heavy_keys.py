"""Decayed counts of the heaviest keys of a stream, with their error."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from processors.growing import roomy_zeros
from processors.payload import decode_payload, encode_payload
from processors.sequence.compiled import kernel
from processors.sequence.eviction import lightest_eighth
from processors.sequence.hashing import hash_context, hash_contexts, slot_of

KEY = np.dtype(
    [
        ("a", np.int64),
        ("b", np.int64),
        ("c", np.int64),
        ("weight", np.float64),  # seen since the key is held
        ("born", np.float64),  # may have been forgotten before that
        ("held", np.int64),
    ]
)
MAX_EXPONENT = 256.0
_FORMAT = "chronotope.heavy_keys.1"


class HeavyKeys:
    """Decayed counts of int64 triples in room for ``max_keys``; exact until that is reached.

    Beyond it the lightest eighth is dropped now and then (lossy counting in the weighted form of Misra-Gries): every
    count stays within [count, count + error], and no error, nor any count that is not held, exceeds 8 / 7 of the total
    weight over ``max_keys``. The result does not depend on batches. O(1) per key, 48 bytes and a third.

    Args:
        half_life_s: seconds after which an occurrence counts half; infinite for plain counts.
        max_keys: keys held.

    Example:
        >>> heavy = HeavyKeys(half_life_s=60.0, max_keys=8)
        >>> heavy.add([[1, 2, 3], [1, 2, 3]], [0.0, 60.0]).tolist()
        [1.0, 1.5]
        >>> heavy.bounds((1, 2, 3), 120.0)
        (0.75, 0.75)
    """

    def __init__(self, half_life_s: float, max_keys: int = 1 << 18) -> None:
        if not half_life_s > 0:
            raise ValueError(f"half_life_s must be positive, got {half_life_s}")
        if not 8 <= max_keys <= 1 << 28:
            raise ValueError(f"max_keys must lie in [8, 2**28], got {max_keys}")
        self.half_life_s, self.max_keys = float(half_life_s), max_keys
        self.dropped_keys = 0
        self._table = roomy_zeros(64, KEY)
        self._held = np.zeros(1, np.int64)
        self._landmark_s = math.nan
        self._floor = 0.0

    def add(self, keys: Any, time_s: Any, weights: Any = None) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Count keys int64[n, 3] at times float64[n]: each key's count right after it, as of its time, float64[n]."""
        keys = np.ascontiguousarray(keys, np.int64).reshape(-1, 3)
        times = np.ascontiguousarray(time_s, np.float64)
        weight = np.ones(len(keys)) if weights is None else np.ascontiguousarray(weights, np.float64)
        after = np.empty(len(keys), np.float64)
        done = 0
        if len(keys) and math.isnan(self._landmark_s):
            self._landmark_s = float(times[0])
        while done < len(keys):
            bounds = self._landmark_s, self.half_life_s, self._floor, self.max_keys
            done = _add_keys(self._table, self._held, keys, times, weight, *bounds, done, after)
            if done < len(keys):
                self._make_room(float(times[done]))
        return after

    def _make_room(self, time_s: float, keys: int = 1) -> None:
        """For an event that brings up to ``keys`` keys."""
        if (time_s - self._landmark_s) / self.half_life_s > MAX_EXPONENT:
            self._advance(math.floor((time_s - self._landmark_s) / self.half_life_s))
        elif self._held[0] + keys > self.max_keys:
            held = np.flatnonzero(self._table["held"])
            records = self._table[held]
            leaves, self._floor = lightest_eighth(
                records["weight"], records["born"], self._floor, lambda tied: hash_contexts(_triples(records[tied]))
            )
            self.dropped_keys += int(leaves.sum())
            self._rebuild(records[~leaves], len(self._table))
        else:
            self._rebuild(self._table[self._table["held"] != 0], 2 * len(self._table))

    def _advance(self, half_lives: int) -> None:
        """Move the landmark: an exact scaling by a power of two; what has faded away is forgotten."""
        scale = math.ldexp(1.0, -min(half_lives, 4000))
        self._landmark_s += half_lives * self.half_life_s
        self._floor *= scale
        records = self._table[self._table["held"] != 0]
        records["weight"] *= scale
        records["born"] *= scale
        self._rebuild(records[records["weight"] + records["born"] > 2.0**-200], len(self._table))

    def _rebuild(self, records: np.ndarray[Any, Any], size: int) -> None:
        self._table = roomy_zeros(size, KEY)
        _insert_keys(self._table, records)
        self._held[0] = len(records)

    def _factor(self, time_s: float) -> float:
        if math.isnan(self._landmark_s):
            return 1.0
        return float(np.exp2(np.clip((self._landmark_s - time_s) / self.half_life_s, -1000.0, 480.0)))

    def counts(self, keys: Any, time_s: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        """What was surely seen of each key of int64[m, 3] as of ``time_s``; 0 for keys that are not held."""
        keys = np.ascontiguousarray(keys, np.int64).reshape(-1, 3)
        out = np.empty(len(keys), np.float64)
        _read_keys(self._table, keys, out)
        return out * self._factor(time_s)

    def bounds(self, key: tuple[int, int, int], time_s: float) -> tuple[float, float]:
        """The interval that holds a key's exact count as of ``time_s``."""
        factor, slot = self._factor(time_s), key_slot(self._table, *key)
        held = self._table[slot]
        if held["held"] == 0:
            return 0.0, self._floor * factor
        return float(held["weight"] * factor), float((held["weight"] + held["born"]) * factor)

    def bounds_of(self, keys: Any, time_s: float) -> tuple[Any, Any]:
        """:meth:`bounds` of each key of int64[m, 3]: two float64[m]."""
        keys = np.ascontiguousarray(keys, np.int64).reshape(-1, 3)
        low, high = np.empty(len(keys), np.float64), np.empty(len(keys), np.float64)
        _read_bounds(self._table, keys, self._floor, low, high)
        factor = self._factor(time_s)
        return low * factor, high * factor

    def heaviest(self, time_s: float, least: float = 0.0) -> tuple[Any, Any, Any]:
        """Keys int64[m, 3] whose count may reach ``least``, their counts and errors: heaviest first, then by key."""
        held = self._table[self._table["held"] != 0]
        factor = self._factor(time_s)
        held = held[(held["weight"] + held["born"]) * factor >= least]
        held = held[np.lexsort((held["c"], held["b"], held["a"], -held["weight"]))]
        return _triples(held), held["weight"] * factor, held["born"] * factor

    def __len__(self) -> int:
        return int(self._held[0])

    @property
    def nbytes(self) -> int:
        return self._table.nbytes

    def to_bytes(self) -> bytes:
        """All keys; :meth:`from_bytes` goes on exactly like this one."""
        names = ("half_life_s", "max_keys", "dropped_keys", "_landmark_s", "_floor")
        parts: dict[str, Any] = {name: getattr(self, name) for name in names}
        return encode_payload(_FORMAT, {**parts, "keys": self._table[self._table["held"] != 0].tobytes()})

    @classmethod
    def from_bytes(cls, payload: bytes) -> Self:
        """The keys of :meth:`to_bytes`. Raises ValueError for any other payload."""
        parts = decode_payload(_FORMAT, payload)
        heavy = cls(parts["half_life_s"], parts["max_keys"])
        for name in ("dropped_keys", "_landmark_s", "_floor"):
            setattr(heavy, name, parts[name])
        records, size = np.frombuffer(parts["keys"], KEY), 64
        while 3 * (len(records) + 1) > 2 * size:
            size *= 2
        heavy._rebuild(records, size)
        return heavy


def _triples(records: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.stack([records["a"], records["b"], records["c"]], axis=1)


@kernel
def key_slot(table: Any, a: int, b: int, c: int) -> int:
    """Where a key lies in the table, or the empty slot where it would."""
    slot = slot_of(hash_context(a, b, c), len(table))
    while table[slot].held != 0 and not (table[slot].c == c and table[slot].b == b and table[slot].a == a):
        slot = (slot + 1) & (len(table) - 1)
    return slot


@kernel
def _add_keys(
    table: Any,
    held: Any,
    keys: Any,
    times: Any,
    weights: Any,
    landmark_s: float,
    half_life_s: float,
    floor: float,
    max_keys: int,
    start: int,
    after: Any,
) -> int:
    """Count keys from ``start`` on: where it stopped because room must be made."""
    for event in range(start, len(keys)):
        exponent = (times[event] - landmark_s) / half_life_s
        if exponent > MAX_EXPONENT:
            return event
        slot = key_slot(table, keys[event, 0], keys[event, 1], keys[event, 2])
        record = table[slot]
        if record.held == 0:
            if held[0] >= max_keys or 3 * (held[0] + 1) > 2 * len(table):
                return event
            held[0] += 1
            record.a, record.b, record.c = keys[event, 0], keys[event, 1], keys[event, 2]
            record.weight, record.born, record.held = 0.0, floor, 1
        scale = np.exp2(exponent)
        record.weight += weights[event] * scale
        after[event] = record.weight / scale if scale > 0.0 else 0.0
    return len(keys)


@kernel
def _insert_keys(table: Any, records: Any) -> None:
    for i in range(len(records)):
        table[key_slot(table, records[i].a, records[i].b, records[i].c)] = records[i]


@kernel
def _read_keys(table: Any, keys: Any, out: Any) -> None:
    for i in range(len(keys)):
        record = table[key_slot(table, keys[i, 0], keys[i, 1], keys[i, 2])]
        out[i] = record.weight if record.held != 0 else 0.0


@kernel
def _read_bounds(table: Any, keys: Any, floor: float, low: Any, high: Any) -> None:
    for i in range(len(keys)):
        record = table[key_slot(table, keys[i, 0], keys[i, 1], keys[i, 2])]
        low[i] = record.weight if record.held != 0 else 0.0
        high[i] = low[i] + record.born if record.held != 0 else floor
