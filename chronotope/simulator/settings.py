"""What a simulated city is like; everything random follows from the seed."""

import msgspec

MONDAY_2025_MS = 1_736_121_600_000  # 2025-01-06T00:00:00Z


class SimulatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes, rates and shares of a simulation; ``days`` of None never ends. Raises ValueError for an impossible value.

    Exploration and preferential return as in Song, Koren, Wang and Barabasi (Nature Physics 6, 2010): with S places known,
    a user explores with probability ``rho * S ** -gamma``.
    """

    seed: int = 0
    users: int = 200
    places: int = 500
    days: int | None = 21
    start_ms: int = MONDAY_2025_MS
    events_per_day: float = 4.0
    rho: float = 0.6
    gamma: float = 0.21
    distance_scale_m: float = 1500.0
    habit_share: float = 0.3
    habit_jitter_s: float = 600.0
    habit_missed: float = 0.1
    follow_ups: int = 30
    follow_up_probability: float = 0.6
    crowds_per_day: float = 0.5
    crowd_users: int = 40

    def __post_init__(self) -> None:
        for name in ("users", "places"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2, got {getattr(self, name)}")
        if self.days is not None and self.days < 1:
            raise ValueError(f"days must be at least 1, got {self.days}")
        if not self.events_per_day > 0:
            raise ValueError(f"events_per_day must be positive, got {self.events_per_day}")
        for name in ("rho", "habit_share", "habit_missed", "follow_up_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
