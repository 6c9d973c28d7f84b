"""The Redis rights that the security page asks for are enough to serve, and no more than that."""

import re
import time
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from chronotope.diagnosis.stores import check_redis
from chronotope.local.embedded import EmbeddedRedis
from model_server.metrics import ServerMetrics
from model_server.sinks.redis_sink import RedisSink, StoredRecommendation
from schemas.settings import RedisSettings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"
pytestmark = pytest.mark.integration


def _settings(server: EmbeddedRedis, user: str) -> RedisSettings:
    return RedisSettings(url=SecretStr(server.url.replace("redis://", f"redis://{user}@")))


@pytest.fixture
def guarded(redis_server: EmbeddedRedis) -> EmbeddedRedis:
    """A Redis with the users of the page."""
    rules = re.findall(r"^ACL SETUSER .*$", PAGE.read_text(), re.MULTILINE)
    assert len(rules) == 2
    admin = redis.Redis.from_url(redis_server.url)
    for rule in rules:
        admin.execute_command(*rule.split())
    admin.close()
    return redis_server


def test_server_can_write_and_a_reader_can_only_read(guarded: EmbeddedRedis) -> None:
    settings = _settings(guarded, "server:secret")
    assert check_redis(settings).verdict == "ok"
    sink = RedisSink(settings, ServerMetrics(), list)
    expires_at_ms = int(time.time() * 1000) + 60_000
    sink.put([StoredRecommendation("ann", 5, expires_at_ms, b"{}")])
    sink.flush(10)
    (written,) = sink.drain()
    sink.close()
    assert (written.version, written.stands) == (5, 5)

    reader = redis.Redis.from_url(_settings(guarded, "reader:other").url.get_secret_value())
    assert reader.hget("chronotope:recommendation:ann", "recommendation") == b"{}"
    with pytest.raises(redis.exceptions.NoPermissionError):
        reader.hset("chronotope:recommendation:ann", "version", "9")
    with pytest.raises(redis.exceptions.NoPermissionError):
        reader.hget("somebody:else", "x")
    assert "lacks a right" in check_redis(_settings(guarded, "reader:other")).detail
    reader.close()
