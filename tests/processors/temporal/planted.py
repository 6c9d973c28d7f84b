"""Events with a known truth."""

import numpy as np

HOUR_S = 3600.0
DAY_S = 86400.0
WEEK_S = 7 * DAY_S
MONDAY_S = 1_700_438_400.0  # 2023-11-20 00:00 UTC, a Monday


def clock(rng, period_s, days=90.0, jitter=0.05, missing=0.0, spurious=0.0, phase=None):
    """Sorted times of a clock with relative jitter, missing events and a share of uniform spurious ones."""
    span_s = days * DAY_S
    start = rng.uniform(0, period_s) if phase is None else phase
    due = np.arange(start, span_s, period_s)
    times = due + rng.normal(size=len(due)) * jitter * period_s
    times = times[rng.random(len(times)) >= missing]
    extra = rng.uniform(0, span_s, rng.poisson(spurious * len(times)))
    return MONDAY_S + np.sort(np.clip(np.concatenate([times, extra]), 0, span_s))


def rhythm(rng, n, shift_h=0.0, days=90.0):
    """Sorted times of a Poisson process whose rate follows a sine over the day, latest shift_h later than the base."""
    times = np.empty(0)
    while len(times) < n:
        t = rng.uniform(0, days * 24, 4 * n + 50)
        keep = rng.random(len(t)) < 0.5 * (1 + 0.9 * np.sin(2 * np.pi * (t - shift_h) / 24 - 1.5))
        times = np.concatenate([times, t[keep]])
    return MONDAY_S + HOUR_S * np.sort(times[:n])


def fed(bank, times_by_key):
    """Feed keys' times in time order, in batches."""
    keys = np.concatenate([np.full(len(t), k, np.int64) for k, t in times_by_key.items()])
    times = np.concatenate(list(times_by_key.values()))
    order = np.argsort(times, kind="stable")
    for part in np.array_split(order, 7):
        bank.update(keys[part], times[part])
    return bank
