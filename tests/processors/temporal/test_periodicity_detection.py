import numpy as np
import pytest
from planted import DAY_S, HOUR_S, MONDAY_S, WEEK_S, clock, fed, rhythm

from processors.temporal import PeriodicityBank, PeriodicitySettings


def share_found(bank, truth):
    hits = 0
    for key, period_s in truth.items():
        found = bank.detect(key)
        hits += bool(found) and abs(found[0].period_s - period_s) <= 0.05 * period_s
    return hits / len(truth)


@pytest.mark.parametrize(
    ("jitter", "missing", "spurious", "at_least"),
    [(0.02, 0.0, 0.0, 0.98), (0.1, 0.3, 0.0, 0.97), (0.1, 0.3, 0.5, 0.88), (0.05, 0.6, 0.5, 0.83)],
)
def test_planted_period_is_the_strongest(jitter, missing, spurious, at_least):
    rng = np.random.default_rng(1)
    truth, times = {}, {}
    while len(truth) < 120:
        period_s = float(rng.choice([24, 168, 12, rng.uniform(20, 120)])) * HOUR_S
        t = clock(rng, period_s, jitter=jitter, missing=missing, spurious=spurious)
        if len(t) >= 8:
            truth[len(truth)] = period_s
            times[len(times)] = t
    assert share_found(fed(PeriodicityBank(), times), truth) >= at_least


@pytest.mark.parametrize("shift_h", [0, 3, 6, -6])
def test_shared_or_shifted_rhythm_is_not_called_recurring(shift_h):
    rng = np.random.default_rng(2)
    times = {1000 + k: rhythm(rng, 150) for k in range(150)}
    tested = range(100)
    times |= {k: rhythm(rng, int(rng.choice([8, 30, 64, 150, 500])), shift_h) for k in tested}
    bank = fed(PeriodicityBank(), times)
    false = sum(any(p.kind == "recurring" and p.p_value < 0.01 for p in bank.detect(k)) for k in tested)
    assert false <= 3


def test_shifted_rhythm_is_called_a_rhythm_of_24_hours():
    rng = np.random.default_rng(3)
    times = {1000 + k: rhythm(rng, 150) for k in range(150)}
    times |= {k: rhythm(rng, 100, 8.0) for k in range(20)}
    bank = fed(PeriodicityBank(), times)
    found = [bank.detect(k) for k in range(20)]
    assert sum(bool(f) and (f[0].kind, f[0].period_s) == ("rhythm", DAY_S) for f in found) >= 18


@pytest.mark.parametrize("period_s", [12 * HOUR_S, DAY_S, WEEK_S, 50 * HOUR_S])
def test_harmonics_are_not_reported_instead(period_s):
    rng = np.random.default_rng(4)
    times = {k: clock(rng, period_s, days=150, jitter=0.08, missing=0.2) for k in range(20)}
    assert share_found(fed(PeriodicityBank(), times), dict.fromkeys(times, period_s)) == 1.0


@pytest.mark.parametrize("n", [8, 13, 20, 40, 64])
@pytest.mark.parametrize("minutes", [0, 5, 60, 180])
def test_weekly_habit_at_a_fixed_hour_is_weekly_and_not_daily(n, minutes):
    rng = np.random.default_rng(n)
    t = MONDAY_S + 4 * DAY_S + 18 * HOUR_S + WEEK_S * np.arange(n) + 60 * minutes * rng.normal(size=n)
    first = fed(PeriodicityBank(), {1: t}).detect(1)[0]
    assert abs(first.period_s - WEEK_S) < 0.05 * WEEK_S


def test_regular_daily_visitor_is_recurring():
    rng = np.random.default_rng(5)
    bank = fed(PeriodicityBank(), {k: clock(rng, DAY_S, jitter=0.05, missing=0.1) for k in range(20)})
    assert sum(bank.detect(k)[0].kind == "recurring" for k in range(20)) >= 19


def test_two_periods_of_one_key_are_both_found():
    rng = np.random.default_rng(6)
    times = {}
    for k in range(20):
        often = clock(rng, 60 * HOUR_S, jitter=0.03, missing=0.1)
        weekly = clock(rng, WEEK_S, jitter=0.02)
        times[k] = np.sort(np.concatenate([often, weekly]))
    bank = fed(PeriodicityBank(), times)
    both = 0
    for k in range(20):
        hours = [p.period_s / 3600 for p in bank.detect(k)]
        both += any(abs(h - 60) < 3 for h in hours) and any(abs(h - 168) < 8 for h in hours)
    assert both >= 17


def test_doubled_events_change_nothing():
    rng = np.random.default_rng(7)
    times, truth = {}, {}
    for k in range(40):
        truth[k] = float(rng.uniform(20, 160)) * HOUR_S
        t = clock(rng, truth[k], jitter=0.05, missing=0.2)
        times[k] = np.sort(np.concatenate([t, t + rng.uniform(0, 600, len(t))]))
    bank = fed(PeriodicityBank(), times)
    assert share_found(bank, truth) >= 0.97
    assert all(len(bank.times_s(k)) <= len(times[k]) // 2 + 3 for k in times)


def test_bursts_longer_than_the_merge_gap_are_survived():
    rng = np.random.default_rng(8)
    times, truth = {}, {}
    for k in range(40):
        truth[k] = float(rng.uniform(20, 160)) * HOUR_S
        t = clock(rng, truth[k], jitter=0.04, missing=0.2)
        times[k] = np.sort(np.concatenate([t, t[rng.random(len(t)) < 0.5] + rng.uniform(1200, 3600)]))
    assert share_found(fed(PeriodicityBank(), times), truth) >= 0.95


def test_next_due_is_one_cycle_after_the_last_visit():
    rng = np.random.default_rng(9)
    errors = []
    for _ in range(30):
        period_s = float(rng.uniform(20, 160)) * HOUR_S
        t = clock(rng, period_s, jitter=0.03)
        due = t[-1] + period_s
        period = fed(PeriodicityBank(), {1: t}).detect(1)[0]
        assert period.next_due_s > t[-1]
        assert abs((period.next_due_s - period.phase_s) / period.period_s % 1.0 - 0.5) > 0.49
        errors.append(abs(period.next_due_s - due) / period_s)
    assert np.median(errors) < 0.05


def test_period_that_ended_is_no_longer_reported():
    rng = np.random.default_rng(10)
    t = clock(rng, DAY_S, days=40, jitter=0.03)
    bank = fed(PeriodicityBank(), {1: t})
    assert bank.detect(1, now_s=float(t[-1]) + 0.8 * DAY_S)[0].period_s == DAY_S
    assert bank.detect(1)[0].period_s == DAY_S
    assert bank.detect(1, now_s=float(t[-1]) + 15 * DAY_S) == []


def test_rhythm_of_a_key_that_fell_silent_is_no_longer_reported():
    rng = np.random.default_rng(13)
    times = {1000 + k: rhythm(rng, 150) for k in range(100)}
    t = rhythm(rng, 200, 8.0)
    bank = fed(PeriodicityBank(), times | {1: t})
    assert bank.detect(1, now_s=float(t[-1]) + DAY_S)[0].kind == "rhythm"
    assert bank.detect(1, now_s=float(t[-1]) + 30 * DAY_S) == []


def test_a_single_key_does_not_explain_itself_away():
    t = MONDAY_S + DAY_S * np.arange(200) + 18 * HOUR_S
    assert fed(PeriodicityBank(), {1: t}).detect(1)[0].period_s == DAY_S


def test_keys_in_step_do_not_explain_each_other_away():
    t = MONDAY_S + WEEK_S * np.arange(20) + 4 * DAY_S + 18 * HOUR_S
    rng = np.random.default_rng(11)
    bank = fed(PeriodicityBank(), {k: t + rng.normal(size=20) * HOUR_S for k in range(200)})
    assert all(bank.detect(k)[0].period_s == WEEK_S for k in range(20))


def test_strongest_comes_first_and_p_values_are_within_the_setting():
    rng = np.random.default_rng(12)
    times = {k: clock(rng, 30 * HOUR_S, jitter=0.1, missing=0.4, spurious=0.5) for k in range(30)}
    bank = fed(PeriodicityBank(PeriodicitySettings(max_p_value=0.05, max_periods=2)), times)
    for k in times:
        found = bank.detect(k)
        assert len(found) <= 2 and all(0.0 <= p.p_value <= 0.05 for p in found)
        assert [p.strength for p in found] == sorted((p.strength for p in found), reverse=True)
