"""A key's own daily and weekly rhythm: a Poisson rate that differs from the population's.

The rate is the population's plus a few bumps (wrapped Gaussians over 12 h, a day or a week), added one at a time. A
bump's evidence is its likelihood ratio averaged over hour, width and share, so a bump that the data do not ask for
lowers the evidence and is not kept. Unlike a clock, any number of events may fall into one cycle.
"""

import numpy as np
from numba import njit

PERIODS_H = np.array([24.0, 168.0, 12.0])
SIGMAS = np.array([0.02, 0.05, 0.1, 0.17, 0.25])
SHARES = np.array([0.25, 0.5, 0.75, 0.95])
PHASES = 32
MAX_BUMPS = 3


@njit(cache=True, fastmath=True)
def fit_bump(t_h, b, span_h, evidence, bump):
    """Best bump on top of the density `b` at the events.

    `evidence[period]` = log likelihood ratio averaged over phase, width and share; `bump = (log ratio, period index,
    phase, sigma, share)` is the best single one. Periods with less than two cycles in the span are left out (-1e300).
    """
    n = len(t_h)
    value = np.empty(n)
    bump[0] = -1e300
    for p in range(len(PERIODS_H)):
        evidence[p] = -1e300
        if span_h < 2.0 * PERIODS_H[p]:
            continue
        top = -1e300
        total = 0.0
        for s in range(len(SIGMAS)):
            norm = 1.0 / (SIGMAS[s] * np.sqrt(2 * np.pi))
            for m in range(PHASES):
                for i in range(n):
                    delta = t_h[i] / PERIODS_H[p] - m / PHASES
                    delta -= np.floor(delta + 0.5)
                    x = delta / SIGMAS[s]
                    y = (1.0 - abs(delta)) / SIGMAS[s]
                    value[i] = norm * (np.exp(-0.5 * x * x) + np.exp(-0.5 * y * y)) / b[i]
                for k in range(len(SHARES)):
                    product = 1.0
                    log_ratio = 0.0
                    for i in range(n):
                        product *= 1.0 - SHARES[k] + SHARES[k] * value[i]
                        if i & 15 == 15:
                            log_ratio += np.log(product)
                            product = 1.0
                    log_ratio += np.log(product)
                    if log_ratio > bump[0]:
                        bump[0] = log_ratio
                        bump[1] = p
                        bump[2] = m / PHASES
                        bump[3] = SIGMAS[s]
                        bump[4] = SHARES[k]
                    if log_ratio > top:
                        total = total * np.exp(top - log_ratio)
                        top = log_ratio
                    total += np.exp(log_ratio - top)
        evidence[p] = top + np.log(total / (len(SIGMAS) * PHASES * len(SHARES)))


def bump_density(t_h: np.ndarray, period_h: float, phase: float, sigma: float) -> np.ndarray:
    """Density of a bump at times, relative to a constant rate."""
    delta = t_h / period_h - phase
    delta = delta - np.floor(delta + 0.5)
    turns = np.stack([delta, 1.0 - np.abs(delta)])
    return np.asarray(np.exp(-0.5 * (turns / sigma) ** 2).sum(axis=0) / (sigma * np.sqrt(2 * np.pi)))
