"""Places that are visited together: by the same person, within a distance and a time."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numba as nb
import numpy as np

from processors.payload import decode_payload, encode_payload
from processors.quality import binomial_significance
from processors.sequence import NO_STATE, HeavyKeys, RecentStates, TransitionCounts

EARTH_RADIUS_M = 6_371_008.8
DAY_S = 86_400.0
_FORMAT = "chronotope.co_visits.1"


class CoVisit(msgspec.Struct, frozen=True):
    """How strongly ``other`` is visited together with a place.

    ``support`` is the decayed number of visits to the place that had a visit to ``other`` nearby, ``error`` what more it
    may be; ``confidence`` is that over the place's visits, ``lift`` the confidence over the share of all visits that had
    ``other`` nearby, ``participation_index`` the smaller of the two confidences (Huang, Shekhar, Xiong, TKDE 16(12), 2004);
    ``significance`` is -log10 of the p-value of so many by chance (binomial).
    """

    other: int
    support: float
    error: float
    confidence: float
    lift: float
    participation_index: float
    significance: float


class CoVisits:
    """Decayed co-visits of places, in bounded memory.

    A visit has ``other`` nearby if its visitor also visits ``other`` within ``window_s`` before or after and ``distance_m``
    away; that is counted once per visit however often ``other`` was visited. Only each user's latest ``depth`` visits are
    looked at. Counts are exact until a bound is reached, then within the error of Space-Saving for a place's neighbours
    and of lossy counting for places. O(depth^2) per event at worst.

    Args:
        distance_m: the greatest distance of two visits that belong together.
        window_s: the longest time between them.
        half_life_s: seconds after which a visit counts half.
        min_support: decayed co-visits from which a pair is worth telling.
        depth: visits looked back.
        max_neighbours, max_places, max_pairs, max_users: the bounds.

    Example:
        >>> co_visits = CoVisits(min_support=1.0, half_life_s=1e9)
        >>> station, cafe = 1, 2
        >>> co_visits.update([7, 7], [station, cafe], [0.0, 600.0], [48.0, 48.001], [11.0, 11.0]).tolist()
        [1, 2]
        >>> pair = co_visits.neighbours(station, 600.0)[0]
        >>> pair.other, round(pair.support, 3), round(pair.participation_index, 3)
        (2, 1.0, 1.0)
    """

    def __init__(
        self,
        distance_m: float = 500.0,
        window_s: float = 3 * 3600.0,
        half_life_s: float = 60 * DAY_S,
        min_support: float = 5.0,
        depth: int = 16,
        max_neighbours: int = 256,
        max_places: int = 1 << 18,
        max_pairs: int = 1 << 22,
        max_users: int = 1 << 20,
    ) -> None:
        for name, value in (("distance_m", distance_m), ("window_s", window_s), ("min_support", min_support)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        self.distance_m, self.window_s, self.min_support = float(distance_m), float(window_s), float(min_support)
        self._recent = RecentStates(depth, window_s, max_users, extras=2)
        self._pairs = TransitionCounts(
            half_life_s=half_life_s,
            max_states_per_context=max_neighbours,
            max_contexts=max_places,
            max_transitions=max_pairs,
            max_states=max_places,
        )
        self._visits = HeavyKeys(half_life_s, max_places)
        self._all_visits = HeavyKeys(half_life_s, 8)

    def update(self, users: Any, places: Any, time_s: Any, lat: Any, lon: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Count a batch of visits: the places, sorted, that have a new pair of ``min_support``.

        Args:
            users, places: int64[n].
            time_s: float64[n], each user's visits in order; a late one counts as a visit and has nothing nearby.
            lat, lon: float64[n] in degrees; NaN where unknown: such a visit has nothing nearby.

        Raises:
            TypeError: codes are not integers.
            ValueError: shapes differ, a time is not finite, a position is out of range; nothing has changed.
        """
        position = np.stack([_degrees("lat", lat, 90.0), _degrees("lon", lon, 180.0)], axis=1)
        before, when, where = self._recent.update(users, places, time_s, extras=position)
        places, times = np.asarray(places, np.int64), np.asarray(time_s, np.float64)
        keys = np.stack([np.full(len(places), NO_STATE), np.full(len(places), NO_STATE), places], axis=1)
        self._visits.add(keys, times)
        self._all_visits.add(np.zeros((len(places), 3), np.int64), times)
        room = 2 * before.size
        found = np.empty((room, 2), np.int64), np.empty(room, np.int64)
        reach = self.window_s, self.distance_m
        count = _nearby_visits(places, times, position, before, when, where, *reach, *found)
        pairs, events = found[0][:count], found[1][:count]
        self._pairs.update(pairs[:, 0], pairs[:, 1], times[events])
        return self._newly_supported(pairs, times[events])

    def _newly_supported(self, pairs: np.ndarray[Any, Any], times: np.ndarray[Any, Any]) -> Any:
        """Places with a pair whose count passed ``min_support`` in this batch."""
        if not len(pairs):
            return np.empty(0, np.int64)
        now = float(times.max())
        told = []
        unique, place = np.unique(pairs, axis=0, return_inverse=True)
        decayed = 0.5 ** ((now - times) / self._pairs.settings.half_life_s)
        added = np.bincount(place.ravel(), decayed, len(unique))
        for (here, other), fresh in zip(unique.tolist(), added.tolist(), strict=True):
            count = self._pairs.count(here, other, now)
            if count >= self.min_support > count - fresh:
                told.append(here)
        return np.unique(np.array(told, np.int64))

    def neighbours(self, place: int, time_s: float, k: int = 10) -> list[CoVisit]:
        """The places visited together with ``place`` with at least ``min_support``, most significant first."""
        others, supports = self._pairs.counts_of(int(place), time_s)
        found = [self.describe(place, other, time_s) for other in others[supports >= self.min_support].tolist()]
        return sorted(found, key=lambda pair: (-pair.significance, -pair.support, pair.other))[:k]

    def describe(self, place: int, other: int, time_s: float) -> CoVisit:
        """The measures of one pair as of ``time_s``."""
        low, high = self._pairs.count_bounds(int(place), int(other), time_s)
        back = self._pairs.count(int(other), int(place), time_s)
        visits, others_visits = (self._visits.bounds((NO_STATE, NO_STATE, int(p)), time_s)[1] for p in (place, other))
        everything = self._all_visits.bounds((0, 0, 0), time_s)[0]
        base = self._pairs.count_bounds(None, int(other), time_s)[1] / everything if everything > 0 else 0.0
        confidence = low / visits if visits > 0 else 0.0
        return CoVisit(
            other=other,
            support=low,
            error=high - low,
            confidence=confidence,
            lift=confidence / base if base > 0 else 0.0,
            participation_index=min(confidence, back / others_visits if others_visits > 0 else 0.0),
            significance=binomial_significance(min(low, visits), visits, min(base, 1.0)) if visits > 0 else 0.0,
        )

    @property
    def nbytes(self) -> int:
        return self._recent.nbytes + self._pairs.nbytes + self._visits.nbytes + self._all_visits.nbytes

    def to_bytes(self) -> bytes:
        """All counts; :meth:`from_bytes` goes on exactly like this one."""
        settings = {name: getattr(self, name) for name in ("distance_m", "window_s", "min_support")}
        banks = [bank.to_bytes() for bank in (self._recent, self._pairs, self._visits, self._all_visits)]
        return encode_payload(_FORMAT, {"settings": settings, "banks": banks})

    @classmethod
    def from_bytes(cls, payload: bytes) -> CoVisits:
        """The object of :meth:`to_bytes`. Raises ValueError for any other payload."""
        parts = decode_payload(_FORMAT, payload)
        co_visits = cls(**parts["settings"])
        recent, pairs, visits, all_visits = parts["banks"]
        co_visits._recent, co_visits._pairs = RecentStates.from_bytes(recent), TransitionCounts.from_bytes(pairs)
        co_visits._visits, co_visits._all_visits = HeavyKeys.from_bytes(visits), HeavyKeys.from_bytes(all_visits)
        return co_visits


def _degrees(name: str, values: Any, limit: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    degrees = np.ascontiguousarray(values, np.float64)
    if degrees.ndim != 1 or (np.abs(degrees) > limit).any():
        raise ValueError(f"{name} must lie in [-{limit:g}, {limit:g}], in one dimension")
    return degrees


@nb.njit(cache=True)
def _distance_m(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """Great-circle distance; NaN if a position is."""
    d_lat, d_lon = math.radians(other_lat - lat), math.radians(other_lon - lon)
    across = math.cos(math.radians(lat)) * math.cos(math.radians(other_lat)) * math.sin(d_lon / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(min(math.sin(d_lat / 2) ** 2 + across, 1.0)))


@nb.njit(cache=True)
def _nearby_visits(
    places: Any,
    times: Any,
    position: Any,
    before: Any,
    when: Any,
    where: Any,
    window_s: float,
    distance_m: float,
    pairs: Any,
    events: Any,
) -> int:
    """Write (place, other) for each visit that newly has ``other`` nearby, and the event that showed it: how many.

    The new visit has every distinct place nearby; an earlier visit nearby has the new place, unless it had it already.
    """
    count, depth = 0, before.shape[1]
    near = np.zeros(depth, np.bool_)
    for event in range(len(places)):
        here = places[event]
        for j in range(depth):
            if before[event, j] == NO_STATE:
                near[j] = False
                continue
            meters = _distance_m(position[event, 0], position[event, 1], where[event, j, 0], where[event, j, 1])
            near[j] = times[event] - when[event, j] <= window_s and meters <= distance_m
        for j in range(depth):
            other = before[event, j]
            if not near[j] or other == here:
                continue
            first = True
            for i in range(j):
                first = first and not (near[i] and before[event, i] == other)
            if first:
                pairs[count, 0], pairs[count, 1], events[count] = here, other, event
                count += 1
            had = False
            for i in range(depth):
                if before[event, i] == here and abs(when[event, i] - when[event, j]) <= window_s:
                    lat, lon = where[event, i]
                    had = had or _distance_m(lat, lon, where[event, j, 0], where[event, j, 1]) <= distance_m
            if not had:
                pairs[count, 0], pairs[count, 1], events[count] = other, here, event
                count += 1
    return count


def warm_up() -> None:
    """Compile (or read from numba's cache) the kernel, so that no user's batch waits for it."""
    CoVisits().update([1, 1], [1, 2], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0])
