"""Through the real topics: events, patterns, due times, requests and feedback in; recommendations out, in Kafka and Redis."""

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import redis
from pydantic import SecretStr
from serving_harness import START_MS, Probe, RunningServer, probing, settings_of, until

from chronotope.kafka.topics import apply_topics
from chronotope.local.stack import LocalStack
from schemas.events import Item, RecommendationFeedback, RecommendationRequest
from schemas.headers import TRACE_HEADERS
from schemas.patterns import ClusterUpdate, NamedCount, PeriodEstimate, PeriodicityUpdate
from schemas.recommendations import NextBehaviour, Recommendation
from schemas.topics import CATALOG, EVENTS, FEEDBACK, PREDICTIONS, REQUESTS, SPATIAL, TEMPORAL

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with LocalStack(tmp_path_factory.mktemp("stack")) as running:
        apply_topics(running.kafka)
        yield running


@pytest.fixture(scope="module")
def serving(stack: LocalStack) -> Iterator[RunningServer]:
    with RunningServer(settings_of(stack, due_lead_s=3600.0)) as running:
        yield running


@pytest.fixture
def probe(stack: LocalStack) -> Iterator[Probe]:
    with probing(stack) as probe:
        yield probe


def in_redis(stack: LocalStack, user: str) -> Recommendation | None:
    client = redis.Redis.from_url(stack.redis.url.get_secret_value())
    body = client.hget(f"chronotope:recommendation:{user}", "recommendation")
    return None if body is None else msgspec.json.decode(body, type=Recommendation)


def cluster(lat: float, lon: float, name: str, event_time_ms: int = START_MS) -> ClusterUpdate:
    return ClusterUpdate(
        cluster_id=name, version=1, change="born", event_time_ms=event_time_ms, born_at_ms=event_time_ms, lat=lat, lon=lon,
        radius_m=80.0, count=12, distinct_users=9, top_items=[NamedCount(f"{name}-stage", 12.0)],
    )  # fmt: skip


def trace_of(headers: dict[str, bytes]) -> dict[str, bytes]:
    return {name: value for name, value in headers.items() if name in TRACE_HEADERS}


def test_trace_of_an_event_is_that_of_its_recommendation(serving: RunningServer, probe: Probe) -> None:
    trace = {"traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": b"shop=1"}
    probe.event("tracy", "cafe", headers=trace | {"ce_id": b"7", "other": b"x"})
    first = probe.next_of("tracy")
    assert trace_of(probe.headers[first.version]) == trace
    assert probe.headers[first.version]["ce_type"] == b"chronotope.recommendation.user.v1"
    assert probe.headers[first.version]["ce_id"] == first.request_id.encode()
    probe.event("tracy", "bar", START_MS + 1_000)
    assert trace_of(probe.headers[probe.next_of("tracy", after=1).version]) == {}
    request = RecommendationRequest(
        request_id="traced", user_id="tracy", request_time_ms=START_MS + 2_000, categories=["x"]
    )
    probe.send(REQUESTS, "tracy", request, headers=trace)
    until(lambda: any(each.request_id == "traced" for each in probe.of("tracy")), "the request is answered")
    (answer,) = [each for each in probe.of("tracy") if each.request_id == "traced"]
    assert trace_of(probe.headers[answer.version]) == trace


def test_an_event_leads_to_a_recommendation_in_kafka_and_redis(
    stack: LocalStack, serving: RunningServer, probe: Probe
) -> None:
    probe.event("ann", "cafe")
    first = probe.next_of("ann")
    assert (first.trigger, first.strategy, first.items[0].item_id) == ("event", "popular", "cafe")
    assert first.items[0].reasons[0].text == "you come here often"
    assert first.expires_at_ms == first.generated_at_ms + 7 * 86_400_000
    probe.event("ann", "gym", START_MS + 1)
    second = probe.next_of("ann", after=1)
    assert second.version > first.version
    assert (second.source_partition, second.source_offset) == (first.source_partition, second.source_offset)
    assert second.source_offset > first.source_offset
    until(lambda: in_redis(stack, "ann") == second, "redis holds the second recommendation")


def test_a_crowd_near_a_user_refreshes_without_an_event_of_that_user(serving: RunningServer, probe: Probe) -> None:
    probe.event("near", "home", lat=40.70, lon=-74.00)
    probe.event("far", "home", lat=48.85, lon=2.35)
    probe.send(CATALOG, "square-stage", Item(item_id="square-stage"))
    probe.next_of("near")
    probe.next_of("far")
    probe.send(SPATIAL, "square", cluster(40.701, -74.0, "square"))
    refreshed = probe.next_of("near", after=1)
    assert refreshed.trigger == "pattern"
    assert "square-stage" in [item.item_id for item in refreshed.items]
    time.sleep(0.3)
    assert len(probe.of("far")) == 1


def test_a_due_time_refreshes_without_an_event(serving: RunningServer, probe: Probe) -> None:
    probe.event("regular", "cafe")
    probe.next_of("regular")
    due_ms = int(time.time() * 1000) + 3_600_000 + 500
    period = PeriodEstimate(
        period_s=7 * 86_400.0, phase_s=0, period_kind="recurring", strength=1, p_value=1e-9, next_due_ms=due_ms
    )
    update = PeriodicityUpdate(
        entity_kind="user_item", entity="regular\x1fcafe", version=1, event_time_ms=START_MS, periods=[period],
        user_id="regular", item_id="cafe",
    )  # fmt: skip
    probe.send(TEMPORAL, update.entity, update)
    refreshed = probe.next_of("regular", after=1)
    assert refreshed.trigger == "due"
    assert refreshed.generated_at_ms >= due_ms - 3_600_000


def test_a_request_is_answered_under_its_id_within_its_limits(
    stack: LocalStack, serving: RunningServer, probe: Probe
) -> None:
    for n in range(6):
        kind = "coffee" if n % 2 else "bar"
        probe.send(CATALOG, f"r{n}", Item(item_id=f"r{n}", categories=[kind], lat=10.0 + n / 100, lon=20.0))
    probe.event("asker", "r0")
    standing = probe.next_of("asker")
    request = RecommendationRequest(
        request_id="r-1", user_id="asker", request_time_ms=START_MS, lat=10.0, lon=20.0, k=5, categories=["coffee"],
        radius_m=3_500.0,
    )  # fmt: skip
    probe.send(REQUESTS, "asker", request)
    answer = probe.next_of("asker", after=1)
    assert (answer.request_id, answer.trigger) == ("r-1", "request")
    assert {item.item_id for item in answer.items} == {"r1", "r3"}
    restored = probe.next_of("asker", after=2)
    assert len(restored.items) > 2, "the topic ends with the unrestricted recommendation again"
    until(lambda: in_redis(stack, "asker") == restored, "redis never held the restricted answer")
    assert standing.version < answer.version < restored.version


def test_a_new_user_is_answered_and_is_not_forgotten_by_the_topic(serving: RunningServer, probe: Probe) -> None:
    probe.event("somebody", "cafe")
    probe.next_of("somebody")
    probe.send(
        REQUESTS, "brand-new", RecommendationRequest(request_id="n", user_id="brand-new", request_time_ms=START_MS)
    )
    answer = probe.next_of("brand-new")
    assert answer.items
    assert (answer.source_partition, answer.source_offset) == (-1, -1)


def test_a_dismissed_item_and_a_withdrawn_one_are_not_shown_again(serving: RunningServer, probe: Probe) -> None:
    for item in ("liked", "disliked", "closed"):
        probe.send(CATALOG, item, Item(item_id=item))
        probe.event("picky", item)
    until(lambda: bool(probe.of("picky")) and len(probe.of("picky")[-1].items) >= 3, "picky is shown three items")
    shown = probe.of("picky")[-1]
    probe.send(CATALOG, "closed", None)
    dismissal = RecommendationFeedback(
        request_id=shown.request_id, user_id="picky", item_id="disliked", kind="dismissal", event_time_ms=START_MS
    )
    probe.send(FEEDBACK, "picky", dismissal)
    until(lambda: serving.value("chronotope_feedback_total", strategy="popular", kind="dismissal") >= 1, "it is joined")
    until(lambda: "closed" in serving.server.items.withdrawn, "the item is withdrawn")
    seen = len(probe.of("picky"))
    probe.event("picky", "liked", START_MS + 1)
    items = [item.item_id for item in probe.next_of("picky", after=seen).items]
    assert items[0] == "liked"
    assert not {"disliked", "closed"} & set(items)


def test_a_click_is_learned_from_and_counted(serving: RunningServer, probe: Probe) -> None:
    probe.event("somebody", "gym")  # there is something else to be shown
    probe.next_of("somebody")
    probe.event("clicker", "cafe")
    shown = probe.next_of("clicker")
    clicked = shown.items[1].item_id
    for kind in ("impression", "click"):
        feedback = RecommendationFeedback(
            request_id=shown.request_id, user_id="clicker", item_id=clicked, kind=kind, event_time_ms=START_MS + 1
        )  # type: ignore[arg-type]
        probe.send(FEEDBACK, "clicker", feedback)
    refreshed = probe.next_of("clicker", after=1)
    assert clicked in [item.item_id for item in refreshed.items[:2]]
    assert serving.value("chronotope_feedback_total", strategy="popular", kind="click") >= 1


def test_each_active_user_is_predicted(stack: LocalStack, serving: RunningServer, probe: Probe) -> None:
    probe.event("predicted", "cafe")
    probe.next_of("predicted")
    until(lambda: serving.value("chronotope_predictions_total") > 0, "a prediction was sent")
    from model_server.consuming import SharedConsumer

    reader = SharedConsumer(stack.kafka, [PREDICTIONS])
    values: list[bytes] = []
    until(
        lambda: (
            values.extend(r.value for r in reader.poll(100, 0.05) if r.key == b"predicted" and r.value) or bool(values)
        ),
        "the prediction is in its topic",
    )
    reader.close()
    prediction = msgspec.json.decode(values[-1], type=NextBehaviour)
    assert prediction.items[0].name == "cafe"
    assert set(prediction.when_ms) == {"0.1", "0.5", "0.9"}


def test_the_next_event_tests_the_recommendation_before_it(serving: RunningServer, probe: Probe) -> None:
    before = serving.value("chronotope_prequential_hits_total", strategy="popular", k="1")
    probe.event("tested", "cafe")
    probe.next_of("tested")
    probe.event("tested", "cafe", START_MS + 1)
    probe.next_of("tested", after=1)
    assert serving.value("chronotope_prequential_hits_total", strategy="popular", k="1") == before + 1


def test_bad_input_is_counted_by_reason_and_the_server_goes_on(serving: RunningServer, probe: Probe) -> None:
    def raw(**changes: object) -> bytes:
        good = {"event_id": "e", "user_id": "bad", "item_id": "i", "action": "view", "event_time_ms": START_MS}
        return msgspec.json.encode(good | changes)

    bad = {
        "not_decodable": b"{",
        "wrong_shape": raw(event_id=1),
        "too_large": b"x" * 10_000_000,
        "impossible_coordinates": raw(lat=91, lon=0),
        "time_before_2000": raw(event_time_ms=1),
        "unknown_action": raw(action="fly"),
    }
    before = {
        reason: serving.value("chronotope_server_refused_records_total", topic=EVENTS.name, reason=reason)
        for reason in bad
    }
    for value in [*bad.values(), raw().replace(b"1333238400000", b"NaN")]:
        probe.send(EVENTS, "bad", value)
    probe.send(SPATIAL, "x", b'{"kind":"cluster"}')
    probe.send(CATALOG, "half", Item(item_id="half", lat=1.0))
    probe.event("good", "cafe")
    probe.next_of("good")
    for reason, count in before.items():
        after = serving.value("chronotope_server_refused_records_total", topic=EVENTS.name, reason=reason)
        assert after == count + (2 if reason == "not_decodable" else 1), reason
    assert not [each for each in probe.poll() if each.user_id == "bad"]
    until(
        lambda: (
            serving.value("chronotope_server_refused_records_total", topic=CATALOG.name, reason="half_a_place") == 1
        ),
        "the bad item is refused",
    )


def test_a_repeated_and_a_very_late_event_change_nothing(serving: RunningServer, probe: Probe) -> None:
    event = probe.event("late", "cafe", START_MS + 3_600_000)
    probe.next_of("late")
    probe.send(EVENTS, "late", event)
    probe.event("late", "bar", START_MS)
    probe.event("late", "gym", START_MS + 3_599_000)
    latest = probe.next_of("late", after=1)
    own = [item.item_id for item in latest.items if item.reasons[0].pattern == "personal"]
    assert sorted(own) == ["cafe", "gym"], "the slightly late one is learned from, the very late one is not"


def test_while_redis_is_away_the_topic_goes_on_and_redis_catches_up(tmp_path: Path) -> None:
    from chronotope.local.embedded import EmbeddedRedis
    from chronotope.local.ports import free_ports

    port = free_ports(1)[0]
    # A stack of its own: the other tests' server would speak of the same user with versions that its own Redis gets.
    with LocalStack(tmp_path / "stack") as alone:
        apply_topics(alone.kafka)
        away = alone.redis.model_copy(update={"url": SecretStr(f"redis://127.0.0.1:{port}/0"), "timeout_s": 0.3})
        with probing(alone) as probe, RunningServer(settings_of(alone, redis=away)) as running:
            for n in range(5):
                probe.event("patient", f"p{n}", START_MS + n)
            until(
                lambda: any(r.items[0].item_id == "p4" or len(r.items) >= 5 for r in probe.of("patient")),
                "the topic goes on",
            )
            until(lambda: running.value("chronotope_sink_up", sink="redis") == 0.0, "the outage shows")
            assert len(running.server.ledger) > 0, "its offsets are not settled"
            (tmp_path / "redis").mkdir()
            with EmbeddedRedis(tmp_path / "redis", port) as server:
                until(lambda: len(running.server.ledger) == 0, "everything is settled")
                client = redis.Redis.from_url(server.url)

                def version() -> int:
                    return int(client.hget("chronotope:recommendation:patient", "version") or 0)

                until(lambda: max(r.version for r in probe.of("patient")) == version(), "redis holds the last version")
