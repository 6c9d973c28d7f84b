"""A Redis that has lost what was written is filled from the recommendations topic."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from serving_harness import START_MS, RunningServer, probing, settings_of, until

from chronotope.kafka.topics import apply_topics
from chronotope.local.stack import LocalStack
from model_server.sinks.redis_refill import RedisRefill, standing_recommendations
from model_server.sinks.redis_sink import StoredRecommendation
from schemas.events import RecommendationRequest
from schemas.topics import REQUESTS

pytestmark = pytest.mark.integration
LATER_MS = 4_000_000_000_000


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    with LocalStack(tmp_path) as running:
        apply_topics(running.kafka)
        yield running


def test_what_a_server_before_it_has_sent_is_in_a_redis_that_lost_everything(stack: LocalStack) -> None:
    client = redis.Redis.from_url(stack.redis.url.get_secret_value())

    def stored() -> dict[str, bytes | None]:
        return {f"u{n}": client.hget(f"chronotope:recommendation:u{n}", "recommendation") for n in range(30)}

    with probing(stack) as probe:
        with RunningServer(settings_of(stack)) as first:
            for n in range(30):
                probe.event(f"u{n}", "cafe", START_MS + n, lat=40.7, lon=-74.0)
            until(lambda: None not in stored().values() and not len(first.server.ledger), "everybody is in redis")
            standing = stored()
            request = RecommendationRequest(user_id="u1", request_time_ms=START_MS, request_id="near", lat=40.7, lon=-74.0,
                                            radius_m=500.0)  # fmt: skip
            probe.send(REQUESTS, "u1", request)
            until(lambda: any(each.limited for each in probe.of("u1")), "the limited answer is in the topic")
            until(
                lambda: not probe.of("u1")[-1].limited and len(first.server.scheduler) == 0, "the standing one follows"
            )
            told = [each.value for some in standing_recommendations(stack.kafka) for each in some]
            assert told and not any(b'"limited":true' in value for value in told)
        client.flushall()
        with RunningServer(settings_of(stack)):
            until(lambda: None not in stored().values(), "everybody is in redis again")
            assert {user: held for user, held in stored().items() if user != "u1"} == {
                user: held for user, held in standing.items() if user != "u1"
            }
            client.flushall()
            until(lambda: None not in stored().values(), "a redis that is emptied under a running server is filled")
    client.close()


def test_a_refill_that_redis_forgot_half_way_begins_again_and_nothing_goes_back_in_version(stack: LocalStack) -> None:
    client = redis.Redis.from_url(stack.redis.url.get_secret_value())
    passes = []

    def standing() -> Iterator[list[StoredRecommendation]]:
        passes.append(time.monotonic())
        yield [StoredRecommendation("ann", 5, LATER_MS, b"ann@5")]
        if len(passes) == 1:
            client.flushall()
        else:
            client.hset("chronotope:recommendation:bob", "version", "9")
        yield [StoredRecommendation("bob", 7, LATER_MS, b"bob@7")]

    refill = RedisRefill(stack.redis, standing)
    until(lambda: client.hget("chronotope:filled", "whole") is not None, "it is whole")
    time.sleep(2.5 * RedisRefill.CHECK_EVERY_S)
    refill.close()
    assert len(passes) == 2
    assert client.hget("chronotope:recommendation:ann", "version") == b"5"
    assert client.hget("chronotope:recommendation:bob", "version") == b"9"
    client.close()
