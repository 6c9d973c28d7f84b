import numpy as np
from planted import DAY_S, HOUR_S, MONDAY_S, clock, fed

from processors.temporal import PeriodicityBank


def daily(hour, days, start_day=0):
    return MONDAY_S + DAY_S * (start_day + np.arange(days)) + hour * HOUR_S


def test_found_periods_are_told_once():
    bank = fed(PeriodicityBank(), {k: daily(k, 40) for k in range(5)})
    changes = bank.examine(100, bank.latest_s)
    assert sorted(change.key for change in changes) == [0, 1, 2, 3, 4]
    assert all(change.periods[0].period_s == DAY_S for change in changes)
    assert bank.examine(100, bank.latest_s) == []


def test_budget_is_kept_and_the_rest_comes_later():
    bank = fed(PeriodicityBank(), {k: daily(k % 24, 40) for k in range(30)})
    sizes = [len(bank.examine(8, bank.latest_s)) for _ in range(5)]
    assert sizes == [8, 8, 8, 6, 0]
    assert bank.examine(0, bank.latest_s) == []


def test_a_key_is_worth_another_look_only_after_enough_new_events():
    bank = fed(PeriodicityBank(), {1: daily(3, 40)})
    bank.examine(10, bank.latest_s)
    bank.update([1], daily(12, 1, 40))
    assert bank._n_keys == 1 and int(bank._rings.examined[0]) == 40
    bank.examine(10, bank.latest_s)
    assert int(bank._rings.examined[0]) == 40
    bank.update(np.ones(12, np.int64), daily(12, 12, 41))
    bank.examine(10, bank.latest_s)
    assert int(bank._rings.examined[0]) == 53


def test_silence_retires_a_period():
    bank = fed(PeriodicityBank(), {1: daily(3, 40), 2: daily(5, 40)})
    bank.examine(10, bank.latest_s)
    bank.update(np.full(20, 2), daily(5, 20, 40))
    changes = {change.key: change.periods for change in bank.examine(10, bank.latest_s)}
    assert changes[1] == ()
    assert 2 not in changes
    assert bank.published(2)[0].period_s == DAY_S


def test_a_new_habit_replaces_the_old_one():
    rng = np.random.default_rng(1)
    bank = fed(PeriodicityBank(), {1: daily(3, 40)})
    bank.examine(10, bank.latest_s)
    later = clock(rng, 50 * HOUR_S, days=140, jitter=0.02) + 41 * DAY_S
    bank.update(np.ones(len(later), np.int64), later)
    (change,) = bank.examine(10, bank.latest_s)
    assert abs(change.periods[0].period_s - 50 * HOUR_S) < HOUR_S


def test_an_evicted_key_with_periods_is_retired():
    from processors.temporal import PeriodicitySettings

    bank = fed(PeriodicityBank(PeriodicitySettings(max_keys=1)), {1: daily(3, 40)})
    bank.examine(10, bank.latest_s)
    bank.update([2], daily(3, 1, 400))
    (change,) = bank.examine(10, bank.latest_s)
    assert (change.key, change.periods) == (1, ())


def test_due_lists_what_comes_in_order():
    bank = fed(PeriodicityBank(), {k: daily(k, 40) for k in range(24)})
    bank.examine(100, bank.latest_s)
    start = MONDAY_S + 43 * DAY_S
    due = bank.due(start + 5.5 * HOUR_S, start + 8.5 * HOUR_S)
    assert [key for key, _ in due] == [6, 7, 8]
    assert all(abs(period.next_due_s - (start + key * HOUR_S)) < 60 for key, period in due)
