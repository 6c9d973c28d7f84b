"""Periods of many keys, online: a ring of event times per key, and detection on demand."""

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from processors.temporal import bank_state, event_rings
from processors.temporal.arrays import Bools, Floats, Ints
from processors.temporal.examination import PeriodChange, PeriodLook, choose_slots, differs, recheck_time, worth_of
from processors.temporal.findings import find_periods
from processors.temporal.periods import Period, PeriodicitySettings
from processors.temporal.population_rate import PopulationRate

_FIRST_CAPACITY = 1024


class BankChanges(NamedTuple):
    """What one `update` did: keys with new occurrences (each once), and keys that had to go."""

    touched: Ints
    evicted: Ints


class PeriodicityBank:
    """Finds the periods of many keys' events; 64 times per key are kept and nothing else.

    `update` is O(1) per event. `detect` reads one key, in a few milliseconds. `examine` reads the keys for which it is
    worth it, within a budget, and tells what has changed. Times are seconds (whole seconds are kept) from 0 to 2^32 - 1
    in any order; an event within `merge_gap_s` of another one of its key is the same occurrence, and one older than the
    64 latest is ignored. Hours of the day and week are those of the times given: pass local time where users live in
    several zones.

    The method is described in docs/temporal.md.

    >>> import numpy as np
    >>> bank = PeriodicityBank()
    >>> fridays_s = 1_700_000_000.0 + 7 * 86400 * np.arange(20)
    >>> _ = bank.update(np.full(20, 7), fridays_s)
    >>> period = bank.detect(7)[0]
    >>> period.period_s / 86400, period.kind, (period.next_due_s - float(fridays_s[-1])) / 86400
    (7.0, 'recurring', 7.0)
    """

    def __init__(self, settings: PeriodicitySettings | None = None) -> None:
        self.settings = settings if settings is not None else PeriodicitySettings()
        self.evicted_keys = 0
        self._population = PopulationRate(self.settings.population_half_life_s)
        self._rings = event_rings.empty_rings(min(_FIRST_CAPACITY, self.settings.max_keys))
        self._n_keys = 0
        self._hand = 0
        self._batch = 0
        self._published: dict[int, tuple[Period, ...]] = {}
        self._evicted_published: set[int] = set()

    def __len__(self) -> int:
        """Number of keys held."""
        return self._n_keys

    def __contains__(self, key: int) -> bool:
        """Whether the key is held."""
        return self._slot(key) >= 0

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, in bytes, the room that is not used yet left out."""
        rings = self._rings
        table = rings.table_key.nbytes + rings.table_slot.nbytes + rings.wides[: rings.n_wide[0]].nbytes
        return table + sum(getattr(rings, name)[: self._n_keys].nbytes for name in event_rings.ROW_FIELDS)

    @property
    def latest_s(self) -> float:
        """Latest event time seen; -inf before the first."""
        return self._population.latest_s

    def update(self, keys: npt.ArrayLike, time_s: npt.ArrayLike) -> BankChanges:
        """Absorb events: keys int64[n], time_s float64[n].

        Raises:
            TypeError: keys are not integers, or times not numbers.
            ValueError: lengths differ, a key does not fit int64, or a time is not finite or not in [0, 2^32 - 1]. The
                bank is unchanged then.
        """
        keys, time_s = checked_events(keys, time_s)
        changes, kept = self._absorb(keys, time_s)
        self._population.update(time_s, kept)
        return changes

    def _absorb(self, keys: Ints, time_s: Floats) -> tuple[BankChanges, Bools]:
        """Put events into the rings, which grow on the way; also tells which events are occurrences of their own."""
        n = len(keys)
        kept = np.zeros(n, np.bool_)
        touched = np.empty(n, np.int64)
        evicted = np.empty(n, np.int64)
        self._batch += 1
        touched_keys = [touched[:0]]
        begin = n_evicted = 0
        while begin < n:
            begin, self._n_keys, self._hand, n_touched, more = event_rings.absorb(
                self._rings,
                self._n_keys,
                self._hand,
                begin,
                keys,
                time_s,
                self.settings.merge_gap_s,
                self.settings.max_keys,
                self._batch,
                touched,
                evicted[n_evicted:],
                kept,
            )
            n_evicted += more
            touched_keys.append(self._rings.key[touched[:n_touched]])
            if begin < n:
                self._rings = event_rings.grown(self._rings, self._n_keys, self.settings.max_keys)
        self._forget(evicted[:n_evicted])
        return BankChanges(np.concatenate(touched_keys), evicted[:n_evicted]), kept

    def _forget(self, gone: Ints) -> None:
        self.evicted_keys += len(gone)
        if self._published:
            for key in gone.tolist():
                if self._published.pop(key, None):
                    self._evicted_published.add(key)

    def _slot(self, key: int) -> int:
        if not -(2**63) <= key < 2**63:
            return -1
        return int(event_rings.find_slot(self._rings.table_key, self._rings.table_slot, np.int64(key)))

    def times_s(self, key: int) -> Floats:
        """The key's latest event times in order, at most 64; empty for an unknown key."""
        slot = self._slot(key)
        return event_rings.times_of(self._rings, slot) if slot >= 0 else np.empty(0)

    def detect(self, key: int, now_s: float | None = None) -> list[Period]:
        """Periods of a key up to the wide `max_p_value`, strongest first; empty for an unknown key or too few events.

        Chance alone gives one in two keys an answer: `p_value` says how far to trust it, `examine` publishes only what is sure.
        Without `now_s` the answer is as of the key's latest event. With it, periods that have ended by then are left
        out and `next_due_s` lies after it.
        """
        slot = self._slot(key)
        return self._detect_slot(slot, now_s) if slot >= 0 else []

    def _detect_slot(self, slot: int, now_s: float | None) -> list[Period]:
        time_s = event_rings.times_of(self._rings, slot)
        if len(time_s) < self.settings.min_events:
            return []
        density = self._population.density_without(time_s, int(self._rings.seen[slot]))
        return find_periods(time_s, density, self.settings, now_s)

    def examine(self, budget: int, now_s: float) -> list[PeriodChange]:
        """Examine at most `budget` keys, the most worthwhile first; returns the keys whose periods have changed.

        A key is worth it when a period should have shown up again and has not, or when many of its events are new since
        the last time. No periods in a change means that all are retired (or the key was evicted). One pass over the
        keys, then `budget` detections.
        """
        return [PeriodChange(one.key, one.periods) for one in self.look(budget, now_s) if one.has_changed]

    def look(self, budget: int, now_s: float) -> list[PeriodLook]:
        """As `examine`, but returns every key that was examined, those whose periods are the same among them."""
        looks = [PeriodLook(key, (), True) for key in sorted(self._evicted_published)]
        self._evicted_published.clear()
        for slot in choose_slots(self._rings, self._n_keys, self.settings.min_events, budget, now_s).tolist():
            key = int(self._rings.key[slot])
            periods = tuple(
                one for one in self._detect_slot(slot, now_s) if one.p_value <= self.settings.max_published_p_value
            )
            before = self._published.get(key, ())
            self._rings.examined[slot] = self._rings.seen[slot]
            self._rings.recheck_s[slot] = recheck_time(periods, now_s)
            if periods:
                self._published[key] = periods
            else:
                self._published.pop(key, None)
            looks.append(PeriodLook(key, periods, differs(before, periods)))
        return looks

    def worthwhile(self, now_s: float) -> int:
        """How many keys `examine` would find worth it, without a budget. One pass over the keys."""
        worth = worth_of(self._rings, self._n_keys, self.settings.min_events, now_s)
        return int(np.count_nonzero(worth)) + len(self._evicted_published)

    def published(self, key: int) -> tuple[Period, ...]:
        """The key's periods as of its last examination."""
        return self._published.get(key, ())

    def due(self, from_s: float, until_s: float) -> list[tuple[int, Period]]:
        """(key, period) of every published period that is due in [from_s, until_s), in order of due time.

        The due time is carried forward by whole periods when it lies before `from_s`.
        """
        coming = []
        for key, periods in self._published.items():
            for period in periods:
                behind = max(0.0, np.ceil((from_s - period.next_due_s) / period.period_s))
                due_s = period.next_due_s + float(behind) * period.period_s
                if due_s < until_s:
                    coming.append((key, msgspec.structs.replace(period, next_due_s=due_s)))
        return sorted(coming, key=lambda pair: (pair[1].next_due_s, pair[0]))

    def key_to_bytes(self, key: int) -> bytes:
        """State of one key (for a changelog), at most about 400 bytes.

        Raises:
            KeyError: the key is not held.
        """
        slot = self._slot(key)
        if slot < 0:
            raise KeyError(key)
        return bank_state.encode_key(self._rings, slot, self.published(key))

    def key_from_bytes(self, key: int, data: bytes) -> None:
        """Replace the state of one key; the population's rhythm is restored apart (`population_from_bytes`).

        Raises:
            ValueError: not the state of a key; the bank is unchanged then.
        """
        state = bank_state.decode_key(data)
        if self._slot(key) < 0:
            self._absorb(np.array([key], np.int64), np.zeros(1))
        self._rings = bank_state.place_key(self._rings, self._slot(key), state)
        self._published.pop(key, None)
        if state.published:
            self._published[key] = state.published

    def population_to_bytes(self) -> bytes:
        """State of the population's rhythm."""
        return bank_state.encode_population(self._population)

    def population_from_bytes(self, data: bytes) -> None:
        """Replace the population's rhythm.

        Raises:
            ValueError: not the state of a population.
        """
        self._population = bank_state.decode_population(data, self.settings.population_half_life_s)

    def to_bytes(self) -> bytes:
        """The whole bank; equal banks give equal bytes."""
        return bank_state.encode_bank(
            self.settings,
            self._population,
            self._rings,
            bank_state.Progress(self._n_keys, self._hand, self._batch, self.evicted_keys),
            self._published,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "PeriodicityBank":
        """A bank from `to_bytes`.

        Raises:
            ValueError: not a bank, or one of another format.
        """
        settings, population, rings, progress, published = bank_state.decode_bank(data)
        bank = cls(settings)
        bank._population, bank._rings, bank._published = population, rings, published
        bank._n_keys, bank._hand, bank._batch, bank.evicted_keys = progress
        return bank

    @staticmethod
    def warm_up() -> None:
        """Compile every kernel, so that no user's batch waits for it."""
        bank = PeriodicityBank(PeriodicitySettings(max_keys=2))
        day_s = 86400.0 * np.arange(40)
        bank.update(np.ones(40, np.int64), day_s)
        bank.update(np.arange(5), day_s[:5])
        bank.update(np.ones(80, np.int64), np.sort(np.concatenate([day_s, day_s + 3600.0 * (np.arange(40) % 9)])))
        bank.update(np.ones(2, np.int64), day_s[[5, 3]] + 7200.0)
        bank.examine(2, float(day_s[-1]))
        PeriodicityBank.from_bytes(bank.to_bytes())


def checked_events(keys: npt.ArrayLike, time_s: npt.ArrayLike) -> tuple[Ints, Floats]:
    """Event columns as int64 and float64.

    Raises:
        TypeError: keys are not integers, or times not numbers.
        ValueError: shapes differ, a key does not fit int64, or a time is not finite or not in [0, 2^32 - 1] seconds.
    """
    keys = np.asarray(keys)
    if keys.size == 0:
        keys = keys.astype(np.int64)
    if keys.dtype.kind not in "iu":
        raise TypeError(f"keys must be integers, got {keys.dtype}")
    times = np.asarray(time_s)
    if times.dtype.kind in "mM":  # their unit would be lost: days would pass for seconds
        raise TypeError(f"time_s must be numbers of seconds, got {times.dtype}")
    times = np.asarray(times, np.float64)
    if keys.ndim != 1 or keys.shape != times.shape:
        raise ValueError(f"keys and time_s must be columns of one length, got {keys.shape} and {times.shape}")
    if keys.dtype == np.uint64 and keys.size and keys.max() > np.iinfo(np.int64).max:
        raise ValueError("keys must fit int64")
    if times.size and not (times.min() >= 0.0 and times.max() <= event_rings.MAX_TIME_S):
        raise ValueError("time_s must be finite seconds in [0, 2^32 - 1]")
    return np.ascontiguousarray(keys, np.int64), np.ascontiguousarray(times)
