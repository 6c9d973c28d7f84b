"""Predictions are calibrated: what is stated with probability p comes true with frequency p, in time and in kind."""

from model_server.gap_model import LEVELS
from model_server.items import ItemTable
from model_server.metrics import ServerMetrics
from model_server.next_behaviour import NextBehaviourPredictor
from model_server.ranking import RankedItem, Ranking
from model_server.recommending import Made, Task
from schemas.events import BehaviorEvent, Item
from schemas.patterns import ClusterUpdate
from schemas.recommendations import NextBehaviour, Recommendation

START_MS = 1_333_238_400_000


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
