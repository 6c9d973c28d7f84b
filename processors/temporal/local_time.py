"""Local time from where a place is: the hour people there live by, without a map of time zones."""

import numpy as np
import numpy.typing as npt

from processors.temporal.arrays import Floats
from processors.temporal.periods import HOUR_S


def nautical_offset_s(lon: npt.ArrayLike) -> Floats:
    """Seconds to add to UTC for the nautical time zone of a longitude (degrees east): whole hours, 15 degrees each.

    Within about an hour of civil time nearly everywhere and without daylight saving, which is enough for an hour-of-week
    profile that is smoothed by an hour. Where the offset is known (a column of the data), use that instead.

    Raises:
        ValueError: a longitude is not in [-180, 180].

    >>> (nautical_offset_s([-74.0, 0.1, 139.7]) / 3600).tolist()
    [-5.0, 0.0, 9.0]
    """
    degrees = np.asarray(lon, np.float64)
    if degrees.size and not np.all(np.abs(degrees) <= 180.0):
        raise ValueError("lon must be in [-180, 180]")
    return np.rint(degrees / 15.0) * HOUR_S
