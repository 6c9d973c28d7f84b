"""What was planted in a simulation, for a test or a person to look for."""

import msgspec


class Habit(msgspec.Struct, frozen=True, kw_only=True):
    """A user visits one place once per period at a fixed phase, with jitter and a missed visit now and then."""

    user_id: str
    item_id: str
    period_s: float
    phase_s: float


class FollowUp(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever visits ``from_item`` goes on to ``to_item`` with this probability."""

    from_item: str
    to_item: str
    probability: float


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """Many users gather around one spot between two times."""

    item_id: str
    lat: float
    lon: float
    start_ms: int
    end_ms: int
    users: int


class Truth(msgspec.Struct, kw_only=True):
    """Everything planted so far; crowds are added as the simulated days go by."""

    habits: list[Habit]
    follow_ups: list[FollowUp]
    crowds: list[Crowd]
