"""What follows what among the states of one kind, in the whole population: transitions and frequent sequences."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from processors.quality import PatternBook, best_of
from processors.sequence import NO_STATE, FrequentSequence, FrequentSequences, TransitionCounts
from schemas.patterns import Pattern, PatternQuality, SequenceUpdate, StateKind, TransitionUpdate
from streams.stages.columns import Floats, Ints
from streams.stages.growth import GrowthLedger
from streams.stages.mixing import pair_codes
from streams.stages.names import Names
from streams.stages.packing import pack_arrays, unpack_arrays
from streams.stages.settings import TransitionStageSettings
from streams.stages.transition_quality import best_followers
from streams.stages.user_messages import named_shares

MS = 1000.0


class Following:
    """Decayed counts of what follows a state, and which of it has changed enough to be published.

    A from-state is published when its support has grown by a share, and after many more events; a sequence when it is frequent
    among enough people, when it has moved, and, without support, when it has faded. This is one of ``parts`` among which the
    from-states are divided.
    """

    def __init__(self, kind: StateKind, settings: TransitionStageSettings, parts: int) -> None:
        self.kind = kind
        self.settings = settings
        self.counts = TransitionCounts(settings.counts)
        self.ledger = GrowthLedger(
            min_support=settings.min_support, growth=settings.growth, at_most=settings.at_most,
            max_keys=settings.counts.max_contexts,
        )  # fmt: skip
        self.book = PatternBook(settings.max_published)
        self._asked: dict[str, Any] = {
            "min_support": settings.sequence_min_support, "min_lift": settings.sequence_min_lift,
            "growth": settings.growth, "min_owners": settings.min_users, "parts": parts,
        }  # fmt: skip
        self.sequences = FrequentSequences(
            half_life_s=settings.counts.half_life_s, max_sequences=settings.max_sequences, **self._asked
        )
        self.sequence_book = PatternBook(settings.max_published)
        self._due = np.empty(0, np.int64)
        self._moved: list[FrequentSequence] = []

    def absorb(self, previous: Ints, last: Ints, state: Ints, user: Ints, time_s: Floats) -> int:
        """Count transitions from ``last``, which came after ``previous`` or after nothing; the contexts evicted. O(rows)."""
        evicted = self.counts.update(last, state, time_s).evicted
        self._due = self.ledger.due(last)
        self._moved = self.sequences.update(np.stack([previous, last], axis=1), state, time_s, user)
        return len(evicted)

    def due(self, version: int, now_s: float, names: Names) -> list[Pattern]:
        """The messages of what the rows since the last call have changed, at most one per key."""
        due, self._due = self._due, np.empty(0, np.int64)
        moved, self._moved = self._moved, []
        updates = self._transitions(due, version, now_s, names) if len(due) else []
        updates += [update for one in moved if (update := self._sequence(one, version, now_s, names)) is not None]
        return updates

    def _transitions(self, due: Ints, version: int, now_s: float, names: Names) -> list[Pattern]:
        """What follows the from-states ``due``, but those whose id is forgotten or that are no longer held."""
        name_of = {code: name for code in due.tolist() if (name := names.get(code)) is not None}
        due = np.array(list(name_of), np.int64)
        listed = self.counts.heaviest(due, now_s, self.settings.published_next_states)
        held = listed.total > 0
        shares = (listed.counts / np.where(held, listed.total, 1.0)[:, None]).tolist()
        columns = (
            due.tolist(), listed.states.tolist(), shares, listed.total.tolist(), self.ledger.seen(due).tolist(),
            best_followers(self.counts, listed, now_s), held.tolist(),
        )  # fmt: skip
        return [
            TransitionUpdate(
                state_kind=self.kind, from_state=name_of[code], version=version, event_time_ms=int(now_s * MS),
                next_states=named_shares(zip(states, share, strict=True), names), total=total,
                quality=self.book.record(
                    code, time_s=now_s, claim=states[0], support=float(support), significance=significance
                ),
            )
            for code, states, share, total, support, significance, known in zip(*columns, strict=True) if known
        ]  # fmt: skip

    def _sequence(self, one: FrequentSequence, version: int, now_s: float, names: Names) -> Pattern | None:
        states = [name for code in one.states if (name := names.get(code)) is not None]
        if len(states) < len(one.states):
            return None
        return SequenceUpdate(
            state_kind=self.kind, states=states, version=version, event_time_ms=int(now_s * MS),
            support=one.support, lift=one.lift, quality=self._sequence_quality(one, now_s),
        )  # fmt: skip

    def _sequence_quality(self, one: FrequentSequence, now_s: float) -> PatternQuality | None:
        """A sequence claims its lift, to the nearest power of two; it is the best of all that are counted."""
        key = _sequence_key(one.states)
        if one.support == 0:
            self.sequence_book.retire(key)
            return None
        return self.sequence_book.record(
            key, time_s=now_s, claim=round(np.log2(one.lift)), support=one.support,
            significance=best_of(one.significance, len(self.sequences.counts)),
        )  # fmt: skip

    def sizes(self) -> dict[str, int]:
        """How much is held, by kind."""
        return {"transitions": self.counts.n_transitions, "sequences": len(self.sequences.counts)}

    def blobs(self) -> dict[str, bytes]:
        """The whole state."""
        return {
            "counts": self.counts.to_bytes(),
            "ledger": pack_arrays(self.ledger.state()),
            "book": self.book.to_bytes(),
            "sequences": self.sequences.to_bytes(),
            "sequence_book": self.sequence_book.to_bytes(),
        }

    def load(self, blobs: Mapping[str, bytes]) -> None:
        """Become the object of ``blobs()``."""
        self.counts = TransitionCounts.from_bytes(blobs["counts"])
        self.ledger.load(unpack_arrays(blobs["ledger"]))
        if "book" in blobs:  # states written before patterns had lives
            self.book = PatternBook.from_bytes(blobs["book"])
        if "sequences" in blobs:  # states written before there were sequences
            self.sequences = FrequentSequences.from_bytes(blobs["sequences"], **self._asked)
            self.sequence_book = PatternBook.from_bytes(blobs["sequence_book"])


def _sequence_key(states: tuple[int, ...]) -> int:
    key = np.full(1, NO_STATE)
    for state in states:
        key = pair_codes(key, np.array([state]))
    return int(key[0])
