"""How well a clock explains a few event times: the marginal likelihood of a jittered clock against a background.

Model: every 1/f hours one event is due; it comes with probability q, displaced by Gaussian jitter of standard deviation
sigma / f; a share w of the events is the clock's, at most one per cycle, the rest come from the background density
b(t). The likelihood ratio to "all events come from the background" is a product over cycles,

    (1 - q + w / (1 - w) * sum over the cycle's events of g(phase) / b(t)),

and is averaged over phase, sigma, w and the frequencies of a cell. At most one per cycle settles harmonics: 2P explains
half of the events, P/2 leaves half of its cycles empty.
"""

import numpy as np
from numba import njit

from processors.temporal.arrays import Floats, Ints
from processors.temporal.phase_table import PHASES, phase_table

# Jitter per period, broad first, and share of true events: geometric and even grids over all that can be told from noise.
SIGMAS = np.array([0.23, 0.16, 0.1, 0.06, 0.03, 0.015])
SHARES = np.array([0.35, 0.6, 0.8, 0.97])
# Frequencies tried within a cell of width 1 / (4 T): narrow peaks need more.
STEPS = np.array([1, 1, 1, 2, 4, 7])
PHASE_TABLE = phase_table(SIGMAS)
_MAX_FILL = 0.97
_HUGE = 1e70
# A jitter this much (log) worse than the best broader one is not refined further.
_HOPELESS = 5.0


@njit(cache=True, fastmath=True)
def harmonic_scan(t_h: Floats, weight: Floats, f0: float, df: float, statistic: Floats) -> None:
    """H-test statistic (de Jager et al. 1989) with 4 harmonics of every frequency f0 + j df.

    `weight` flattens the shared rhythm (1 / density). The rotations are stepped and not computed anew, all events at
    once. O(frequencies x events).
    """
    n = len(t_h)
    cos_now = np.empty(n)
    sin_now = np.empty(n)
    cos_step = np.empty(n)
    sin_step = np.empty(n)
    norm = 0.0
    for i in range(n):
        cos_now[i] = np.cos(2 * np.pi * f0 * t_h[i])
        sin_now[i] = np.sin(2 * np.pi * f0 * t_h[i])
        cos_step[i] = np.cos(2 * np.pi * df * t_h[i])
        sin_step[i] = np.sin(2 * np.pi * df * t_h[i])
        norm += weight[i] * weight[i]
    norm = 2.0 / norm
    for j in range(len(statistic)):
        c_1 = s_1 = c_2 = s_2 = c_3 = s_3 = c_4 = s_4 = 0.0
        for i in range(n):
            c = cos_now[i]
            s = sin_now[i]
            w = weight[i]
            c2 = c * c - s * s
            s2 = 2 * c * s
            c_1 += w * c
            s_1 += w * s
            c_2 += w * c2
            s_2 += w * s2
            c_3 += w * (c2 * c - s2 * s)
            s_3 += w * (c2 * s + s2 * c)
            c_4 += w * (c2 * c2 - s2 * s2)
            s_4 += w * (2 * c2 * s2)
            cos_now[i] = c * cos_step[i] - s * sin_step[i]
            sin_now[i] = c * sin_step[i] + s * cos_step[i]
        z = norm * (c_1 * c_1 + s_1 * s_1)
        best = z
        z += norm * (c_2 * c_2 + s_2 * s_2)
        best = max(best, z - 4.0)
        z += norm * (c_3 * c_3 + s_3 * s_3)
        best = max(best, z - 8.0)
        z += norm * (c_4 * c_4 + s_4 * s_4)
        statistic[j] = max(best, z - 12.0)


@njit(cache=True, fastmath=True)
def clock_evidence(
    t_h: Floats,
    inverse_b: Floats,
    span_h: float,
    f: float,
    table: Floats,
    shares: Floats,
    evidence: Floats,
    best_phase: Floats,
) -> None:
    """Log likelihood ratio clock : background for one frequency and one jitter, per share, averaged over phases.

    `t_h` sorted, `table` one sigma's part of PHASE_TABLE. Fills `evidence[share]` and `best_phase[share] = (log ratio,
    phase)`. O(events x phases x shares); the inner loops have no branch, log or exp.
    """
    n = len(t_h)
    sub = table.shape[0]
    n_shares = len(shares)
    cycles = f * span_h
    phase = np.arange(PHASES) * 1.0
    cycle = np.empty(PHASES)
    same = np.empty(PHASES)
    held = np.zeros(PHASES)
    occupied = np.ones(PHASES)
    product = np.ones((n_shares, PHASES))
    scale = np.zeros((n_shares, PHASES))
    rest = np.empty(n_shares)
    odds = np.empty(n_shares)
    for k in range(n_shares):
        share = min(min(shares[k] * n / cycles, _MAX_FILL) * cycles / n, 0.98)
        rest[k] = 1.0 - share * n / cycles
        odds[k] = share / (1.0 - share)
    for i in range(n):
        turns = t_h[i] * f + 0.5
        whole = np.floor(turns)
        place = (turns - whole) * PHASES
        phase_bin = int(place)
        part = int((place - phase_bin) * sub)
        offset = PHASES - 1 - phase_bin
        inverse = inverse_b[i]
        before = whole - 1.0
        for m in range(PHASES):
            now = before if phase[m] > place else whole
            same[m] = 1.0 if now == cycle[m] or i == 0 else 0.0
            cycle[m] = now
        for k in range(n_shares):
            rest_k = rest[k]
            odds_k = odds[k]
            for m in range(PHASES):
                factor = rest_k + odds_k * held[m]
                product[k, m] *= factor + same[m] * (1.0 - factor)
        for m in range(PHASES):
            occupied[m] += 1.0 - same[m]
            held[m] = held[m] * same[m] + table[part, offset + m] * inverse
        if i & 15 == 15:
            _rescale(product, scale)
    for k in range(n_shares):
        for m in range(PHASES):
            product[k, m] *= rest[k] + odds[k] * held[m]
    _rescale(product, scale)
    _average_over_phases(product, scale, occupied, rest, odds, cycles, n, evidence, best_phase)


@njit(cache=True, fastmath=True)
def _rescale(product: Floats, scale: Floats) -> None:
    for k in range(product.shape[0]):
        for m in range(product.shape[1]):
            if product[k, m] > _HUGE:
                product[k, m] /= _HUGE
                scale[k, m] += 1.0
            elif product[k, m] < 1.0 / _HUGE:
                product[k, m] *= _HUGE
                scale[k, m] -= 1.0


@njit(cache=True, fastmath=True)
def _average_over_phases(
    product: Floats,
    scale: Floats,
    occupied: Floats,
    rest: Floats,
    odds: Floats,
    cycles: float,
    n: int,
    evidence: Floats,
    best_phase: Floats,
) -> None:
    most = occupied.max()
    power = np.empty(int(most) + 1)
    for k in range(len(rest)):
        power[0] = 1.0
        for j in range(1, len(power)):
            power[j] = power[j - 1] * rest[k]
        top = scale[k].max()
        total = 0.0
        highest = -1.0
        at = 0
        for m in range(PHASES):
            value = product[k, m] * power[int(most - occupied[m])]
            if scale[k, m] < top:
                value *= _HUGE ** max(scale[k, m] - top, -3.0)
            total += value
            if value > highest:
                highest = value
                at = m
        share = odds[k] / (1.0 + odds[k])
        base = n * np.log(1.0 - share) + share * n + max(cycles - most, 0.0) * np.log(rest[k]) + top * np.log(_HUGE)
        evidence[k] = base + np.log(max(total, 1e-300) / PHASES)
        best_phase[k, 0] = base + np.log(max(highest, 1e-300))
        best_phase[k, 1] = at / PHASES


@njit(cache=True, fastmath=True)
def scan_cells(
    t_h: Floats,
    inverse_b: Floats,
    span_h: float,
    cells: Floats,
    df: float,
    sigmas: Floats,
    steps: Ints,
    shares: Floats,
    table: Floats,
    evidence: Floats,
    best: Floats,
) -> None:
    """Marginal log likelihood ratio of every frequency cell [f - df/2, f + df/2], and its best point.

    `evidence[cell]`; `best[cell] = (log ratio, f, sigma, share, phase)`. `sigmas` from broad to narrow: where a narrower
    jitter has become hopeless the rest is left out.
    """
    n_shares = len(shares)
    per_share = np.empty(n_shares)
    best_phase = np.empty((n_shares, 2))
    for a in range(len(cells)):
        top = -1e300
        total = 0.0
        best[a, 0] = -1e300
        for s in range(len(sigmas)):
            highest = -1e300
            for step in range(steps[s]):
                f = cells[a] + df * ((step + 0.5) / steps[s] - 0.5)
                clock_evidence(t_h, inverse_b, span_h, f, table[s], shares, per_share, best_phase)
                for k in range(n_shares):
                    if best_phase[k, 0] > best[a, 0]:
                        best[a, 0] = best_phase[k, 0]
                        best[a, 1] = f
                        best[a, 2] = sigmas[s]
                        best[a, 3] = shares[k]
                        best[a, 4] = best_phase[k, 1]
                    highest = max(highest, per_share[k])
                    if per_share[k] > top:
                        total = total * np.exp(top - per_share[k])
                        top = per_share[k]
                    total += np.exp(per_share[k] - top) / steps[s]
            if s > 1 and highest < top - _HOPELESS:
                break
        evidence[a] = top + np.log(total / (len(sigmas) * n_shares))
