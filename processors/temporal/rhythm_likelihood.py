"""A key's own daily and weekly rhythm: a Poisson rate that differs from the population's.

The rate is the population's plus a few bumps (wrapped Gaussians over 12 h, a day or a week), added one at a time. A
bump's evidence is its likelihood ratio averaged over hour, width and share, so a bump that the data do not ask for
lowers the evidence and is not kept. Unlike a clock, any number of events may fall into one cycle.
"""

import numpy as np
from numba import njit

from processors.temporal.arrays import Floats
from processors.temporal.phase_table import PHASES, phase_table

PERIODS_H = np.array([24.0, 168.0, 12.0])
SIGMAS = np.array([0.02, 0.05, 0.1, 0.17, 0.25])
SHARES = np.array([0.25, 0.5, 0.75, 0.95])
MAX_BUMPS = 3
IMPOSSIBLE = -1e300
_TABLE = phase_table(SIGMAS)


@njit(cache=True, fastmath=True)
def _bump_log_ratio(t_h: Floats, inverse_b: Floats, period_h: float, table: Floats, log_ratio: Floats) -> None:
    """log_ratio[share, phase] of one period and width; `table` is one sigma's part of the phase table."""
    n_shares = len(SHARES)
    product = np.ones((n_shares, PHASES))
    log_ratio[:] = 0.0
    for i in range(len(t_h)):
        turns = t_h[i] / period_h + 0.5
        place = (turns - np.floor(turns)) * PHASES
        phase_bin = int(place)
        part = int((place - phase_bin) * table.shape[0])
        offset = PHASES - 1 - phase_bin
        inverse = inverse_b[i]
        for k in range(n_shares):
            rest = 1.0 - SHARES[k]
            share = SHARES[k] * inverse
            for m in range(PHASES):
                product[k, m] *= rest + share * table[part, offset + m]
        if i & 31 == 31:
            log_ratio += np.log(product)
            product[:] = 1.0
    log_ratio += np.log(product)


@njit(cache=True, fastmath=True)
def fit_bump(t_h: Floats, b: Floats, span_h: float, evidence: Floats, bump: Floats) -> None:
    """Best bump on top of the density `b` at the events.

    `evidence[period]` = log likelihood ratio averaged over phase, width and share; `bump = (log ratio, period index,
    phase, sigma, share)` is the best single one. Periods with less than two cycles in the span are IMPOSSIBLE.
    """
    inverse_b = 1.0 / b
    log_ratio = np.empty((len(SHARES), PHASES))
    bump[0] = IMPOSSIBLE
    for p in range(len(PERIODS_H)):
        evidence[p] = IMPOSSIBLE
        if span_h < 2.0 * PERIODS_H[p]:
            continue
        top = IMPOSSIBLE
        total = 0.0
        for s in range(len(SIGMAS)):
            _bump_log_ratio(t_h, inverse_b, PERIODS_H[p], _TABLE[s], log_ratio)
            highest = log_ratio.max()
            if highest > bump[0]:
                at = log_ratio.argmax()
                bump[0] = highest
                bump[1] = p
                bump[2] = (at % PHASES) / PHASES
                bump[3] = SIGMAS[s]
                bump[4] = SHARES[at // PHASES]
            if highest > top:
                total *= np.exp(top - highest)
                top = highest
            total += np.exp(log_ratio - top).sum()
        evidence[p] = top + np.log(total / (len(SIGMAS) * PHASES * len(SHARES)))


def bump_density(t_h: Floats, period_h: float, phase: float, sigma: float) -> Floats:
    """Density of a bump at times, relative to a constant rate."""
    delta = t_h / period_h - phase
    delta = delta - np.floor(delta + 0.5)
    turns = np.stack([delta, 1.0 - np.abs(delta)])
    return np.asarray(np.exp(-0.5 * (turns / sigma) ** 2).sum(axis=0) / (sigma * np.sqrt(2 * np.pi)))
