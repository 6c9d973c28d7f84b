"""When in the week an entity is active: a decayed, smoothed profile over 168 local hours."""

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from processors.temporal.arrays import Floats, Ints
from processors.temporal.bank import checked_events
from processors.temporal.periods import DAY_S, HOUR_S, HOURS_PER_WEEK
from processors.temporal.population_rate import hours_of_week

_RESCALE_AT = 20.0
_FIRST_CAPACITY = 256


class HourProfileSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `HourProfiles`.

    `smoothing_h`: standard deviation of the circular Gaussian kernel. `prior_events`: pseudo-events that pull an
    entity's profile towards everybody's.
    """

    half_life_s: float = 60 * DAY_S
    smoothing_h: float = 1.0
    prior_events: float = 20.0
    max_keys: int = 100_000

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: names the setting that is out of range.
        """
        for name, is_fine in (
            ("half_life_s", 0 < self.half_life_s < float("inf")),
            ("smoothing_h", 0 < self.smoothing_h <= 12),
            ("prior_events", self.prior_events > 0),
            ("max_keys", self.max_keys >= 1),
        ):
            if not is_fine:
                raise ValueError(f"{name} is out of range: {getattr(self, name)!r}")


class ProfileChanges(NamedTuple):
    """Keys with new events (each once), and keys that had to go."""

    touched: Ints
    evicted: Ints


class _State(msgspec.Struct, frozen=True, array_like=True):
    settings: HourProfileSettings
    keys: bytes
    counts: bytes
    everybody: bytes
    origin_s: float
    latest_s: float
    evicted_keys: int


class HourProfiles:
    """Share of an entity's events in each local hour of the week; hour 0 is Monday 00:00.

    Counts decay with `half_life_s` (forward decay, so late events need no special case). A profile is the counts
    smoothed over neighbouring hours and over the same hour of other days, pulled towards everybody's by
    `prior_events`. At most `max_keys` are held; the least active go. O(1) per event, 1.4 KB per key.

    >>> profiles = HourProfiles()
    >>> mondays_9h = 1_700_470_800.0 + 7 * 86400 * np.arange(30)
    >>> _ = profiles.update(np.full(30, 1), mondays_9h)
    >>> int(profiles.profile(1).argmax())
    9
    """

    def __init__(self, settings: HourProfileSettings | None = None) -> None:
        self.settings = settings if settings is not None else HourProfileSettings()
        self.evicted_keys = 0
        self._slot: dict[int, int] = {}
        self._key = np.zeros(_FIRST_CAPACITY, np.int64)
        self._counts = np.zeros((_FIRST_CAPACITY, HOURS_PER_WEEK))
        self._everybody = np.zeros(HOURS_PER_WEEK)
        self._origin_s = np.nan
        self._latest_s = -np.inf

    def __len__(self) -> int:
        """Number of keys held."""
        return len(self._slot)

    def update(self, keys: npt.ArrayLike, time_s: npt.ArrayLike, utc_offset_s: npt.ArrayLike = 0.0) -> ProfileChanges:
        """Absorb events: keys int64[n], time_s float64[n] (UTC), utc_offset_s float64[n] or one number.

        The calendar is local: the offset comes from the data or from `nautical_offset_s` of the place's longitude.

        Raises:
            TypeError, ValueError: as `PeriodicityBank.update`, or an offset beyond 18 hours; nothing changes then.
        """
        keys, time_s = checked_events(keys, time_s)
        offset_s = np.broadcast_to(np.asarray(utc_offset_s, np.float64), time_s.shape)
        if offset_s.size and not np.all(np.abs(offset_s) <= 18 * HOUR_S):
            raise ValueError("utc_offset_s must be finite and at most 18 hours")
        if not len(keys):
            return ProfileChanges(keys, keys)
        unique, index = np.unique(keys, return_inverse=True)
        slots = self._slots_of(unique)
        weight = self._weights(time_s)
        hours = hours_of_week(time_s + offset_s)
        np.add.at(self._counts, (slots[index], hours), weight)
        np.add.at(self._everybody, hours, weight)
        return ProfileChanges(unique, self._evict())

    def _slots_of(self, unique: Ints) -> Ints:
        for key in unique.tolist():
            if key not in self._slot:
                slot = len(self._slot)
                if slot == len(self._key):
                    self._key = np.concatenate([self._key, np.zeros_like(self._key)])
                    self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
                self._slot[key], self._key[slot] = slot, key
                self._counts[slot] = 0.0
        return np.fromiter((self._slot[key] for key in unique.tolist()), np.int64, len(unique))

    def _weights(self, time_s: Floats) -> Floats:
        if np.isnan(self._origin_s):
            self._origin_s = float(time_s[0])
        self._latest_s = max(self._latest_s, float(time_s.max()))
        latest = (float(time_s.max()) - self._origin_s) / self.settings.half_life_s
        if latest > _RESCALE_AT:
            self._counts *= 2.0**-latest
            self._everybody *= 2.0**-latest
            self._origin_s = float(time_s.max())
        return np.asarray(2.0 ** ((time_s - self._origin_s) / self.settings.half_life_s))

    def _evict(self) -> Ints:
        n = len(self._slot)
        excess = n - self.settings.max_keys
        if excess <= 0:
            return np.empty(0, np.int64)
        keep = np.sort(np.argsort(-self._counts[:n].sum(axis=1), kind="stable")[: n - excess])
        gone = np.setdiff1d(self._key[:n], self._key[keep])
        self._key[: len(keep)], self._counts[: len(keep)] = self._key[keep], self._counts[keep]
        self._slot = {key: slot for slot, key in enumerate(self._key[: len(keep)].tolist())}
        self.evicted_keys += excess
        return gone

    def everybody(self) -> Floats:
        """The population's smoothed profile, float64[168], sum 1; flat before the first event."""
        flat = np.full(HOURS_PER_WEEK, 1.0 / HOURS_PER_WEEK)
        return self._shrunk(self._everybody, flat)

    def profile(self, key: int) -> Floats:
        """The key's smoothed profile, float64[168], sum 1; everybody's for an unknown key. Microseconds."""
        slot = self._slot.get(key)
        return self.everybody() if slot is None else self._shrunk(self._counts[slot], self.everybody())

    def _shrunk(self, weights: Floats, towards: Floats) -> Floats:
        """Hours of the week pulled towards the entity's own mean day, and that towards another profile."""
        counts = weights / self._newest_weight() if np.isfinite(self._latest_s) else weights
        events = counts.sum()
        prior = self.settings.prior_events
        by_day = np.tile(counts.reshape(7, 24).sum(axis=0), 7) / 7
        mean_day = (self._smoothed(by_day) + prior * towards) / (events + prior)
        return np.asarray((self._smoothed(counts) + prior * mean_day) / (events + prior))

    def _smoothed(self, counts: Floats) -> Floats:
        lag = np.arange(HOURS_PER_WEEK)
        distance = np.minimum(lag, HOURS_PER_WEEK - lag)
        kernel = np.exp(-0.5 * (distance / self.settings.smoothing_h) ** 2)
        return np.asarray(np.fft.irfft(np.fft.rfft(counts) * np.fft.rfft(kernel / kernel.sum()), HOURS_PER_WEEK))

    def _newest_weight(self) -> float:
        """Weight of an event of now, which makes decayed counts comparable with pseudo-events."""
        return float(2.0 ** ((self._latest_s - self._origin_s) / self.settings.half_life_s))

    def lift(self, key: int, time_s: float, utc_offset_s: float = 0.0) -> float:
        """How much likelier the key is to be active in this hour than in an average one."""
        hour = int(hours_of_week(np.array([time_s + utc_offset_s]))[0])
        return float(self.profile(key)[hour] * HOURS_PER_WEEK)

    def to_bytes(self) -> bytes:
        """Settings and state."""
        n = len(self._slot)
        state = _State(
            self.settings,
            self._key[:n].tobytes(),
            self._counts[:n].tobytes(),
            self._everybody.tobytes(),
            self._origin_s,
            self._latest_s,
            self.evicted_keys,
        )
        return msgspec.msgpack.encode(state)

    @classmethod
    def from_bytes(cls, data: bytes) -> "HourProfiles":
        """Profiles from `to_bytes`.

        Raises:
            ValueError: not the state of profiles.
        """
        try:
            state = msgspec.msgpack.decode(data, type=_State)
        except msgspec.MsgspecError as error:
            raise ValueError(f"data cannot be decoded: {error}") from error
        n, rest = divmod(len(state.keys), 8)
        if rest or len(state.counts) != 8 * n * HOURS_PER_WEEK or len(state.everybody) != 8 * HOURS_PER_WEEK:
            raise ValueError("data is not the state of profiles: its columns do not fit")
        profiles = cls(state.settings)
        profiles._key = np.resize(np.frombuffer(state.keys, np.int64), max(n, _FIRST_CAPACITY))
        profiles._counts = np.zeros((max(n, _FIRST_CAPACITY), HOURS_PER_WEEK))
        profiles._counts[:n] = np.frombuffer(state.counts).reshape(n, HOURS_PER_WEEK)
        profiles._everybody = np.frombuffer(state.everybody).copy()
        profiles._slot = {key: slot for slot, key in enumerate(profiles._key[:n].tolist())}
        profiles._origin_s, profiles._latest_s = state.origin_s, state.latest_s
        profiles.evicted_keys = state.evicted_keys
        return profiles
