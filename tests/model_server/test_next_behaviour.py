"""Predictions are calibrated: what is stated with probability p comes true with frequency p, in time and in kind."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import isotonic_regression

from model_server.items import ItemTable
from model_server.metrics import ServerMetrics
from model_server.next_behaviour import LEVELS, Calibrator, GapModel, NextBehaviourPredictor, never_falling
from model_server.ranking import RankedItem, Ranking
from model_server.recommending import Made, Task
from schemas.events import BehaviorEvent, Item
from schemas.patterns import ClusterUpdate
from schemas.recommendations import NextBehaviour, Recommendation

START_MS = 1_333_238_400_000


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


def test_quantiles_of_the_next_time_cover_at_their_level() -> None:
    rng = np.random.default_rng(1)
    gaps = GapModel(max_users=100)
    covered = np.zeros(len(LEVELS))
    for n in range(6_000):
        user = f"u{n % 20}"
        since_ms = START_MS + n * 1_000
        gap_s = float(rng.lognormal(8 + (n % 20) / 20, 0.5))
        (stated,) = gaps.quantiles_s([user], [since_ms])
        assert (np.diff(stated) >= 0).all()
        if n >= 2_000:
            covered += gap_s <= stated
        gaps.test(stated, gap_s)
        gaps.observe(user, since_ms, since_ms + int(1000 * gap_s))
    assert np.abs(covered / 4_000 - LEVELS).max() < 0.03


def test_a_regular_user_is_expected_at_the_own_rhythm_and_not_at_everybodys() -> None:
    gaps = GapModel(max_users=100)
    for n in range(300):
        gaps.observe(f"other-{n}", START_MS, START_MS + 600_000)
        if n % 10 == 0:
            gaps.observe("daily", START_MS, START_MS + 86_400_000)
    own, others = gaps.quantiles_s(["daily", "other-1"], [START_MS, START_MS])
    assert 60_000 < own[1] < 110_000
    assert others[1] < 1_500


def predict(predictor: NextBehaviourPredictor, probabilities: dict[str, float]) -> NextBehaviour:
    ranked = [RankedItem(item_id=name, row=0, probability=p) for name, p in probabilities.items()]
    recommendation = Recommendation(
        user_id="ann", version=7, request_id="r", generated_at_ms=1, trigger="event", model_version="m", strategy="s",
        expires_at_ms=2, source_partition=0, source_offset=0, items=[],
    )  # fmt: skip
    made = Made(
        task=Task(user_id="ann", trigger="event", since_ms=0, k=10),
        ranking=Ranking(user_id="ann", items=ranked, explore_probability=0.3),
        recommendation=recommendation,
    )
    return predictor.predict([made], [START_MS])[0]


def test_a_prediction_says_what_where_and_when() -> None:
    items = ItemTable()
    items.upsert(
        [Item(item_id="cafe", categories=["food"], lat=40.0, lon=-74.0), Item(item_id="bar", categories=["food"])]
    )
    predictor = NextBehaviourPredictor(items, ServerMetrics(), max_users=10)
    predictor.note(
        [
            ClusterUpdate(
                cluster_id="square", version=1, change="born", event_time_ms=0, born_at_ms=0, lat=40.0, lon=-74.0,
                radius_m=50.0, count=5, distinct_users=5,
            )
        ]
    )  # fmt: skip
    prediction = predict(predictor, {"cafe": 0.5, "bar": 0.2})
    assert [each.name for each in prediction.items] == ["cafe", "bar"]
    assert [each.name for each in prediction.categories] == ["food"]
    assert [each.name for each in prediction.clusters] == ["square"]
    assert prediction.categories[0].share > prediction.clusters[0].share == prediction.items[0].share
    times = [prediction.when_ms[str(level)] for level in LEVELS]
    assert START_MS < times[0] < times[1] < times[2]
    assert (prediction.version, prediction.explore_probability) == (7, 0.3)


def test_shares_never_exceed_one_even_for_a_broken_model() -> None:
    predictor = NextBehaviourPredictor(ItemTable(), ServerMetrics(), max_users=10)
    prediction = predict(predictor, {"a": float("nan"), "b": 0.9, "c": 0.9})
    assert sum(each.share for each in prediction.items) <= 1.0001


def test_errors_are_reported_and_the_state_survives_a_restart() -> None:
    metrics = ServerMetrics()
    predictor = NextBehaviourPredictor(ItemTable(), metrics, max_users=10)
    for n in range(200):
        predict(predictor, {"cafe": 0.8})
        item = "cafe" if n % 2 else "bar"
        event = BehaviorEvent(
            event_id=str(n), user_id="ann", item_id=item, action="view", event_time_ms=START_MS + 60_000
        )
        predictor.observe(event, START_MS)
    brier = metrics.registry.get_sample_value("chronotope_prediction_error", {"measure": "brier"})
    assert brier is not None and 0.2 < brier < 0.35
    restored = NextBehaviourPredictor(ItemTable(), ServerMetrics(), max_users=10)
    restored.load_state(predictor.state())
    assert predict(restored, {"cafe": 0.8}) == predict(predictor, {"cafe": 0.8})


def test_one_statement_is_calibrated_as_many_are() -> None:
    calibrator = Calibrator(redraw=10)
    rng = np.random.default_rng(3)
    for p in rng.uniform(0, 1, 2_000):
        calibrator.learn(float(p), bool(rng.uniform() < p**2))
    stated = np.concatenate(([0.0, 1.0], rng.uniform(0, 1, 500)))
    np.testing.assert_allclose([calibrator.frequency(p) for p in stated.tolist()], calibrator.calibrated(stated))
