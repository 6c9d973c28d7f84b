"""Periods of entities as a stage keeps them: the bank, who its keys are, and what to publish of its findings."""

from collections.abc import Callable

import numpy as np

from processors.temporal import Period, PeriodChange, PeriodicityBank, PeriodicitySettings
from schemas.patterns import Pattern, PatternQuality, PeriodEstimate, PeriodicityUpdate

MS = 1000
Naming = Callable[[int], "dict[str, str] | None"]


class PeriodWatch:
    """A bank of periodicities whose keys are examined when there is time; a change of a key's periods is published.

    ``naming`` gives the fields that name a key's entity in a message (entity_kind, entity, and for users' items both ids),
    None for a key that is forgotten.
    """

    def __init__(self, settings: PeriodicitySettings, naming: Naming) -> None:
        self.bank = PeriodicityBank(settings)
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
        changes = self.bank.examine(budget, now_s)
        # Time passed for every key, not only for those that had events: count anew before saying that there is no more.
        self._untested = max(0, self._untested - budget) or self.bank.worthwhile(now_s)
        updates = [self._message(change, now_s, version) for change in changes]
        return [update for update in updates if update is not None]

    def _message(self, change: PeriodChange, now_s: float, version: int) -> Pattern | None:
        named = self._naming(change.key)
        if named is None:
            return None
        support = float(len(self.bank.times_s(change.key)))
        best = min((period.p_value for period in change.periods), default=1.0)
        return PeriodicityUpdate(
            **named,  # type: ignore[arg-type]
            version=version,
            event_time_ms=int(now_s * MS),
            periods=[estimate(period) for period in change.periods],
            quality=PatternQuality(support=support, significance=-float(np.log10(max(best, 1e-300))), stability=1.0),
        )

    def to_bytes(self) -> bytes:
        """The whole bank."""
        return self.bank.to_bytes()

    def load(self, data: bytes) -> None:
        """Become the watch of ``to_bytes``; every key may be worth examining then."""
        self.bank = PeriodicityBank.from_bytes(data)
        self._untested = len(self.bank)


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
