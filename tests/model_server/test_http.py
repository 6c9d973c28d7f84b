"""Look-ups, limits, health and the OpenAPI document, over real HTTP on a real broker."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from serving_harness import RunningServer, probing, settings_of, until

from chronotope.kafka.topics import apply_topics
from chronotope.local.stack import LocalStack
from schemas.events import Item
from schemas.topics import CATALOG

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with LocalStack(tmp_path_factory.mktemp("stack")) as running:
        apply_topics(running.kafka)
        with probing(running) as probe:
            for n in range(6):
                probe.send(
                    CATALOG,
                    f"i{n}",
                    Item(item_id=f"i{n}", categories=["even" if n % 2 == 0 else "odd"], lat=n / 100, lon=0.0),
                )
        yield running


@pytest.fixture(scope="module")
def serving(stack: LocalStack) -> Iterator[RunningServer]:
    with RunningServer(settings_of(stack)) as running:
        until(lambda: len(running.server.items) == 6, "the catalogue is read")
        yield running


def test_a_user_with_a_standing_recommendation_gets_it_as_it_was_published(
    stack: LocalStack, serving: RunningServer
) -> None:
    with probing(stack) as probe:
        probe.event("ann", "i3")
        published = probe.next_of("ann")
    status, body = serving.get("/recommendations/ann")
    assert (status, body["version"], body["items"][0]["item_id"]) == (200, published.version, "i3")


def test_an_unknown_user_gets_an_answer_from_a_known_catalogue(serving: RunningServer) -> None:
    status, body = serving.get("/recommendations/nobody%2Fat%20all")
    assert (status, body["user_id"], body["trigger"]) == (200, "nobody/at all", "request")
    assert len(body["items"]) == 6


def test_a_look_up_keeps_to_its_category_radius_and_length(serving: RunningServer) -> None:
    path = "/recommendations/ann?lat=0&lon=0&radius_m=3500&category=odd&k=5"
    assert {item["item_id"] for item in serving.get(path)[1]["items"]} == {"i1", "i3"}
    assert len(serving.get("/recommendations/ann?k=2")[1]["items"]) == 2


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("k=0", "k must be from 1 to 1000"), ("k=x", "k must be a number"), ("lat=1", "lat and lon come together"),
        ("lat=nan&lon=0", "lat must be from"), ("lat=91&lon=0", "lat must be from"), ("radius_m=5", "radius_m needs lat"),
        ("limit=5", "unknown parameter 'limit'"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named(serving: RunningServer, query: str, words: str) -> None:
    status, body = serving.get(f"/recommendations/ann?{query}")
    assert status == 400
    assert words in body["detail"]


def test_an_id_that_is_too_long_is_refused(serving: RunningServer) -> None:
    assert serving.get(f"/recommendations/{'x' * 257}")[0] == 400


def test_health_readiness_and_metrics_answer(serving: RunningServer) -> None:
    assert serving.get("/healthz") == (200, {"status": "alive"})
    assert serving.get("/readyz") == (200, {"status": "ready"})
    status, text = serving.get("/metrics")
    assert status == 200
    assert "chronotope_freshness_seconds_bucket" in text
    assert "ann" not in text, "no user ids in labels"


def test_every_route_is_in_the_openapi_document(serving: RunningServer) -> None:
    status, document = serving.get("/openapi.json")
    assert (status, document["openapi"]) == (200, "3.1.0")
    routes = {"/recommendations/{user}", "/healthz", "/readyz", "/metrics", "/openapi.json"}
    assert set(document["paths"]) == routes
    assert {"Recommendation", "RecommendedItem", "Reason", "Problem"} <= set(document["components"]["schemas"])
    assert serving.get("/elsewhere")[0] == 404


def test_a_token_is_asked_for_where_one_is_set_and_the_rate_is_limited(stack: LocalStack) -> None:
    settings = settings_of(stack, group="guarded", http_token=SecretStr("s3cret"), http_requests_per_s=3.0)
    with RunningServer(settings) as guarded:
        token = {"Authorization": "Bearer s3cret"}
        assert guarded.get("/recommendations/ann")[0] == 401
        assert guarded.get("/recommendations/ann", {"Authorization": "Bearer wrong"})[0] == 401
        assert guarded.get("/healthz")[0] == 200
        statuses = [guarded.get("/recommendations/ann", token)[0] for _ in range(8)]
        assert statuses[0] == 200
        assert 429 in statuses
        assert "security" in guarded.get("/openapi.json")[1]["paths"]["/recommendations/{user}"]["get"]
