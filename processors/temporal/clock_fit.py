"""Sharpen one clock on its events: due time, period, jitter, which events are its own, and whether it has ended."""

import numpy as np
from numba import njit

from processors.temporal.arrays import Floats

_ROUNDS = 4
_MIN_SIGMA = 0.004
# A clock that seems never to miss may still miss now and then.
_MAX_FILL = 0.9
_ENDED_LOG_RATIO = -9.2


@njit(cache=True)
def _responsibilities(
    t_h: Floats,
    b: Floats,
    period_h: float,
    due_h: float,
    sigma: float,
    fill: float,
    odds: float,
    cycle: Floats,
    own: Floats,
) -> None:
    """Posterior that each event is its cycle's true one; at most one per cycle, so a cycle's sum is at most 1."""
    n = len(t_h)
    norm = 1.0 / (sigma * np.sqrt(2 * np.pi))
    i = 0
    while i < n:
        k = np.floor((t_h[i] - due_h) / period_h + 0.5)
        total = 0.0
        j = i
        while j < n and np.floor((t_h[j] - due_h) / period_h + 0.5) == k:
            x = ((t_h[j] - due_h) / period_h - k) / sigma
            own[j] = odds * norm * np.exp(-0.5 * x * x) / b[j]
            cycle[j] = k
            total += own[j]
            j += 1
        for m in range(i, j):
            own[m] /= 1.0 - fill + total
        i = j


@njit(cache=True)
def fit_clock(
    t_h: Floats,
    b: Floats,
    span_h: float,
    period_h: float,
    due_h: float,
    sigma: float,
    share: float,
    is_exact: bool,
    own: Floats,
) -> tuple[float, float, float, float, float]:
    """Expectation-maximisation of one clock; returns (period, due, sigma, hit rate, last own cycle).

    An exact period (the calendar's) is kept. `own` receives the responsibilities.
    """
    n = len(t_h)
    cycle = np.empty(n)
    first_period = period_h
    hit_rate = 0.0
    for _ in range(_ROUNDS):
        cycles = span_h / period_h
        fill = min(share * n / cycles, 0.97)
        share = min(fill * cycles / n, 0.98)
        _responsibilities(t_h, b, period_h, due_h, sigma, fill, share / (1 - share), cycle, own)
        weight = own.sum()
        if weight < 2.0:
            break
        k_mean = (own * cycle).sum() / weight
        t_mean = (own * t_h).sum() / weight
        k_spread = (own * (cycle - k_mean) ** 2).sum()
        if not is_exact and k_spread > 0.0:
            slope = (own * (cycle - k_mean) * (t_h - t_mean)).sum() / k_spread
            if abs(slope / first_period - 1.0) < 0.05:
                period_h = slope
        due_h = t_mean - k_mean * period_h
        miss = (t_h - due_h - cycle * period_h) / period_h
        sigma = max(np.sqrt((own * miss * miss).sum() / weight), _MIN_SIGMA)
        hit_rate = min(weight / cycles, 1.0)
        share = min(weight / n, 0.98)
    last_cycle = cycle[0]
    for i in range(n):
        if own[i] > 0.5:
            last_cycle = cycle[i]
    return period_h, due_h, sigma, hit_rate, last_cycle


@njit(cache=True)
def has_ended(
    t_h: Floats, b: Floats, span_h: float, end_h: float, period_h: float, due_h: float, sigma: float, hit_rate: float
) -> bool:
    """Whether some stretch up to `end_h` speaks 10,000 to 1 for silence of the clock (Page's test, run backwards).

    A cycle's log ratio is that of the clock running against only its background left. The cycle of `end_h` itself is
    not over and does not count.
    """
    n = len(t_h)
    cycles = span_h / period_h
    fill = min(max(hit_rate, 0.05), _MAX_FILL)
    share = min(fill * cycles / n, 0.98)
    odds = share / (1.0 - share)
    norm = 1.0 / (sigma * np.sqrt(2 * np.pi))
    i = n - 1
    total = 0.0
    k = np.floor((end_h - due_h) / period_h - 3.0 * min(sigma, 0.16))
    first = np.floor((t_h[0] - due_h) / period_h + 0.5)
    while k >= first:
        inside = 0.0
        while i >= 0 and np.floor((t_h[i] - due_h) / period_h + 0.5) >= k:
            x = ((t_h[i] - due_h) / period_h - k) / sigma
            inside += norm * np.exp(-0.5 * x * x) / b[i]
            i -= 1
        total += np.log(1.0 - fill + odds * inside)
        if total < _ENDED_LOG_RATIO:
            return True
        k -= 1.0
    return False
