"""Event times with a known truth, for bench/temporal.py."""

from __future__ import annotations

import numpy as np

SPAN_H = 2160.0
MONDAY_S = 1_700_438_400.0
# jitter per period, share missing, spurious events per true one
COLUMNS = {
    "jitter 2 %": (0.02, 0.0, 0.0),
    "jitter 10 %, 30 % missing": (0.1, 0.3, 0.0),
    "same + 50 % spurious": (0.1, 0.3, 0.5),
    "jitter 5 %, 60 % missing, 50 % spurious": (0.05, 0.6, 0.5),
    "off grid .035/.5/.3": (0.035, 0.5, 0.3),
    "off grid .075/.3/.8": (0.075, 0.3, 0.8),
    "off grid .13/.3/.3": (0.13, 0.3, 0.3),
    "off grid .2/.2/0": (0.2, 0.2, 0.0),
}
TARGETS = (0.99, 0.99, 0.93, 0.89, 0.98, 0.95, 0.95, 0.88)


def planted(rng: np.random.Generator, jitter: float, missing: float, spurious: float) -> tuple[float, np.ndarray]:
    """(period in hours, sorted times in hours within 90 days) with at least 8 events."""
    while True:
        period_h = float(rng.choice([24, 168, 12, rng.uniform(20, 120)]))
        t = np.arange(rng.uniform(0, period_h), SPAN_H, period_h)
        t = t + rng.normal(size=len(t)) * jitter * period_h
        t = t[rng.random(len(t)) > missing]
        extra = rng.uniform(0, SPAN_H, rng.poisson(spurious * len(t)))
        t = np.sort(np.clip(np.concatenate([t, extra]), 0, SPAN_H))
        if len(t) >= 8:
            return period_h, t


def rhythmic(rng: np.random.Generator, n: int, shift_h: float, shape: str) -> np.ndarray:
    """n sorted times (h) of a Poisson process with a daily rhythm, `shift_h` later than everybody's."""
    out = np.empty(0)
    while len(out) < n:
        t = rng.uniform(0, SPAN_H, 6 * n + 20)
        hour = (t - shift_h) % 24
        if shape == "sine":
            rate = 0.5 * (1 + 0.9 * np.sin(2 * np.pi * hour / 24 - 1.5))
        else:
            lunch, evening = np.exp(-0.5 * ((hour - 12.5) / 1.0) ** 2), np.exp(-0.5 * ((hour - 19) / 1.5) ** 2)
            rate = 0.05 + 0.6 * lunch + 0.9 * evening
        out = np.concatenate([out, t[rng.random(len(t)) < rate]])
    return np.sort(out[:n])


def columns(times_h: list[np.ndarray], first_key: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(keys, time_s) of keys first_key.. in time order."""
    keys = np.concatenate([np.full(len(t), first_key + k, np.int64) for k, t in enumerate(times_h)])
    time_s = MONDAY_S + 3600.0 * np.concatenate(times_h)
    order = np.argsort(time_s, kind="stable")
    return keys[order], time_s[order]
