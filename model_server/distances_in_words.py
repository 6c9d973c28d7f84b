"""Distances as people say them: in steps of ten metres, and of a hundred from a kilometre on."""

from functools import lru_cache

import numpy as np

from model_server.items import Floats

KM = 1000.0
FAR = 1_000  # the steps of a hundred metres count on from here
UNKNOWN = -1
NEXT_DOOR = 2  # a step below is closer than 15 m


def steps_of(distances_m: Floats) -> list[int]:
    """The step that each distance is told by, ``UNKNOWN`` for NaN.

    >>> steps_of(np.array([312.0, 2_345.0, np.nan]))
    [31, 1023, -1]
    """
    steps = np.where(distances_m < KM, distances_m / 10, distances_m / 100 + FAR)
    return np.where(np.isnan(steps), UNKNOWN, np.rint(steps)).astype(np.int64).tolist()


@lru_cache(maxsize=8_192)
def metres(step: int) -> str:
    """How a distance of this step is told.

    >>> metres(31), metres(1023)
    ('310 m', '2.3 km')
    """
    return f"{10 * step} m" if step < FAR else f"{(step - FAR) / 10:.1f} km"


@lru_cache(maxsize=8_192)
def from_last(step: int) -> str:
    """How far an item is from the last one, as people say it."""
    return "it is next to where you were last" if step < NEXT_DOOR else f"it is {metres(step)} from where you were last"
