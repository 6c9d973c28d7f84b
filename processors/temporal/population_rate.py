"""How busy the population is in each hour of the week, learned online: the null hypothesis of every period."""

import numpy as np
from numba import njit

from processors.temporal.arrays import Bools, Floats, Ints
from processors.temporal.periods import HOUR_S, HOURS_PER_WEEK

# 1970-01-01 was a Thursday: this shift makes hour 0 of the week Monday 00:00.
EPOCH_SHIFT_H = 72
# Pseudo-events: per hour of the day towards a flat day, per hour of the week towards the mean day.
_DAY_PSEUDO = 40.0
_WEEK_PSEUDO = 40.0
# A few keys in step must not make the population look so peaked that their own period is explained away.
_MIN_DENSITY, _MAX_DENSITY = 0.1, 4.0
_RESCALE_AT = 30.0


@njit(cache=True)
def hour_of_week(second: float) -> int:
    """Monday 00:00 is hour 0."""
    return int((np.int64(second) // 3600 + EPOCH_SHIFT_H) % 168)


def hours_of_week(time_s: Floats) -> Ints:
    """Hour of the week of each time; Monday 00:00 is hour 0."""
    return np.asarray((np.floor(time_s / HOUR_S).astype(np.int64) + EPOCH_SHIFT_H) % HOURS_PER_WEEK)


@njit(cache=True)
def _add(counts: Floats, origin_s: float, half_life_s: float, time_s: Floats, kept: Bools) -> float:
    for i in range(len(time_s)):
        if not kept[i]:
            continue
        age = (time_s[i] - origin_s) / half_life_s
        if age > _RESCALE_AT:
            counts *= 2.0**-age
            origin_s = time_s[i]
            age = 0.0
        counts[hour_of_week(time_s[i])] += 2.0**age
    return origin_s


class PopulationRate:
    """Decayed event counts by hour of week, read as a density relative to a constant rate.

    Forward decay (Cormode et al., ICDE 2009): an event's weight grows with its time, so late events need no special
    case and batches of any size give the same result. O(1) per event.
    """

    def __init__(self, half_life_s: float) -> None:
        self.half_life_s = half_life_s
        self.counts = np.zeros(HOURS_PER_WEEK)
        self.origin_s = -np.inf
        self.latest_s = -np.inf

    def update(self, time_s: Floats, kept: Bools) -> None:
        """Count the events where `kept` is true."""
        if not kept.any():
            return
        self.latest_s = max(self.latest_s, float(time_s[kept].max()))
        if self.origin_s == -np.inf:
            self.origin_s = float(time_s[kept][0])
        self.origin_s = float(_add(self.counts, self.origin_s, self.half_life_s, time_s, kept))

    def density_without(self, own_time_s: Floats, own_count: int) -> Floats:
        """Relative density per hour of week (float64[168], mean about 1) without one key's own events.

        Of a key with more events than its ring holds, the ring's times stand for the rest.
        """
        now = 2.0 ** (-(self.latest_s - self.origin_s) / self.half_life_s)
        counts = self.counts * now
        if len(own_time_s):
            weights = 2.0 ** ((own_time_s - self.latest_s) / self.half_life_s) * (own_count / len(own_time_s))
            own = np.bincount(hours_of_week(own_time_s), weights, HOURS_PER_WEEK)
            counts = np.maximum(counts - own, 0.0)
        by_day = counts.reshape(7, 24)
        day = by_day.sum(axis=0) + _DAY_PSEUDO
        day /= day.mean()
        week = by_day + _WEEK_PSEUDO * day
        density = (week / week.mean()).ravel()
        clipped = np.clip(density, _MIN_DENSITY, _MAX_DENSITY)
        return np.asarray(clipped / clipped.mean())
