"""Short sequences that come more often than chance: view, cart, purchase; home, station, office."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import msgspec
import numpy as np

from processors.payload import decode_payload, encode_payload
from processors.quality import poisson_significance
from processors.sequence.sequence_counts import SequenceCounts
from processors.sequence.settings import DAY_S, NO_STATE
from processors.sequence.watched import WATCHED, WatchedSequences

LEFT = 0.75
"""A sequence that was told is withdrawn below this share of the least support or of the least lift."""
REVIEWS_PER_HALF_LIFE = 16
ASKED = ("min_support", "min_lift", "growth", "min_owners", "parts")
"""What is asked of a sequence to be told; it may change while the counts go on."""
_FORMAT = "chronotope.frequent_sequences.2"
_PAIR, _TRIPLE = 2, 3


class FrequentSequence(msgspec.Struct, frozen=True):
    """A sequence of two or three states in a row.

    ``support`` is its decayed count and ``error`` what more it may be; ``share`` its count among all sequences of its
    length; ``lift`` that share over what it would be if states followed one another by chance (a lower bound once states
    were forgotten); ``significance`` is -log10 of the p-value of so many by chance (Poisson). Support and lift are 0 of one
    that is withdrawn.
    """

    states: tuple[int, ...]
    support: float
    error: float
    share: float
    lift: float
    significance: float


class _Measured(NamedTuple):
    """Sequences int64[m, 3] with their decayed counts, what more these may be, all of their length, and what chance gives."""

    keys: Any
    support: Any
    error: Any
    alike: Any
    expected: Any

    @property
    def lift(self) -> Any:
        return np.divide(self.support, self.expected, out=np.zeros(len(self.keys)), where=self.expected > 0)

    def told(self, rows: Any = slice(None)) -> list[FrequentSequence]:
        """The rows of a mask, one by one."""
        columns = self.keys, self.support, self.error, self.alike, self.expected, self.lift
        return [
            FrequentSequence(
                tuple(state for state in key if state != NO_STATE), support, error,
                support / alike if alike > 0 else 0.0, lift,
                poisson_significance(support, expected) if expected > 0 else 0.0,
            )
            for key, support, error, alike, expected, lift in zip(
                *(column[rows].tolist() for column in columns), strict=True
            )
        ]  # fmt: skip


class FrequentSequences:
    """Decayed counts of all sequences of two and three states, in bounded memory, and which of them are frequent.

    Counts are :class:`SequenceCounts`: exact until ``max_sequences`` are held, then within its error. A sequence is told when it
    is frequent, again when its support has grown by the share ``growth``, and every 16th of a half-life when its support or
    lift has moved by that share either way; it is withdrawn (told with support 0) when it has fallen below three quarters of
    the least support or lift. Counts do not depend on how a stream is cut into batches; when something is told does, since
    that is as of the end of a batch.

    By chance means: the last but one state as often as something follows it, those around it as often as anywhere. So many
    sequences can be counted in ``parts``, each with those whose last but one state is one of its own: supports are exact then,
    and how often a state comes anywhere is estimated from the part, as a sample of what it may come after.

    Args:
        min_support: decayed count from which a sequence is frequent.
        min_lift: the least lift of a sequence that is told.
        half_life_s: seconds after which an occurrence counts half.
        max_sequences: states, pairs and triples held together.
        growth: share by which a sequence must have moved to be told again.
        min_owners: different owners that must have been seen doing a sequence since it was frequent. Their number is a
            lower bound by 64 bits, sharp while there are few: with more than some 50 hardly anything is told.
        parts: how many parts the sequences are counted in, of which this is one.

    Example:
        >>> from processors.sequence import Sessions
        >>> view, cart, buy = 1, 2, 3
        >>> users, states = np.repeat(np.arange(3), 3), np.tile([view, cart, buy], 3)
        >>> frequent = FrequentSequences(min_support=2.0, half_life_s=np.inf)
        >>> told = frequent.update(*Sessions().update(users, states, np.arange(9.0))[:3])
        >>> [sequence.states for sequence in told], told[-1].support, told[-1].lift
        ([(1, 2), (2, 3), (1, 2, 3)], 3.0, 18.0)
    """

    def __init__(
        self,
        min_support: float = 20.0,
        min_lift: float = 1.0,
        half_life_s: float = 30 * DAY_S,
        max_sequences: int = 1 << 18,
        growth: float = 0.5,
        min_owners: int = 1,
        parts: int = 1,
    ) -> None:
        if not min_support > 0:
            raise ValueError(f"min_support must be positive, got {min_support}")
        if not min_lift >= 0:
            raise ValueError(f"min_lift must not be negative, got {min_lift}")
        if not growth > 0:
            raise ValueError(f"growth must be positive, got {growth}")
        if min_owners < 1 or parts < 1:
            raise ValueError(f"min_owners and parts must be at least 1, got {min_owners} and {parts}")
        self.min_support, self.min_lift = float(min_support), float(min_lift)
        self.growth, self.min_owners, self.parts = float(growth), int(min_owners), int(parts)
        self._counts = SequenceCounts(half_life_s, max_sequences)
        self._watched = WatchedSequences()
        self._now_s = self._reviewed_s = -math.inf

    @property
    def counts(self) -> SequenceCounts:
        """The counts, whoever's they are."""
        return self._counts

    def update(self, contexts: Any, next_states: Any, time_s: Any, owners: Any = None) -> list[FrequentSequence]:
        """Count the sequences that each event ends: those worth telling, as of now, most significant last.

        Args:
            contexts: int64[n, 2], (previous, last) as ``Sessions.update`` gives them.
            next_states: int64[n].
            time_s: float64[n].
            owners: int64[n] or None: whose each event is, if ``min_owners`` is to count them.

        Raises:
            ValueError: shapes differ or a time is not finite; nothing has changed.
        """
        contexts = np.ascontiguousarray(contexts, np.int64).reshape(-1, 2)
        states, times = np.ascontiguousarray(next_states, np.int64), np.ascontiguousarray(time_s, np.float64)
        whose = np.zeros(len(states), np.int64) if owners is None else np.ascontiguousarray(owners, np.int64)
        if not (len(contexts),) == states.shape == times.shape == whose.shape:
            raise ValueError(
                "contexts, next_states, time_s and owners must be equally long: "
                f"{contexts.shape}, {states.shape}, {times.shape}, {whose.shape}"
            )
        if not np.isfinite(times).all():
            raise ValueError("time_s must be finite")
        if not len(states):
            return []
        self._now_s = max(self._now_s, float(times.max()))
        changed = self._review()  # first: what has faded away and returns is told anew
        grown = self._grown(contexts, states, times, whose)
        if grown:
            changed += filter(self._is_frequent, self._measured(np.array(sorted(grown)), self._now_s).told())
        latest = {one.states: one for one in changed}
        for one in latest.values():
            self._watched.told(_key(one.states), one.support, one.lift)
        return sorted(latest.values(), key=lambda s: (s.significance, s.states))

    def _grown(self, contexts: Any, states: Any, times: Any, owners: Any) -> set[tuple[int, int, int]]:
        """Count what the events end: the pairs and triples whose support has grown enough to be told."""
        grown = set[tuple[int, int, int]]()
        for after, length in zip(self._counts.add_events(contexts, states, times), (_PAIR, _TRIPLE), strict=True):
            often = np.flatnonzero(after >= self.min_support)
            keys = np.full((len(often), 3), NO_STATE)
            keys[:, 2], keys[:, 1] = states[often], contexts[often, 1]
            if length == _TRIPLE:
                keys[:, 0] = contexts[often, 0]
            due = self._watched.notice(keys, after[often], owners[often], self.growth, self.min_owners)
            grown.update(map(tuple, keys[due].tolist()))
        return grown

    def _is_frequent(self, one: FrequentSequence) -> bool:
        return one.support >= LEFT * self.min_support and one.lift >= self.min_lift

    def _review(self) -> list[FrequentSequence]:
        """What has moved or faded without growing; a rare pass over all that is watched."""
        pause_s = self._counts.half_life_s / REVIEWS_PER_HALF_LIFE
        if not math.isfinite(self._reviewed_s):
            self._reviewed_s = self._now_s
        if self._now_s < self._reviewed_s + pause_s:
            return []
        self._reviewed_s = self._now_s
        records = self._watched.records
        if not len(records):
            return []
        now = self._measured(_keys_of(records), self._now_s)
        known = np.array([bits.bit_count() >= self.min_owners for bits in records["owners"].tolist()])
        gone = now.support < LEFT * self.min_support
        was_told = records["support"] > 0
        faded = was_told & (gone | (now.lift < LEFT * self.min_lift) | ~known)
        moved = was_told & (self._differ(now.support, records["support"]) | self._differ(now.lift, records["lift"]))
        risen = ~was_told & (now.support >= self.min_support) & (now.lift >= self.min_lift) & known
        self._watched.keep(records[~gone])
        changed = now.told((moved & ~faded) | risen)
        return changed + [FrequentSequence(one.states, 0.0, 0.0, 0.0, 0.0, 0.0) for one in now.told(faded)]

    def _differ(self, now: Any, then: Any) -> Any:
        return (now >= then * (1 + self.growth)) | (now * (1 + self.growth) <= then)

    def describe(self, states: Any, time_s: float) -> FrequentSequence:
        """The support, lift and significance of a sequence of two or three states as of ``time_s``."""
        states = tuple(int(state) for state in states)
        if len(states) not in (_PAIR, _TRIPLE):
            raise ValueError(f"states must be two or three, got {len(states)}")
        return self._measured(np.array([_key(states)]), time_s).told()[0]

    def _measured(self, keys: Any, time_s: float) -> _Measured:
        events, pairs, triples = self._counts.totals(time_s)
        absent = np.full(len(keys), NO_STATE)
        (support, most), (_, first), (_, middle), (_, last), (joined, _) = (
            self._counts.bounds_of(np.stack(part, axis=1), time_s)
            for part in (
                (keys[:, 0], keys[:, 1], keys[:, 2]), (absent, absent, keys[:, 0]), (absent, keys[:, 1], absent),
                (absent, absent, keys[:, 2]), (absent, keys[:, 1], keys[:, 2]),
            )
        )  # fmt: skip
        # All that follows the middle state is counted here, of what follows other states one part.
        everywhere = middle + self.parts * np.maximum(events - middle, 0.0)
        last = (joined + self.parts * np.maximum(last - joined, 0.0)) / np.maximum(everywhere, 1e-300)
        first, middle = first / max(events, 1e-300), middle / max(pairs, 1e-300)
        long = keys[:, 0] != NO_STATE
        alike = np.where(long, triples, pairs)
        return _Measured(keys, support, most - support, alike, alike * np.where(long, first, 1.0) * middle * last)

    def frequent(self, time_s: float, length: int | None = None) -> list[FrequentSequence]:
        """All frequent sequences as of ``time_s``, whoever does them, most significant first."""
        keys, counts, _ = self._counts.heaviest(time_s, self.min_support)
        joined = (counts >= self.min_support) & (keys[:, 1] != NO_STATE) & (keys[:, 2] != NO_STATE)
        found = [
            one for one in self._measured(keys[joined], time_s).told()
            if one.lift >= self.min_lift and length in (None, len(one.states))
        ]  # fmt: skip
        return sorted(found, key=lambda s: (-s.significance, -s.support, s.states))

    @property
    def watched(self) -> int:
        """How many sequences have been frequent of late, told or not."""
        return len(self._watched)

    def to_bytes(self) -> bytes:
        """The whole object; :meth:`from_bytes` goes on exactly like this one."""
        parts: dict[str, Any] = {name: getattr(self, name) for name in (*ASKED, "_now_s", "_reviewed_s")}
        parts |= {"counts": self._counts.to_bytes(), "watched": self._watched.records.tobytes()}
        return encode_payload(_FORMAT, parts)

    @classmethod
    def from_bytes(cls, payload: bytes, **asked: float) -> FrequentSequences:
        """The object of :meth:`to_bytes`; what is ``asked`` (any of ``ASKED``) holds in place of what was then.

        Raises ValueError for any other payload.
        """
        parts = decode_payload(_FORMAT, payload)
        frequent = cls(**{name: parts[name] for name in ASKED} | asked)
        frequent._counts = SequenceCounts.from_bytes(parts["counts"])
        frequent._watched = WatchedSequences(np.frombuffer(parts["watched"], WATCHED).copy())
        frequent._now_s, frequent._reviewed_s = parts["_now_s"], parts["_reviewed_s"]
        return frequent


def _key(states: tuple[int, ...]) -> tuple[int, int, int]:
    padded = (NO_STATE,) * (3 - len(states)) + states
    return padded[0], padded[1], padded[2]


def _keys_of(records: Any) -> Any:
    return np.stack([records["a"], records["b"], records["c"]], axis=1)
