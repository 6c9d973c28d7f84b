"""What the bank is told and what it answers: its settings and a found period."""

from typing import Literal

import msgspec

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
WEEK_S = 7 * DAY_S
HOURS_PER_WEEK = 168

Kind = Literal["recurring", "rhythm"]


class Period(msgspec.Struct, frozen=True):
    """One period of one key; a time t belongs to it when (t - phase_s) mod period_s is near 0.

    `recurring`: about one event per cycle, at its hour, more regular than the key's own daily and weekly rhythm
    explains. `rhythm`: the key's rate over the day or week differs from the population's, but its events do not come
    once per cycle.

    `strength` is the evidence against the population's rhythm as -log10 of a p-value (not capped at 0). `p_value` is
    against the null of the kind: for `recurring` the key's own rhythm is part of the null. Both count every period tried
    (docs/temporal.md says how they are calibrated).
    `jitter_s` is the standard deviation around the due time, `hit_rate` the share of cycles that had their event.
    """

    period_s: float
    phase_s: float
    kind: Kind
    strength: float
    p_value: float
    next_due_s: float
    jitter_s: float
    hit_rate: float


class PeriodicitySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a `PeriodicityBank`; the defaults suit months of a person's events.

    `merge_gap_s`: an event this near another one of its key is the same occurrence (a session, a double click).
    `max_p_value`: what `detect` reports; wide, since each answer carries its p-value. `max_published_p_value`: what
    `examine` publishes. `calendar_prior`: prior probability, given a period at all, that it is exactly 12 h, 24 h or 168 h.
    `population_half_life_s`: how fast the learned population rhythm forgets.
    """

    min_period_s: float = 6 * HOUR_S
    max_period_s: float = 20 * DAY_S
    min_events: int = 6
    max_p_value: float = 0.5
    max_published_p_value: float = 0.01
    max_periods: int = 3
    merge_gap_s: float = 0.25 * HOUR_S
    calendar_prior: float = 0.5
    population_half_life_s: float = 60 * DAY_S
    max_keys: int = 1_000_000

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: names the setting that is out of range.
        """
        checks = (
            ("min_period_s", 0 < self.min_period_s < self.max_period_s < float("inf")),
            ("min_events", self.min_events >= 4),
            ("max_p_value", 0 < self.max_p_value <= 1),
            ("max_published_p_value", 0 < self.max_published_p_value <= self.max_p_value),
            ("max_periods", self.max_periods >= 1),
            ("merge_gap_s", 0 <= self.merge_gap_s < self.min_period_s),
            ("calendar_prior", 0 <= self.calendar_prior < 1),
            ("population_half_life_s", 0 < self.population_half_life_s < float("inf")),
            ("max_keys", 1 <= self.max_keys < 2**31),
        )
        for name, is_fine in checks:
            if not is_fine:
                raise ValueError(f"{name} is out of range: {getattr(self, name)!r}")
