"""Redis by compare-and-set: never back in version, gone when expired, and caught up after an outage."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr
from serving_harness import until

from chronotope.local.embedded import EmbeddedRedis
from chronotope.local.ports import free_ports
from model_server.metrics import ServerMetrics
from model_server.sinks.redis_sink import RedisSink, StoredRecommendation, Written
from schemas.settings import RedisSettings

pytestmark = pytest.mark.integration
LATER_MS = 4_000_000_000_000


def stored(user: str, version: int, expires_at_ms: int = LATER_MS) -> StoredRecommendation:
    return StoredRecommendation(user, version, expires_at_ms, f"{user}@{version}".encode())


class Harness:
    def __init__(self, url: str) -> None:
        self.latest: dict[str, StoredRecommendation] = {}
        self.sink = RedisSink(
            RedisSettings(url=SecretStr(url), timeout_s=0.5), ServerMetrics(), lambda: list(self.latest.values())
        )
        self.client = redis.Redis.from_url(url)
        self.written: list[Written] = []

    def put(self, *recommendations: StoredRecommendation) -> None:
        self.latest |= {each.user_id: each for each in recommendations}
        self.sink.put(recommendations)

    def settled(self) -> list[Written]:
        until(lambda: self.sink.waiting == 0, "redis has everything")
        self.written += self.sink.drain()
        return self.written

    def version(self, user: str) -> int:
        return int(self.client.hget(f"chronotope:recommendation:{user}", "version") or 0)


@pytest.fixture
def harness(redis_server: EmbeddedRedis) -> Iterator[Harness]:
    harness = Harness(redis_server.url)
    yield harness
    harness.sink.close()


def test_the_value_and_its_version_are_stored_and_confirmed(harness: Harness) -> None:
    harness.put(stored("ann", 5))
    assert harness.settled() == [Written("ann", 5, 5)]
    assert harness.client.hgetall("chronotope:recommendation:ann") == {b"version": b"5", b"recommendation": b"ann@5"}


def test_an_older_version_never_replaces_a_later_one_and_the_later_is_told(harness: Harness) -> None:
    harness.put(stored("ann", 9_007_199_254_740_000))
    harness.settled()
    harness.sink.put([stored("ann", 9_007_199_254_739_999)])
    assert harness.settled()[-1] == Written("ann", 9_007_199_254_739_999, 9_007_199_254_740_000)
    assert harness.version("ann") == 9_007_199_254_740_000


def test_writing_the_same_version_again_changes_nothing(harness: Harness) -> None:
    for _ in range(2):
        harness.put(stored("ann", 5))
        harness.settled()
    assert harness.written == [Written("ann", 5, 5)] * 2


def test_a_recommendation_expires_by_the_wall_clock(harness: Harness) -> None:
    harness.put(stored("ann", 1, int(time.time() * 1000) + 300), stored("past", 1, 1_000))
    harness.settled()
    assert harness.version("past") == 0
    until(lambda: harness.version("ann") == 0, "the recommendation has expired")


def test_only_the_latest_waits_and_all_that_waited_is_written_after_an_outage(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    harness = Harness(f"redis://127.0.0.1:{port}/0")
    for version in range(1, 200):
        harness.put(stored("ann", version), stored(f"u{version}", 1))
    time.sleep(0.2)
    assert harness.sink.waiting == 200
    with EmbeddedRedis(tmp_path, port):
        written = harness.settled()
        assert Written("ann", 199, 199) in written
        assert len(written) == 200
        assert harness.version("ann") == 199
        harness.sink.close()


def test_a_redis_that_was_killed_and_lost_everything_is_filled_again(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    with EmbeddedRedis(tmp_path, port) as first:
        harness = Harness(first.url)
        harness.put(*(stored(f"u{n}", 7) for n in range(300)))
        harness.settled()
        first.process.kill()
    harness.put(stored("new", 8))
    with EmbeddedRedis(tmp_path, port):
        until(lambda: harness.client.dbsize() == 301, "everything is in the new redis")
        assert harness.version("u299") == 7
        harness.sink.close()
