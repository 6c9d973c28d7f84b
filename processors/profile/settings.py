"""What a bank of user profiles remembers, and when a profile has moved enough to be told."""

from __future__ import annotations

import math

import msgspec

DAY_S = 86_400.0


class ProfileSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of :class:`~processors.profile.UserProfiles`.

    Args:
        half_life_s: seconds after which an event counts half.
        max_users: users held; more, and the least active eighth is dropped.
        max_items: items, categories and clusters held for one user (each; Space-Saving beyond).
        top: items, categories and clusters that a published profile lists.
        min_events: events before a user's first profile is published.
        min_move: how far a profile moves before it is published again, in [0, 1]: the total variation distance of its
            listed shares, or the difference of its explore share; or a change of its range or rate by that factor.
        min_anchor_share: the least share of the nights (weekday days) that makes a place home-like (work-like).
        min_anchor_visits: the least decayed visits there.
        night_hours: local hours [start, end) of any day in which people are at home; start > end wraps around midnight.
        work_hours: local hours [start, end) of weekdays in which people are at work.
    """

    half_life_s: float = 60 * DAY_S
    max_users: int = 200_000
    max_items: int = 256
    top: int = 8
    min_events: int = 3
    min_move: float = 0.2
    min_anchor_share: float = 0.3
    min_anchor_visits: float = 2.0
    night_hours: tuple[int, int] = (20, 7)
    work_hours: tuple[int, int] = (9, 17)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.half_life_s) and self.half_life_s > 0):
            raise ValueError(f"half_life_s must be a positive finite number of seconds, got {self.half_life_s}")
        if not 8 <= self.max_users <= 1 << 26:
            raise ValueError(f"max_users must lie in [8, 2**26], got {self.max_users}")
        if not 2 <= self.top <= self.max_items:
            raise ValueError(f"top must lie in [2, max_items], got {self.top}")
        if self.min_events < 1:
            raise ValueError(f"min_events must be at least 1, got {self.min_events}")
        if not 0 < self.min_move <= 1:
            raise ValueError(f"min_move must lie in (0, 1], got {self.min_move}")
        if not 0 < self.min_anchor_share <= 1:
            raise ValueError(f"min_anchor_share must lie in (0, 1], got {self.min_anchor_share}")
        if not self.min_anchor_visits > 0:
            raise ValueError(f"min_anchor_visits must be positive, got {self.min_anchor_visits}")
        for name in ("night_hours", "work_hours"):
            if any(not 0 <= hour <= 24 for hour in getattr(self, name)):
                raise ValueError(f"{name} must lie in [0, 24], got {getattr(self, name)}")
