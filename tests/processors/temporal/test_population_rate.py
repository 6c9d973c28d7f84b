import numpy as np
from planted import DAY_S, HOUR_S, MONDAY_S, WEEK_S

from processors.temporal.population_rate import PopulationRate, hour_of_week, hours_of_week


def fed(rate, time_s):
    rate.update(time_s, np.ones(len(time_s), np.bool_))
    return rate


def test_hour_of_week_starts_on_monday():
    assert hour_of_week(MONDAY_S) == 0 and hour_of_week(MONDAY_S - 1) == 167
    assert hours_of_week(np.array([MONDAY_S + 30 * HOUR_S, 0.0])).tolist() == [30, 72]


def test_a_keys_own_events_are_left_out():
    own = MONDAY_S + 18 * HOUR_S + DAY_S * np.arange(64)
    rng = np.random.default_rng(1)
    others = MONDAY_S + rng.uniform(0, 64 * DAY_S, 20_000)
    alone = fed(PopulationRate(60 * DAY_S), others).density_without(np.empty(0), 0)
    both = fed(PopulationRate(60 * DAY_S), np.sort(np.concatenate([others, own])))
    assert np.allclose(both.density_without(own, 64), alone, atol=0.002)
    assert np.abs(both.density_without(np.empty(0), 0) - alone).max() > 0.02


def test_learned_density_is_that_of_the_population():
    rng = np.random.default_rng(2)
    hours = rng.uniform(0, 63 * 24, 400_000)
    hours = hours[rng.random(len(hours)) < 0.5 + 0.4 * np.sin(2 * np.pi * hours / 24)]
    density = fed(PopulationRate(60 * DAY_S), MONDAY_S + HOUR_S * np.sort(hours)).density_without(np.empty(0), 0)
    truth = 1 + 0.8 * np.sin(2 * np.pi * (np.arange(168) + 0.5) / 24)
    assert np.abs(density - truth).mean() < 0.05


def test_old_weeks_fade_and_far_times_do_not_overflow():
    rate = PopulationRate(7 * DAY_S)
    fed(rate, MONDAY_S + 5 * HOUR_S + WEEK_S * np.arange(50))
    fed(rate, MONDAY_S + 200 * WEEK_S + 90 * HOUR_S + np.arange(500.0))
    density = rate.density_without(np.empty(0), 0)
    assert density[90] == density.max() and density[5] < 1.1 and np.all(np.isfinite(density))
