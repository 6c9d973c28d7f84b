import numpy as np
import pytest
from river import datasets

from processors.temporal import (
    AdaptiveIntervals,
    ArimaOrder,
    CountForecaster,
    ForecastBank,
    ForecastSettings,
    OnlineARIMA,
    PrequentialChoice,
    RiverSnarimax,
    SeasonalNaive,
    SurgeDetector,
)


def one_step_errors(model, series, start):
    """Absolute errors, each value forecast before it is learned."""
    errors, ahead = [], None
    for step, value in enumerate(series):
        if ahead is not None and step >= start:
            errors.append(abs(value - ahead))
        model.learn(float(value))
        ahead = model.forecast(1)[0]
    return np.mean(errors)


def seasonal_counts(rng, n=2000):
    t = np.arange(n)
    return rng.poisson(np.exp(1.5 + np.sin(2 * np.pi * t / 24) + 0.3 * (t // 24 % 7 > 4)))


AIRLINE = [y for _, y in datasets.AirlinePassengers()]


@pytest.mark.parametrize(
    "order", [ArimaOrder(3, 0, 1, 12, 1, 1, 1), ArimaOrder(1, 0, 1, 12, 0, 1, 1), ArimaOrder(2, 1, 1, 12, 1)]
)
def test_seasonal_arima_beats_last_season_on_airline_passengers(order):
    naive = one_step_errors(SeasonalNaive(12), AIRLINE, 36)
    assert one_step_errors(OnlineARIMA(order), AIRLINE, 36) < 0.5 * naive


def test_seasonal_arima_beats_last_season_on_poisson_counts():
    counts = seasonal_counts(np.random.default_rng(1))
    naive = one_step_errors(SeasonalNaive(24), counts, 200)
    assert one_step_errors(OnlineARIMA(ArimaOrder(1, 0, 1, 24, 0, 1, 1)), counts, 200) < 0.85 * naive


def test_coefficients_of_an_autoregression_are_recovered():
    rng = np.random.default_rng(2)
    y = [0.0, 0.0]
    for _ in range(4000):
        y.append(0.6 * y[-1] - 0.3 * y[-2] + rng.normal())
    model = OnlineARIMA(ArimaOrder(2, 0, 0))
    for value in y:
        model.learn(value)
    assert np.allclose(model._weights[1:], [0.6, -0.3], atol=0.06)


def test_differences_are_those_of_the_textbook():
    assert ArimaOrder(0, 2, 0).differences().tolist() == [1, -2, 1]
    assert ArimaOrder(0, 1, 0, 4, 0, 1, 0).differences().tolist() == [1, -1, 0, 0, -1, 1]
    assert ArimaOrder(2, 0, 1, 12, 1, 0, 1).value_lags().tolist() == [1, 2, 12, 13]


def test_forecast_follows_a_trend_and_a_season():
    model = OnlineARIMA(ArimaOrder(1, 0, 0, 4, 0, 1, 0))
    for step in range(80):
        model.learn(0.5 * step + [0, 5, 9, 2][step % 4])
    truth = [0.5 * step + [0, 5, 9, 2][step % 4] for step in range(80, 88)]
    assert np.allclose(model.forecast(8), truth, atol=0.3)


def test_an_outlier_does_not_wreck_the_model():
    rng = np.random.default_rng(3)
    clean = 50 + 10 * np.sin(2 * np.pi * np.arange(600) / 24) + rng.normal(size=600)
    spoiled = clean.copy()
    spoiled[300] = 1e7
    model = OnlineARIMA(ArimaOrder(2, 0, 1, 24, 0, 1, 1))
    errors = [one_step_errors(OnlineARIMA(model.order), series, 450) for series in (clean, spoiled)]
    assert errors[1] < 3 * errors[0]


@pytest.mark.parametrize("constant", [0.0, 7.0, 1e9])
def test_constant_series_is_forecast_and_stays_finite(constant):
    model = OnlineARIMA(ArimaOrder(2, 1, 1, 5, 1, 0, 1))
    for _ in range(3000):
        model.learn(constant)
    assert np.allclose(model.forecast(6), constant, rtol=1e-6, atol=1e-6)


def test_model_continues_from_its_state():
    counts = seasonal_counts(np.random.default_rng(4), 400)
    model, twin = OnlineARIMA(ArimaOrder(3, 0, 1, 24, 1)), OnlineARIMA(ArimaOrder(3, 0, 1, 24, 1))
    for count in counts[:300]:
        model.learn(count)
    twin.load(model.state)
    for count in counts[300:]:
        model.learn(count)
        twin.learn(count)
    assert np.array_equal(model.forecast(5), twin.forecast(5))
    with pytest.raises(ValueError, match="does not fit"):
        OnlineARIMA(ArimaOrder(1, 0, 0)).load(model.state)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="value"):
        OnlineARIMA(ArimaOrder()).learn(value)


@pytest.mark.parametrize("order", [(-1, 0, 0), (1, 0, 0, 1, 1), (1, 0, 0, 0)])
def test_orders_out_of_range_are_refused(order):
    with pytest.raises(ValueError, match="order"):
        ArimaOrder(*order)


def test_river_snarimax_speaks_the_same_interface():
    model = RiverSnarimax(ArimaOrder(12, 1, 12, 12, 0, 1, 0))
    assert model.forecast(2).tolist() == [0.0, 0.0]
    for value in AIRLINE:
        model.learn(value)
    # River's own documentation prints 494.5 for the first month of 1961.
    assert model.forecast(12)[0] == pytest.approx(494.54, abs=0.01)


def test_choice_settles_on_the_best_model_and_changes_with_the_series():
    choice = PrequentialChoice([SeasonalNaive(1), SeasonalNaive(4)])
    for step in range(100):
        choice.learn([0, 5, 9, 2][step % 4])
    assert choice.name == "naive(4)"
    for step in range(300):
        choice.learn(100.0 + step)
    assert choice.name == "naive(1)"


@pytest.mark.parametrize("noise", ["normal", "skewed", "growing", "poisson"])
def test_intervals_keep_their_coverage_at_every_horizon(noise):
    rng = np.random.default_rng(5)
    n, horizon = 4000, 3
    series = {
        "normal": 10 + rng.normal(size=n),
        "skewed": rng.exponential(size=n) ** 1.5,
        "growing": rng.normal(size=n) * np.linspace(1, 50, n),
        "poisson": rng.poisson(3, n).astype(float),
    }[noise]
    intervals = AdaptiveIntervals(horizon, 0.9)
    issued, covered = [], [[], [], []]
    for value in series:
        for h in range(horizon):
            if len(issued) > h and len(issued) > 300:
                low, high = issued[-1 - h]
                covered[h].append(low[h] <= value <= high[h])
        intervals.settle(value)
        issued.append(intervals.issue(np.full(horizon, series.mean())))
    assert all(0.85 <= np.mean(one) <= 0.95 for one in covered)


def test_intervals_continue_from_their_state():
    rng = np.random.default_rng(6)
    one, twin = AdaptiveIntervals(2), AdaptiveIntervals(2)
    for value in rng.normal(size=100):
        one.settle(value)
        one.issue(np.zeros(2))
    twin.load(one.state)
    assert np.array_equal(one.issue(np.ones(2)), twin.issue(np.ones(2)))
    with pytest.raises(ValueError, match="horizon"):
        AdaptiveIntervals(3).load(one.state)


def test_surge_and_drop_are_seen_at_once_and_slow_ones_soon():
    rng = np.random.default_rng(7)
    detector = SurgeDetector()
    quiet = [detector.update(float(count), 20.0) for count in rng.poisson(20, 3000)]
    assert quiet.count("none") >= 2998
    assert detector.update(80.0, 20.0) == "surge"
    assert "surge" in [detector.update(float(count), 20.0) for count in rng.poisson(30, 25)]
    detector = SurgeDetector()
    for count in rng.poisson(20, 300):
        detector.update(float(count), 20.0)
    assert "drop" in [detector.update(float(count), 20.0) for count in rng.poisson(11, 25)]


def test_rare_counts_do_not_surge():
    rng = np.random.default_rng(8)
    detector = SurgeDetector()
    assert [detector.update(float(count), 0.3) for count in rng.poisson(0.3, 3000)].count("surge") <= 3


def test_entity_forecasts_cover_and_report_a_surge():
    rng = np.random.default_rng(9)
    counts = seasonal_counts(rng, 1500)
    counts[1400] = 150
    forecaster = CountForecaster(ForecastSettings(horizon=4))
    covered, surges, before = [], [], None
    for step, count in enumerate(counts):
        now = forecaster.learn(1, float(count))
        assert np.all(now.low <= now.high) and np.all(now.low >= 0)
        if before is not None and step > 300:
            covered.append(before.low[0] <= count <= before.high[0])
        surges.append(now.surge)
        before = now
    assert 0.85 <= np.mean(covered) <= 0.95
    assert surges[1400] == "surge" and surges.count("surge") <= 4
    assert before.model.startswith("arima")


def test_forecast_bank_is_bounded_and_keeps_the_busy_keys():
    bank = ForecastBank(ForecastSettings(seasons=(2,), horizon=1, max_keys=3))
    for step in range(10):
        told = bank.update(np.arange(6), [0, 1, 2, 50 + step, 60, 70])
        assert [one.key for one in told] == [3, 4, 5]
    assert len(bank) == 3 and bank.evicted_keys == 30
    bank.forget(3)
    assert len(bank) == 2


def test_forecast_bank_survives_its_bytes():
    rng = np.random.default_rng(10)
    bank = ForecastBank(ForecastSettings(seasons=(4,), horizon=3))
    for counts in rng.poisson(5, (60, 2)):
        bank.update([1, 2], counts)
    twin = ForecastBank.from_bytes(bank.to_bytes())
    assert twin.to_bytes() == bank.to_bytes()
    for one, other in zip(bank.update([1, 2], [3, 4]), twin.update([1, 2], [3, 4])):
        assert np.array_equal(one.mean, other.mean) and np.array_equal(one.high, other.high)
        assert one.model == other.model
    with pytest.raises(ValueError, match="data"):
        ForecastBank.from_bytes(b"\x00")


@pytest.mark.parametrize(("keys", "counts"), [([1, 1], [2, 3]), ([1], [2, 3]), ([1], [np.nan]), ([1], [-1])])
def test_bad_counts_are_refused(keys, counts):
    bank = ForecastBank()
    with pytest.raises(ValueError, match="counts"):
        bank.update(keys, counts)
    assert len(bank) == 0
