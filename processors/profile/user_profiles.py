"""``UserProfiles``: what each user likes, where they live, how far and how regularly they move."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from processors.code_index import CodeIndex, Ints
from processors.growing import lengthened
from processors.payload import decode_payload, encode_payload
from processors.profile.assembly import NIGHT, WORKDAY, assemble_profiles
from processors.profile.events import ProfileEvents
from processors.profile.habits import HABITS, absorb_habits, local_hours
from processors.profile.settings import ProfileSettings
from processors.profile.user_profile import UserProfile, distance
from processors.sequence import NO_STATE, TransitionCounts
from processors.sequence.eviction import lightest_eighth

_FORMAT, _USER_FORMAT = "chronotope.user_profiles.1", "chronotope.user_profile.1"
_PUBLISHED = msgspec.msgpack.Decoder(UserProfile)


class UserProfiles:
    """Decayed profiles of many users, in one bank of packed arrays.

    Preferences are :class:`~processors.sequence.TransitionCounts` whose contexts are the users; anchors are the
    heaviest items of a user's nights and weekday days; range is the radius of gyration (Gonzalez, Hidalgo, Barabasi, Nature
    453, 2008); exploring is the share of events at items that were new to the user (Song et al., Nature Physics 6, 2010).
    O(1) per event; a profile is only looked at again when enough weight came in to have moved it.

    Args:
        settings: see :class:`ProfileSettings`; or give its fields as keywords.

    Example:
        >>> import numpy as np
        >>> profiles = UserProfiles(min_events=2)
        >>> users, times = np.array([7, 7, 7, 8]), np.array([0.0, 60.0, 120.0, 180.0])
        >>> [profile.user for profile in profiles.update(users, times, np.array([1, 1, 2, 1]))]
        [7]
        >>> profile = profiles.profile(7, 120.0)
        >>> profile.items[0][0], round(profile.items[0][1], 3), round(profile.explore_share, 3)
        (1, 0.667, 0.667)
    """

    def __init__(self, settings: ProfileSettings | None = None, **fields: Any) -> None:
        if settings is not None and fields:
            raise TypeError("give settings or its fields as keywords, not both")
        self.settings = settings if settings is not None else ProfileSettings(**fields)
        self._habits = np.zeros(64, HABITS)
        self._index = CodeIndex()
        self._published: dict[int, bytes] = {}
        self._items, self._categories, self._clusters = (self._bank(bands) for bands in (3, 1, 1))
        self.dropped_users = 0

    def _bank(self, bands: int) -> TransitionCounts:
        return TransitionCounts(
            half_life_s=self.settings.half_life_s,
            max_states_per_context=self.settings.max_items,
            max_contexts=bands * self.settings.max_users,
            max_transitions=min(max(64 * self.settings.max_users, self.settings.max_items), 1 << 28),
        )

    # -- learning

    def update(self, users: Any, time_s: Any, items: Any, **columns: Any) -> list[UserProfile]:
        """Learn a batch of events (see :meth:`learn`): the profiles that moved by ``min_move`` or are new, as of the
        user's latest event.
        """
        self.learn(users, time_s, items, **columns)
        return self._moved(list(dict.fromkeys(np.asarray(users).tolist())))

    def learn(
        self,
        users: Any,
        time_s: Any,
        items: Any,
        *,
        weights: Any = None,
        categories: Any = None,
        clusters: Any = None,
        lat: Any = None,
        lon: Any = None,
        utc_offset_s: Any = 0.0,
    ) -> None:
        """Learn a batch of events. O(events).

        Args:
            users, items: int64[n].
            time_s: float64[n], UTC, in any order; a late event counts by its own age.
            weights: float64[n] or None: what the action counts in the preferences; 1 by default.
            categories, clusters: int64[n] or None; NO_STATE where an event has none.
            lat, lon: float64[n] in degrees or None; NaN where an event has none.
            utc_offset_s: float or float64[n]: local time minus UTC, for the hours.

        Raises:
            TypeError: codes are not integers.
            ValueError: shapes differ, a time or offset is not finite, a position is out of range; nothing has changed.
        """
        events = ProfileEvents(users, time_s, items, weights, categories, clusters, lat, lon, utc_offset_s)
        # A batch never brings more users than fit, so that dropping the least active always makes room.
        piece = self.settings.max_users // 2
        for start in range(0, len(events), piece):
            self._learn(events.slice(start, start + piece))

    def _learn(self, events: ProfileEvents) -> None:
        bands = np.full(len(events.users), NO_STATE)
        hour, weekend = local_hours(events.time_s, events.utc_offset_s)
        bands[_within(hour, self.settings.night_hours)] = NIGHT
        bands[_within(hour, self.settings.work_hours) & ~weekend] = WORKDAY
        learnt = self._items.update(bands, events.items, events.time_s, events.users, events.weights)
        for bank, codes in ((self._categories, events.categories), (self._clusters, events.clusters)):
            known = np.flatnonzero(codes != NO_STATE)
            if len(known):
                nothing = np.full(len(known), NO_STATE)
                bank.update(nothing, codes[known], events.time_s[known], events.users[known], events.weights[known])
        columns = events.time_s, events.weights, learnt.novel, events.lat, events.lon, hour + 24 * weekend
        rows = self._rows(events.users)
        absorb_habits(self._habits, rows, *columns, self.settings.half_life_s)

    def _rows(self, users: Ints) -> Ints:
        """The row of each user; those without one get one."""
        room = self.settings.max_users
        while len(self) and len(self) + len(users) > room and len(self) + self._newcomers(users) > room:
            self._drop_least_active()
        held = len(self)
        rows = self._index.rows(users)
        if len(self) > len(self._habits):
            self._habits = lengthened(self._habits, max(2 * len(self._habits), len(self)))
        self._habits["user"][held : len(self)] = self._index.codes[held:]
        return rows

    def _newcomers(self, users: Ints) -> int:
        """How many users have no row."""
        unknown = users[self._index.find(users) < 0]
        return len(np.unique(unknown))

    def _drop_least_active(self) -> None:
        held = self._habits[: len(self)]
        now = held["last_s"].max()
        activity = held["count"] * 0.5 ** ((now - held["last_s"]) / self.settings.half_life_s)
        leaves, _ = lightest_eighth(activity, np.zeros(len(held)), 0.0, lambda tied: held["user"][tied])
        for user in held["user"][leaves].tolist():
            self._published.pop(user, None)
        kept = held[~leaves]
        self.dropped_users += len(held) - len(kept)
        self._habits = np.concatenate([kept, np.zeros(max(64, len(held) - len(kept)), HABITS)])
        self._index = CodeIndex(kept["user"])

    def _moved(self, users: list[int]) -> list[UserProfile]:
        """Those of the users' profiles that are due and have moved, marked as published."""
        rows = self._index.find(np.array(users, np.int64))
        rows = rows[rows >= 0]
        habits = self._habits[rows]
        told = np.array([user in self._published for user in habits["user"].tolist()], np.bool_)
        # Shares cannot have moved farther than the share of what is fresh.
        fresh = habits["fresh"] >= self.settings.min_move * habits["weight"]
        due = rows[np.where(told, fresh, habits["events"] >= self.settings.min_events)]
        self._habits["fresh"][due] = 0.0
        moved = []
        for profile in self.profiles(self._habits["user"][due], self._habits["last_s"][due]):
            before = self._published.get(profile.user)
            if before is not None and distance(_PUBLISHED.decode(before), profile) < self.settings.min_move:
                continue
            row = self._habits[self._row(profile.user)]
            row["version"] += 1
            moved.append(msgspec.structs.replace(profile, version=int(row["version"])))
            self._published[profile.user] = msgspec.msgpack.encode(moved[-1])
        return moved

    # -- reading

    def profile(self, user: int, time_s: float) -> UserProfile | None:
        """What is known of a user as of ``time_s``; None for a user who is not held. O(items of the user)."""
        return next(iter(self.profiles([user], time_s)), None)

    def profiles(self, users: Any, time_s: Any) -> list[UserProfile]:
        """What is known of those of ``users`` who are held, as of ``time_s`` (one time, or one each); microseconds a user."""
        rows = self._index.find(np.asarray(users, np.int64))
        held = rows >= 0
        if not held.any():
            return []
        times = np.asarray(time_s, np.float64)
        as_of = times if times.ndim == 0 else np.broadcast_to(times, held.shape)[held]
        banks = self._categories, self._clusters
        return assemble_profiles(self._habits[rows[held]], self._items, banks, as_of, self.settings)

    def __len__(self) -> int:
        return len(self._index)

    def _row(self, user: int) -> int:
        return int(self._index.find(np.array([user], np.int64))[0])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays and published profiles, room for growth included."""
        banks = self._items.nbytes + self._categories.nbytes + self._clusters.nbytes
        return banks + self._habits.nbytes + sum(map(len, self._published.values()))

    # -- storing

    def to_bytes(self) -> bytes:
        """The whole bank; :meth:`from_bytes` gives one that goes on exactly like this one."""
        return encode_payload(
            _FORMAT,
            {
                "settings": self.settings,
                "dropped_users": self.dropped_users,
                "habits": self._habits[: len(self)].tobytes(),
                "published": self._published,
                "banks": [bank.to_bytes() for bank in (self._items, self._categories, self._clusters)],
            },
        )

    @classmethod
    def from_bytes(cls, payload: bytes) -> UserProfiles:
        """The bank of :meth:`to_bytes`. Raises ValueError for any other payload."""
        parts = decode_payload(_FORMAT, payload)
        profiles = cls(msgspec.convert(parts["settings"], ProfileSettings))
        held = np.frombuffer(parts["habits"], HABITS)
        profiles._habits = np.concatenate([held, np.zeros(64, HABITS)])
        profiles._index = CodeIndex(held["user"])
        profiles._published = parts["published"]
        profiles.dropped_users = parts["dropped_users"]
        banks = map(TransitionCounts.from_bytes, parts["banks"])
        profiles._items, profiles._categories, profiles._clusters = banks
        return profiles

    def user_to_bytes(self, user: int) -> bytes | None:
        """All that is held of one user, for a changelog; None (a tombstone) if nothing is."""
        if self._row(user) < 0:
            return None
        rows = [self._items.context_to_bytes(band, owner=user) for band in (None, NIGHT, WORKDAY)]
        rows.append(self._categories.context_to_bytes(None, owner=user))
        rows.append(self._clusters.context_to_bytes(None, owner=user))
        habits = self._habits[self._row(user)].tobytes()
        published = self._published.get(user)
        return encode_payload(_USER_FORMAT, {"user": user, "habits": habits, "rows": rows, "published": published})

    def load_user(self, payload: bytes) -> None:
        """Put a user of :meth:`user_to_bytes` in the place of what is held of them. Raises ValueError if it cannot be."""
        parts = decode_payload(_USER_FORMAT, payload)
        banks = (self._items, self._items, self._items, self._categories, self._clusters)
        for bank, row in zip(banks, parts["rows"], strict=True):
            if row is not None:
                bank.load_context(row)
        user = parts["user"]
        self._rows(np.array([user]))
        self._habits[self._row(user)] = np.frombuffer(parts["habits"], HABITS)[0]
        if parts["published"] is not None:
            self._published[user] = parts["published"]


def _within(hour: np.ndarray[Any, Any], span: tuple[int, int]) -> np.ndarray[Any, Any]:
    start, end = span
    return (hour >= start) & (hour < end) if start <= end else (hour >= start) | (hour < end)


def warm_up() -> None:
    """Compile (or read from numba's cache) every kernel, so that no user's batch waits for it."""
    profiles = UserProfiles(min_events=1)
    one = np.ones(2, np.int64)
    profiles.update(one, np.zeros(2), one, categories=one, clusters=one, lat=np.zeros(2), lon=np.zeros(2))
