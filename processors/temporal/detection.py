"""Propose and weigh the clocks of a few event times: H-test for the candidates, marginal likelihood for the verdict."""

import math
from typing import NamedTuple

import numpy as np

from processors.temporal import clock_likelihood as clock
from processors.temporal.arrays import Floats, Ints
from processors.temporal.periods import HOUR_S, PeriodicitySettings

CALENDAR_H = np.array([12.0, 24.0, 168.0])
# Two periods this close (relative) are one.
SAME_PERIOD = 0.05
_OVERSAMPLING = 4.0
_MIN_CYCLES = 2.5
# A period of which less than 1 in so many cycles holds an event is not searched.
_MAX_CYCLES_PER_EVENT = 12.0
_TOP = 20
_TOP_WITH_RELATIVES = 8
_TOP_IN_FULL = 10
_SCREEN_SIGMAS = [2]
_SCREEN_STEPS = np.array([1])
_EXACT = np.ones(len(clock.SIGMAS), np.int64)


class Clock(NamedTuple):
    """A clock that explains events: one is due at due_h + k period_h (hours in the window's time)."""

    period_h: float
    due_h: float
    sigma: float
    share: float
    log_evidence: float


class Window(NamedTuple):
    """Centred event times (h), their background densities, and the observed span (h)."""

    t_h: Floats
    b: Floats
    span_h: float


def centred(t_h: Floats, b: Floats) -> tuple[Window, float]:
    """The window of sorted times, half a mean gap added at each end, and its middle."""
    gap = (t_h[-1] - t_h[0]) / (len(t_h) - 1)
    middle = 0.5 * (t_h[0] + t_h[-1])
    return Window(t_h - middle, b, float(t_h[-1] - t_h[0] + gap)), float(middle)


def frequency_grid(span_h: float, n: int, settings: PeriodicitySettings) -> tuple[float, float, int]:
    """(lowest frequency, step, number) of the cells searched, per hour."""
    shortest = max(settings.min_period_s / HOUR_S, span_h / n / _MAX_CYCLES_PER_EVENT)
    step = 1.0 / (_OVERSAMPLING * span_h)
    lowest = max(HOUR_S / settings.max_period_s, _MIN_CYCLES / span_h)
    return lowest, step, int((1.0 / shortest - lowest) / step) + 1


def _candidate_cells(window: Window, lowest: float, step: float, number: int) -> Floats:
    """Frequency cells worth a likelihood: the peaks of the H-test, their neighbours and their harmonics."""
    statistic = np.empty(number)
    clock.harmonic_scan(window.t_h, np.minimum(1.0 / window.b, 3.0), lowest, step, statistic)
    inner = statistic[1:-1]
    peaks = np.flatnonzero((inner >= statistic[:-2]) & (inner >= statistic[2:])) + 1
    peaks = peaks[np.argsort(-statistic[peaks])[:_TOP]]
    strong = peaks[:_TOP_WITH_RELATIVES]
    f = lowest + step * strong
    related = np.concatenate([(f * ratio - lowest) / step for ratio in (1 / 3, 0.5, 2.0, 3.0)])
    related = np.floor(np.concatenate([related, related + 1]))
    cells = np.unique(np.concatenate([peaks, related, strong - 1, strong + 1]).astype(np.int64))
    return np.asarray(lowest + step * cells[(cells >= 0) & (cells < number)])


def _fill_log_prior(f: Floats, window: Window) -> Floats:
    """A uniform prior on the share of cycles with an event and on the share of events that are the clock's.

    A period with many cycles per event, or many events per cycle, allows only a small part of either range.
    """
    cycles_per_event = f * window.span_h / len(window.t_h)
    return np.asarray(-np.abs(np.log(cycles_per_event)))


def _scan(
    window: Window, cells: Floats, step: float, sigmas: list[int], steps: Ints, shares: Floats
) -> tuple[Floats, Floats]:
    evidence = np.empty(len(cells))
    best = np.empty((len(cells), 5))
    clock.scan_cells(
        window.t_h,
        1.0 / window.b,
        window.span_h,
        cells,
        step,
        clock.SIGMAS[sigmas],
        steps,
        shares,
        clock.PHASE_TABLE[sigmas],
        evidence,
        best,
    )
    return evidence, best


def find_clocks(window: Window, settings: PeriodicitySettings) -> list[Clock]:
    """Clock periods, most evidence (prior included) first; periods within 5 % of each other are pooled.

    The prior is log-uniform over the periods searched; `settings.calendar_prior` of it lies at exactly 12, 24, 168 h.
    """
    every_sigma = list(range(len(clock.SIGMAS)))
    spread = math.log(settings.max_period_s / settings.min_period_s)
    lowest, step, number = frequency_grid(window.span_h, len(window.t_h), settings)
    mass, points = [], []
    if number >= 3:
        cells = _candidate_cells(window, lowest, step, number)
        prior = np.log((1.0 - settings.calendar_prior) * step / cells / spread) + _fill_log_prior(cells, window)
        if len(cells) > _TOP_IN_FULL:
            rough, _ = _scan(window, cells, step, _SCREEN_SIGMAS, _SCREEN_STEPS, clock.SHARES[1:3])
            keep = np.argsort(-(rough + prior))[:_TOP_IN_FULL]
            cells, prior = cells[keep], prior[keep]
        evidence, best = _scan(window, cells, step, every_sigma, clock.STEPS, clock.SHARES)
        mass.append(evidence + prior)
        points.append(best)
    exact = (
        1.0
        / CALENDAR_H[(settings.min_period_s <= CALENDAR_H * HOUR_S) & (settings.max_period_s >= CALENDAR_H * HOUR_S)]
    )
    exact = exact[exact * window.span_h >= _MIN_CYCLES]
    if len(exact) and settings.calendar_prior > 0:
        evidence, best = _scan(window, exact, 0.0, every_sigma, _EXACT, clock.SHARES)
        mass.append(evidence + math.log(settings.calendar_prior / len(CALENDAR_H)) + _fill_log_prior(exact, window))
        points.append(best)
    return _pooled(np.concatenate(mass), np.concatenate(points)) if mass else []


def _pooled(log_mass: Floats, best: Floats) -> list[Clock]:
    found: list[Clock] = []
    period_h = 1.0 / best[:, 1]
    left = np.ones(len(log_mass), bool)
    while left.any() and len(found) < 6:
        top = int(np.where(left, log_mass, -np.inf).argmax())
        near = left & (np.abs(np.log(period_h / period_h[top])) < SAME_PERIOD)
        total = float(log_mass[top] + np.log(np.exp(log_mass[near] - log_mass[top]).sum()))
        _, f, sigma, share, phase = best[top]
        found.append(Clock(float(1 / f), float(phase / f), float(sigma), float(share), total))
        left &= ~near
    return sorted(found, key=lambda one: -one.log_evidence)
