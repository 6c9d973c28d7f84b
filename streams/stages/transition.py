"""The transition stage: what follows what in the whole population, for the from-states of one partition."""

from collections.abc import Mapping

import numpy as np

from processors.quality import PatternBook
from processors.sequence import TransitionCounts
from schemas.patterns import NamedShare, Pattern, TransitionUpdate
from streams.stages.growth import GrowthLedger
from streams.stages.internal_stage import InternalStage, Rows
from streams.stages.packing import pack_arrays, unpack_arrays
from streams.stages.settings import MiningSettings
from streams.stages.transition_quality import best_follower

MS = 1000.0


class TransitionStage(InternalStage):
    """Decayed transition counts of the population; publishes a from-state whenever its support has grown by a share."""

    def __init__(self, settings: MiningSettings, partition: int) -> None:
        own = settings.transition
        super().__init__(settings, partition, max_names=own.counts.max_contexts)
        self.counts = TransitionCounts(own.counts)
        self.ledger = GrowthLedger(min_support=own.min_support, growth=own.growth, max_keys=own.counts.max_contexts)
        self.book = PatternBook(own.max_published)
        self._due = np.empty(0, np.int64)
        self._now_s = 0.0

    @property
    def event_time_s(self) -> float | None:
        """The latest event time that was absorbed, None before the first."""
        return self._now_s or None

    def sizes(self) -> dict[str, int]:
        """How much is held, by kind."""
        return super().sizes() | {"transitions": self.counts.n_transitions}

    def _absorb(self, rows: Rows) -> dict[str, int]:
        time_s = rows["time_ms"] / MS
        evicted = self.counts.update(rows["from_item"], rows["item"], time_s).evicted
        self._due = self.ledger.due(rows["from_item"])
        self._now_s = max(self._now_s, float(time_s.max()))
        return {"evicted_contexts": len(evicted)}

    def _due_patterns(self, version: int) -> list[Pattern]:
        due, self._due = self._due, np.empty(0, np.int64)
        support = self.ledger.seen(due)
        updates = [self._update(*pair, version) for pair in zip(due.tolist(), support.tolist(), strict=True)]
        return [update for update in updates if update is not None]

    def _update(self, code: int, support: int, version: int) -> Pattern | None:
        name, top = self.names.get(code), self.settings.transition.published_next_states
        states, weights = self.counts.counts_of(code, self._now_s)
        total = self.counts.total(code, self._now_s)
        if name is None or total <= 0:
            return None
        shares = [
            NamedShare(known, weight / total)
            for state, weight in zip(states[:top].tolist(), weights[:top].tolist(), strict=True)
            if (known := self.names.get(state)) is not None
        ]
        return TransitionUpdate(
            state_kind="item", from_state=name, version=version, event_time_ms=int(self._now_s * MS),
            next_states=shares, total=total,
            quality=self.book.record(
                code, time_s=self._now_s, claim=int(states[0]), support=float(support),
                significance=best_follower(self.counts, code, self._now_s, states, weights),
            ),
        )  # fmt: skip

    def _own_blobs(self) -> dict[str, bytes]:
        return {
            "counts": self.counts.to_bytes(),
            "ledger": pack_arrays(self.ledger.state()),
            "book": self.book.to_bytes(),
            "now": pack_arrays({"now_s": np.array([self._now_s])}),
        }

    def _load_blobs(self, blobs: Mapping[str, bytes]) -> None:
        self.counts = TransitionCounts.from_bytes(blobs["counts"])
        self.ledger.load(unpack_arrays(blobs["ledger"]))
        if "book" in blobs:  # states written before patterns had lives
            self.book = PatternBook.from_bytes(blobs["book"])
        self._now_s = float(unpack_arrays(blobs["now"])["now_s"][0])
