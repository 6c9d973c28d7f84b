"""What becomes of recommendations that were sent, when their users go to another instance and Redis loses them."""

from pathlib import Path

import pytest
import redis
from pydantic import SecretStr
from serving_harness import until

from chronotope.kafka.topics import apply_topics
from chronotope.local.embedded import EmbeddedBroker, EmbeddedRedis
from chronotope.local.ports import free_ports
from model_server.ledger import OffsetLedger
from model_server.metrics import ServerMetrics
from model_server.publishing import Publisher
from model_server.recommending import Task
from model_server.sinks.topic import TopicSink
from schemas.recommendations import Recommendation
from schemas.settings import KafkaSettings, RedisSettings


def recommendation(user: str, version: int) -> Recommendation:
    return Recommendation(
        user_id=user, version=version, request_id=f"{user}-{version}", generated_at_ms=1, trigger="event",
        model_version="1", strategy="popular", expires_at_ms=4_000_000_000_000, source_partition=0, source_offset=0, items=[],
    )  # fmt: skip


@pytest.mark.integration
def test_a_redis_that_comes_back_empty_gets_what_users_were_sent_who_are_given_up(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    kafka, port = KafkaSettings(bootstrap=broker.bootstrap), free_ports(1)[0]
    apply_topics(kafka)
    with EmbeddedRedis(tmp_path, port) as first:
        settings = RedisSettings(url=SecretStr(first.url), timeout_s=0.5)
        publisher = Publisher(
            TopicSink(kafka), settings, OffsetLedger(), ServerMetrics(), lambda *_: None, lambda *_: None
        )
        task = Task(user_id="", trigger="event", since_ms=1, k=1)
        publisher.publish((task, recommendation(user, 7), user) for user in ("ann", "bob"))
        publisher.flush(10.0)
        publisher.give_up(["ann"])
        assert publisher.latest("ann") is None and publisher.latest("bob") is not None
        first.process.kill()
    with EmbeddedRedis(tmp_path, port) as second:
        client = redis.Redis.from_url(second.url)
        until(lambda: client.dbsize() == 2, "what was sent to both is in the new redis")
        assert client.hget("chronotope:recommendation:ann", "version") == b"7"
        publisher.publish([(task, recommendation("ann", 8), "ann")])
        assert publisher.latest("ann") is not None
        publisher.close()
