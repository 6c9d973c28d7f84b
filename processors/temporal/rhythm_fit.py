"""The rhythm of one key: bumps over the day or week on top of the population's, added while the data ask for them."""

import math
from typing import NamedTuple

import numpy as np

from processors.temporal import rhythm_likelihood as rhythm
from processors.temporal.arrays import Floats
from processors.temporal.detection import Window


class Rhythm(NamedTuple):
    """The first bump (hours in the window's time), the evidence of all bumps, and the density at the events."""

    period_h: float
    peak_h: float
    sigma: float
    share: float
    log_evidence: float
    b: Floats


def find_rhythm(window: Window) -> Rhythm | None:
    """The key's own rhythm; None when the events span less than two cycles of any.

    A first bump that the data do not ask for has negative evidence and leaves the density as it is.
    """
    first: tuple[float, float, float, float] | None = None
    total = 0.0
    b = window.b
    evidence = np.empty(len(rhythm.PERIODS_H))
    bump = np.empty(5)
    for _ in range(rhythm.MAX_BUMPS):
        rhythm.fit_bump(window.t_h, b, window.span_h, evidence, bump)
        top = float(evidence.max())
        if top <= rhythm.IMPOSSIBLE:
            return None
        gain = top + math.log(float(np.exp(evidence - top).sum()) / len(evidence))
        if gain <= 0.0 and first:
            break
        period_h = float(rhythm.PERIODS_H[int(bump[1])])
        phase, sigma, share = float(bump[2]), float(bump[3]), float(bump[4])
        total += gain
        first = first or (period_h, phase * period_h, sigma, share)
        if gain <= 0.0:
            break
        b = (1 - share) * b + share * rhythm.bump_density(window.t_h, period_h, phase, sigma)
    return Rhythm(*first, total, b) if first else None
