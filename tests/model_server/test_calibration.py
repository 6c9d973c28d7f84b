"""What is stated with probability p comes true with frequency p."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import isotonic_regression

from model_server.calibration import Calibrator, never_falling


def test_overconfident_statements_are_brought_to_their_frequency() -> None:
    rng = np.random.default_rng(0)
    calibrator = Calibrator()
    stated = rng.uniform(0, 1, 20_000)
    for p, came in zip(stated, rng.uniform(size=20_000) < stated**2):
        calibrator.learn(p, bool(came))
    grid = np.array([0.2, 0.4, 0.6, 0.8])
    assert np.abs(calibrator.calibrated(grid) - grid**2).max() < 0.06
    assert calibrator.error() > 0.1


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.1, 5)), min_size=1, max_size=30))
def test_pooling_equals_isotonic_regression(pairs: list[tuple[float, float]]) -> None:
    values, weights = np.array(pairs).T
    np.testing.assert_allclose(
        never_falling(values, weights), isotonic_regression(values, sample_weight=weights), atol=1e-9
    )


def test_untested_statements_are_kept_and_the_curve_never_falls() -> None:
    calibrator = Calibrator()
    grid = np.linspace(0, 0.9, 50)
    assert np.abs(calibrator.calibrated(grid) - grid).max() < 0.2
    for _ in range(500):
        calibrator.learn(0.9, False)
    assert (np.diff(calibrator.calibrated(np.linspace(0, 1, 200))) >= -1e-12).all()


def test_one_statement_is_calibrated_as_many_are() -> None:
    calibrator = Calibrator(redraw=10)
    rng = np.random.default_rng(3)
    for p in rng.uniform(0, 1, 2_000):
        calibrator.learn(float(p), bool(rng.uniform() < p**2))
    stated = np.concatenate(([0.0, 1.0], rng.uniform(0, 1, 500)))
    np.testing.assert_allclose([calibrator.frequency(p) for p in stated.tolist()], calibrator.calibrated(stated))
