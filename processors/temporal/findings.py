"""From event times to the periods of a key: which period, of which kind, how sure, and when it is next due."""

import math
from typing import NamedTuple

import numpy as np

from processors.temporal.arrays import Floats
from processors.temporal.clock_fit import fit_clock, has_ended
from processors.temporal.detection import CALENDAR_H, SAME_PERIOD, Clock, Window, centred, find_clocks
from processors.temporal.periods import HOUR_S, Kind, Period, PeriodicitySettings
from processors.temporal.population_rate import hours_of_week
from processors.temporal.rhythm_fit import Rhythm, find_rhythm
from processors.temporal.rhythm_likelihood import PERIODS_H

# A further period is looked for beside a clear one only, and has to be clear itself: what is left of the events was
# chosen by the first fit.
_MAX_P_VALUE_OF_MORE = 0.01
_OWN = 0.5
_LOG_SIZE_OF_RHYTHM = -2.0
_LOG_SIZE_OF_BUMP = -2.3
_IMPOSSIBLE = -1e30
# A rhythm has ended when so many events were to be expected since the last one (10,000 to 1 for a Poisson rate).
_EVENTS_MISSED = 9.2


class _Candidate(NamedTuple):
    clock: Clock
    strength: float
    p_value: float


def log_size(n_events: int) -> float:
    """log P(log Bayes factor > s | no period) + s: how conservative 1 / Bayes factor is against a known rate.

    By simulation of Poisson events: the tail is exp(-s) times a constant that depends on the number of events, down to
    p = .005 and for spans from days to years (`bench/temporal.py calibration` checks the outcome).
    """
    return -3.0 - 1.1 * math.log(max(n_events, 12) / 12)


def bump_log_p_value(log_evidence: float) -> float:
    """log P(a bump's log Bayes factor > s | the population's rate), by simulation; two straight lines bound it.

    It falls faster than exp(-s) where s is small: even without a rhythm a faint broad bump costs little.
    """
    return min(0.0, max(-1.2 - 2.2 * (log_evidence + 0.31), -2.35 - 1.3 * log_evidence))


def _same(period_h: float, other_h: float) -> bool:
    return abs(math.log(period_h / other_h)) < SAME_PERIOD


def _log_add(x: float, y: float) -> float:
    return float(np.logaddexp(x, y))


def _evidence_at(clocks: list[Clock], period_h: float) -> float:
    return max((one.log_evidence for one in clocks if _same(one.period_h, period_h)), default=_IMPOSSIBLE)


def _weigh(
    window: Window, own: Rhythm | None, against_all: list[Clock], settings: PeriodicitySettings
) -> list[_Candidate]:
    """Clocks by strength, with their p-values against the population's rate or the key's own rhythm.

    Both are nulls, each as likely as it explains the events. A clock at a period of the rhythm competes with it for the
    very same events, so nothing is conservative about its Bayes factor there.
    """
    size = log_size(len(window.t_h))
    if own is None:
        return [
            _Candidate(one, one.log_evidence - size, math.exp(min(0.0, size - one.log_evidence))) for one in against_all
        ]
    has_rhythm = own.log_evidence > 0.0
    against_own = find_clocks(window._replace(b=own.b), settings) if has_rhythm else against_all
    null = _log_add(0.0, own.log_evidence)
    weighed = []
    for one in against_own + [c for c in against_all if _evidence_at(against_own, c.period_h) == _IMPOSSIBLE]:
        shared = _evidence_at(against_all, one.period_h)
        inner = _evidence_at(against_own, one.period_h) if has_rhythm else _IMPOSSIBLE
        evidence = _log_add(shared, own.log_evidence + inner) - null
        competes = any(_same(one.period_h, period_h) for period_h in PERIODS_H)
        log_p = (_log_add(size - null, _LOG_SIZE_OF_RHYTHM + own.log_evidence - null) if competes else size) - evidence
        of_rhythm = own.log_evidence if has_rhythm and _same(one.period_h, own.period_h) else 0.0
        weighed.append(_Candidate(one, _log_add(shared, inner + of_rhythm) - size, math.exp(min(0.0, log_p))))
    return sorted(weighed, key=lambda one: -one.strength)


def find_periods(
    time_s: Floats, density: Floats, settings: PeriodicitySettings, now_s: float | None = None
) -> list[Period]:
    """Significant periods of sorted event times, strongest first.

    `density` (float64[168]) is the population's rate by hour of the week relative to a constant rate. With `now_s`,
    periods that have ended by then are left out, and the next due time lies after it. A few milliseconds.
    """
    t_h = time_s / HOUR_S
    b = density[hours_of_week(time_s)]
    end_s = max(float(time_s[-1]), now_s) if now_s is not None and len(time_s) else float(time_s[-1])
    found: list[Period] = []
    limit = settings.max_p_value
    while len(t_h) >= settings.min_events and t_h[-1] > t_h[0] and len(found) < settings.max_periods:
        more, own = _find_round(t_h, b, end_s / HOUR_S, limit, found, settings)
        found += more
        if own is None or not any(one.p_value <= _MAX_P_VALUE_OF_MORE for one in more):
            break
        t_h, b = t_h[own < _OWN], (b * np.maximum(1.0 - own, 0.02))[own < _OWN]
        limit = min(_MAX_P_VALUE_OF_MORE, settings.max_p_value)
    found.sort(key=lambda one: -one.strength)
    return found[: settings.max_periods]


def _find_round(
    t_h: Floats, b: Floats, end_h: float, limit: float, found: list[Period], settings: PeriodicitySettings
) -> tuple[list[Period], Floats | None]:
    """The strongest clock and the own rhythm of these events, and each event's probability of being the clock's."""
    window, middle_h = centred(t_h, b)
    own_rhythm = find_rhythm(window)
    against_all = find_clocks(window, settings)
    more: list[Period] = []
    known_h = [one.period_s / HOUR_S for one in found]
    own: Floats | None = None
    for candidate in _weigh(window, own_rhythm, against_all, settings):
        if candidate.p_value > limit or any(_same(candidate.clock.period_h, one) for one in known_h):
            continue
        own = np.zeros(len(t_h))
        period = _recurring(window, middle_h, end_h, candidate, own)
        if period is not None:
            more.append(period)
            known_h.append(period.period_s / HOUR_S)
            break
    strongest = _strongest_rhythm(own_rhythm, against_all, log_size(len(t_h)))
    has_fallen_silent = (end_h - t_h[-1]) * len(t_h) / window.span_h > _EVENTS_MISSED
    if strongest is not None and not has_fallen_silent:
        rhythm, p_value = strongest
        if p_value <= limit and not any(_same(rhythm.period_h, one) for one in known_h):
            more.append(_rhythm(rhythm, window, middle_h, end_h, p_value))
    return more, own


def _strongest_rhythm(own: Rhythm | None, against_all: list[Clock], size: float) -> tuple[Rhythm, float] | None:
    """The calendar period that best explains the events, by a bump or by a clock whose regularity is not certain.

    With its p-value against the population's rate; its evidence has the size taken off, as a clock's strength has.
    """
    if own is None:
        return None
    best = own._replace(log_evidence=own.log_evidence - _LOG_SIZE_OF_BUMP)
    log_p = bump_log_p_value(own.log_evidence)
    for one in against_all:
        is_calendar = [period_h for period_h in PERIODS_H if _same(one.period_h, period_h)]
        if is_calendar and one.log_evidence - size > best.log_evidence:
            best = Rhythm(float(is_calendar[0]), one.due_h, one.sigma, one.share, one.log_evidence - size, own.b)
            log_p = min(0.0, size - one.log_evidence)
    return best, math.exp(log_p)


def _recurring(window: Window, middle_h: float, end_h: float, candidate: _Candidate, own: Floats) -> Period | None:
    clock = candidate.clock
    is_exact = bool(np.any(np.abs(CALENDAR_H / clock.period_h - 1) < 1e-9))
    period_h, due_h, sigma, hit_rate, last_cycle = fit_clock(
        window.t_h, window.b, window.span_h, clock.period_h, clock.due_h, clock.sigma, clock.share, is_exact, own
    )
    if has_ended(window.t_h, window.b, window.span_h, end_h - middle_h, period_h, due_h, sigma, hit_rate):
        return None
    cycle = max(last_cycle + 1, math.floor((end_h - middle_h - due_h) / period_h) + 1)
    return _period(
        "recurring",
        period_h,
        middle_h + due_h + cycle * period_h,
        candidate.strength,
        candidate.p_value,
        sigma,
        hit_rate,
    )


def _rhythm(rhythm: Rhythm, window: Window, middle_h: float, end_h: float, p_value: float) -> Period:
    peak_h = middle_h + rhythm.peak_h
    next_h = peak_h + (math.floor((end_h - peak_h) / rhythm.period_h) + 1) * rhythm.period_h
    per_cycle = rhythm.share * len(window.t_h) * rhythm.period_h / window.span_h
    hit_rate = 1.0 - math.exp(-per_cycle)
    return _period("rhythm", rhythm.period_h, next_h, rhythm.log_evidence, p_value, rhythm.sigma, hit_rate)


def _period(
    kind: Kind, period_h: float, next_h: float, evidence: float, p_value: float, sigma: float, hit_rate: float
) -> Period:
    period_s = period_h * HOUR_S
    next_s = next_h * HOUR_S
    return Period(
        period_s, next_s % period_s, kind, evidence / math.log(10.0), p_value, next_s, sigma * period_s, hit_rate
    )
