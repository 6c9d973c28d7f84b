"""Short sequences that come more often than chance: view, cart, purchase; home, station, office."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from processors.payload import decode_payload, encode_payload
from processors.quality import poisson_significance
from processors.sequence.heavy_keys import HeavyKeys
from processors.sequence.settings import DAY_S, NO_STATE

_FORMAT = "chronotope.frequent_sequences.1"


class FrequentSequence(msgspec.Struct, frozen=True):
    """A sequence of two or three states in a row.

    ``support`` is its decayed count and ``error`` what more it may be; ``share`` its count among all sequences of its
    length; ``lift`` that share over what it would be if states followed one another by chance (a lower bound once states
    were forgotten); ``significance`` is -log10 of the p-value of so many by chance (Poisson).
    """

    states: tuple[int, ...]
    support: float
    error: float
    share: float
    lift: float
    significance: float


class FrequentSequences:
    """Decayed counts of all sequences of two and three states, in bounded memory, and which of them are frequent.

    Counts are :class:`HeavyKeys`: exact until ``max_sequences`` are held, then within its error.

    Args:
        min_support: decayed count from which a sequence is frequent.
        min_lift: the least lift of a sequence that is told.
        half_life_s: seconds after which an occurrence counts half.
        max_sequences: states, pairs and triples held together.

    Example:
        >>> from processors.sequence import Sessions
        >>> view, cart, buy = 1, 2, 3
        >>> users, states = np.repeat(np.arange(3), 3), np.tile([view, cart, buy], 3)
        >>> frequent = FrequentSequences(min_support=2.0, half_life_s=np.inf)
        >>> told = frequent.update(*Sessions().update(users, states, np.arange(9.0))[:3])
        >>> [sequence.states for sequence in told], told[-1].support, round(told[-1].lift)
        ([(1, 2), (2, 3), (1, 2, 3)], 3.0, 27)
    """

    def __init__(
        self,
        min_support: float = 20.0,
        min_lift: float = 1.0,
        half_life_s: float = 30 * DAY_S,
        max_sequences: int = 1 << 18,
    ) -> None:
        if not min_support > 0:
            raise ValueError(f"min_support must be positive, got {min_support}")
        if not min_lift >= 0:
            raise ValueError(f"min_lift must not be negative, got {min_lift}")
        self.min_support, self.min_lift = float(min_support), float(min_lift)
        self._counts = HeavyKeys(half_life_s, max_sequences)
        self._totals = HeavyKeys(half_life_s, 8)  # events, pairs and triples: the keys (length, 0, 0)

    @property
    def counts(self) -> HeavyKeys:
        """Keys (a, b, c) are triples, (NO_STATE, b, c) pairs, (NO_STATE, NO_STATE, c) single states."""
        return self._counts

    def update(self, contexts: Any, next_states: Any, time_s: Any) -> list[FrequentSequence]:
        """Count the sequences that each event ends: those that became frequent, as of their event, strongest last.

        Args:
            contexts: int64[n, 2], (previous, last) as ``Sessions.update`` gives them.
            next_states: int64[n].
            time_s: float64[n].

        Raises:
            ValueError: shapes differ or a time is not finite; nothing has changed.
        """
        contexts, states = np.asarray(contexts, np.int64).reshape(-1, 2), np.asarray(next_states, np.int64)
        times = np.asarray(time_s, np.float64)
        if not (len(contexts),) == states.shape == times.shape:
            raise ValueError(
                f"contexts, next_states and time_s must be equally long: {contexts.shape}, {states.shape}, {times.shape}"
            )
        if not np.isfinite(times).all():
            raise ValueError("time_s must be finite")
        n = len(states)
        # Each event's keys in a row, so that the counts do not depend on the batches: state, pair, triple.
        keys = np.full((n, 3, 3), NO_STATE)
        keys[:, :, 2] = states[:, None]
        keys[:, 1:, 1] = contexts[:, 1, None]
        keys[:, 2, 0] = contexts[:, 0]
        present = np.ones((n, 3), np.bool_)
        present[:, 1] = contexts[:, 1] != NO_STATE
        present[:, 2] = present[:, 1] & (contexts[:, 0] != NO_STATE)
        when = np.repeat(times, 3).reshape(n, 3)[present]
        length = np.broadcast_to(np.arange(1, 4), (n, 3))[present]
        flat = keys[present]
        totals = np.zeros((len(flat), 3), np.int64)
        totals[:, 0] = length
        self._totals.add(totals, when)
        after = self._counts.add(flat, when)
        became = np.flatnonzero((length > 1) & (after >= self.min_support) & (after - 1.0 < self.min_support))
        described = {}
        for place in became.tolist():
            sequence = self.describe(flat[place][-length[place] :].tolist(), float(times.max()))
            if sequence.support > 0 and sequence.lift >= self.min_lift:
                described[sequence.states] = sequence
        return sorted(described.values(), key=lambda s: (s.significance, s.states))

    def describe(self, states: Any, time_s: float) -> FrequentSequence:
        """The support, lift and significance of a sequence of two or three states as of ``time_s``."""
        states = tuple(int(state) for state in states)
        if len(states) not in (2, 3):
            raise ValueError(f"states must be two or three, got {len(states)}")
        low, high = self._counts.bounds(_key(states), time_s)
        events, all_alike = (self._totals.bounds((length, 0, 0), time_s)[0] for length in (1, len(states)))
        singles = np.array([self._counts.bounds(_key((state,)), time_s)[1] for state in states])
        expected = all_alike * float(np.prod(singles / events)) if events > 0 else 0.0
        return FrequentSequence(
            states=states,
            support=low,
            error=high - low,
            share=low / all_alike if all_alike > 0 else 0.0,
            lift=low / expected if expected > 0 else 0.0,
            significance=poisson_significance(low, expected) if expected > 0 else 0.0,
        )

    def frequent(self, time_s: float, length: int | None = None) -> list[FrequentSequence]:
        """All frequent sequences as of ``time_s``, most significant first."""
        keys, counts, _ = self._counts.heaviest(time_s, self.min_support)
        found = []
        for key in keys[counts >= self.min_support].tolist():
            states = tuple(state for state in key if state != NO_STATE)
            if len(states) > 1 and length in (None, len(states)):
                sequence = self.describe(states, time_s)
                if sequence.lift >= self.min_lift:
                    found.append(sequence)
        return sorted(found, key=lambda s: (-s.significance, -s.support, s.states))

    def to_bytes(self) -> bytes:
        parts = {"min_support": self.min_support, "min_lift": self.min_lift}
        return encode_payload(_FORMAT, {**parts, "counts": self._counts.to_bytes(), "totals": self._totals.to_bytes()})

    @classmethod
    def from_bytes(cls, payload: bytes) -> FrequentSequences:
        """The object of :meth:`to_bytes`. Raises ValueError for any other payload."""
        parts = decode_payload(_FORMAT, payload)
        frequent = cls(parts["min_support"], parts["min_lift"])
        frequent._counts = HeavyKeys.from_bytes(parts["counts"])
        frequent._totals = HeavyKeys.from_bytes(parts["totals"])
        return frequent


def _key(states: tuple[int, ...]) -> tuple[int, int, int]:
    padded = (NO_STATE,) * (3 - len(states)) + states
    return padded[0], padded[1], padded[2]
