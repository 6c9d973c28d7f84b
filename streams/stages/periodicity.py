"""Periods of entities as a stage keeps them: the bank, who its keys are, and what to publish of its findings."""

import math
from collections.abc import Callable

import msgspec
import numpy as np

from processors.quality import PatternBook, significance_of
from processors.temporal import Period, PeriodicityBank, PeriodicitySettings
from processors.temporal.examination import PeriodLook
from schemas.patterns import Pattern, PatternQuality, PeriodEstimate, PeriodicityUpdate
from streams.stages.packing import pack_blobs, unpack_blobs

MS = 1000
# A period that moved by less than this share says the same as before.
SAME_PERIOD = 0.05
Naming = Callable[[int], "dict[str, str] | None"]


class PeriodWatch:
    """A bank of periodicities whose keys are examined when there is time; a change of a key's periods is published.

    ``naming`` gives the fields that name a key's entity in a message (entity_kind, entity, and for users' items both ids),
    None for a key that is forgotten.
    """

    def __init__(self, settings: PeriodicitySettings, naming: Naming) -> None:
        self.bank = PeriodicityBank(settings)
        self.book = PatternBook(settings.max_keys)
        self._naming = naming
        self._untested = 0

    def update(self, keys: np.ndarray, time_s: np.ndarray) -> int:
        """Absorb events; the number of keys that were evicted."""
        changes = self.bank.update(keys, time_s)
        self._untested += len(changes.touched)
        return len(changes.evicted)

    @property
    def untested(self) -> int:
        """An upper bound of the keys that may be worth examining."""
        return self._untested

    def examine(self, budget: int, version: int) -> list[Pattern]:
        """Examine at most ``budget`` keys, the most worthwhile first, and tell the changes. Milliseconds per key.

        Keys that have fallen silent are among them once event time has passed the visits that they missed.
        """
        if not self._untested or budget <= 0:
            return []
        now_s = self.bank.latest_s
        looks = self.bank.look(budget, now_s)
        # Time passed for every key, not only for those that had events: count anew before saying that there is no more.
        self._untested = max(0, self._untested - budget) or self.bank.worthwhile(now_s)
        updates = [self._message(look, now_s, version) for look in looks if look.has_changed or look.periods]
        return [update for update in updates if update is not None]

    def _message(self, look: PeriodLook, now_s: float, version: int) -> Pattern | None:
        quality = self._quality(look, now_s)
        named = self._naming(look.key) if look.has_changed else None
        if named is None:
            return None
        return PeriodicityUpdate(
            **named,  # type: ignore[arg-type]
            version=version,
            event_time_ms=int(now_s * MS),
            periods=[estimate(period) for period in look.periods],
            quality=quality,
        )

    def _quality(self, look: PeriodLook, now_s: float) -> PatternQuality:
        support = float(len(self.bank.times_s(look.key)))
        if not look.periods:
            self.book.retire(look.key)
            return PatternQuality(support=support, significance=0.0, stability=0.0)
        best = min(period.p_value for period in look.periods)
        return self.book.record(
            look.key, time_s=now_s, claim=_claim(look.periods[0]), support=support, significance=significance_of(best)
        )

    def to_bytes(self) -> bytes:
        """The whole bank and the lives of its periods."""
        return pack_blobs({"bank": self.bank.to_bytes(), "book": self.book.to_bytes()})

    def load(self, data: bytes) -> None:
        """Become the watch of ``to_bytes``; every key may be worth examining then."""
        try:
            blobs = unpack_blobs(data)
        except msgspec.DecodeError:  # states written before there were books are the bank alone
            blobs = {"bank": data, "book": self.book.to_bytes()}
        self.bank, self.book = PeriodicityBank.from_bytes(blobs["bank"]), PatternBook.from_bytes(blobs["book"])
        self._untested = len(self.bank)


def _claim(period: Period) -> int:
    return 2 * round(math.log(period.period_s) / SAME_PERIOD) + (period.kind == "rhythm")


def estimate(period: Period) -> PeriodEstimate:
    """The message form of a period."""
    return PeriodEstimate(
        period_s=period.period_s,
        phase_s=period.phase_s,
        period_kind=period.kind,
        strength=period.strength,
        p_value=period.p_value,
        next_due_ms=int(period.next_due_s * MS),
    )
