"""Recommendations on their way out: sent to every sink, confirmed, measured, and only then settled in the ledger."""

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import get_args

from confluent_kafka import KafkaError, Message

from model_server.ledger import REDIS, TOPIC, OffsetLedger
from model_server.metrics import ServerMetrics
from model_server.recommending import Task
from model_server.sinks.redis_sink import RedisSink, StoredRecommendation
from model_server.sinks.topic import TopicSink
from model_server.tracing import Traced, tracing
from schemas.headers import cloudevents_headers
from schemas.json_wire import encode
from schemas.recommendations import NextBehaviour, Recommendation, Trigger
from schemas.settings import RedisSettings
from schemas.topics import PREDICTIONS, RECOMMENDATIONS

CLOUDEVENTS_SOURCE = "chronotope/model-server"


class Publisher:
    """Sends recommendations to the topic and to Redis and keeps the latest of each user for look-ups.

    ``on_failed`` is told the keys whose recommendation Kafka refused for good; ``on_overtaken`` the user and the version of
    whom Redis held a later recommendation than ours.
    """

    CACHED = 200_000

    def __init__(
        self,
        topic: TopicSink,
        redis: RedisSettings | None,
        ledger: OffsetLedger,
        metrics: ServerMetrics,
        on_failed: Callable[[str, list[Hashable]], None],
        on_overtaken: Callable[[str, int], None],
    ) -> None:
        self._topic, self._ledger, self._metrics = topic, ledger, metrics
        self._on_failed, self._on_overtaken = on_failed, on_overtaken
        self._trace = tracing()
        self._latest: dict[str, StoredRecommendation] = {}
        self._given_up: dict[str, StoredRecommendation] = {}
        self._redis = RedisSink(redis, metrics, self._everything) if redis is not None else None
        metrics.sink_up.labels("kafka").set(1)
        self._arrived: Counter[str] = Counter()  # by strategy what Kafka has confirmed and no metric tells yet
        self._freshness = {trigger: metrics.freshness_seconds.labels(trigger) for trigger in get_args(Trigger)}

    @property
    def redis_waiting(self) -> int:
        """Recommendations that are not in Redis yet."""
        return self._redis.waiting if self._redis is not None else 0

    def latest(self, user_id: str) -> bytes | None:
        """The encoded recommendation that the user was last sent by this instance, unless it has expired."""
        stored = self._latest.get(user_id)
        return stored.value if stored is not None and stored.expires_at_ms > time.time() * 1000 else None

    def give_up(self, users: Iterable[str]) -> None:
        """Another instance speaks for these users now, or nobody yet: no look-up gets what they were sent.

        A Redis that comes back empty in between still gets it; it takes no older version than it holds.
        """
        for user_id in users:
            stored = self._latest.pop(user_id, None)
            if stored is not None:
                _keep(self._given_up, stored, self.CACHED)

    def publish(self, made: Iterable[tuple[Task, Recommendation, Hashable]]) -> None:
        """Send these, each covering what its ledger key owes.

        A recommendation within a request's own limits answers that request on the topic, but is not the user's standing one:
        it does not go to Redis.
        """
        to_redis: list[StoredRecommendation] = []
        for task, recommendation, key in made:
            user, version = recommendation.user_id, recommendation.version
            value = encode(recommendation)
            standing = not task.constraints.selects
            waits_for = TOPIC | REDIS if self._redis is not None and standing else TOPIC
            self._ledger.dispatched(key, user, version, waits_for)
            if standing:
                stored = StoredRecommendation(user, version, recommendation.expires_at_ms, value)
                self._remember(stored)
                to_redis.append(stored)
            traced = self._trace(task.trace, task.trigger, task.since_ms)
            delivered = partial(self._delivered, recommendation, task.since_ms, traced)
            event = cloudevents_headers(
                RECOMMENDATIONS.name, CLOUDEVENTS_SOURCE, recommendation.request_id, recommendation.generated_at_ms
            )
            self._topic.send(RECOMMENDATIONS.name, user, value, delivered, event + traced.headers)
        if self._redis is not None:
            self._redis.put(to_redis)

    def predict(self, predictions: Sequence[NextBehaviour]) -> None:
        """Send predictions of the next behaviour; the last of a user wins, none is waited for."""
        for prediction in predictions:
            self._topic.send(PREDICTIONS.name, prediction.user_id, encode(prediction))
        self._metrics.predictions.inc(len(predictions))

    def settle(self) -> None:
        """Take in the sinks' confirmations."""
        self._topic.poll()
        for strategy, number in self._arrived.items():
            self._metrics.published.labels(strategy).inc(number)
        if self._arrived:
            self._metrics.sink_up.labels("kafka").set(1)
            self._arrived.clear()
        if self._redis is None:
            return
        for user, version, stands in self._redis.drain():
            self._ledger.confirmed(user, version, REDIS)
            if stands > version:
                self._metrics.redis_refused.inc()
                latest = self._latest.get(user)
                if latest is None or stands > latest.version:
                    self._on_overtaken(user, stands)
        self._metrics.redis_waiting.set(self._redis.waiting)

    def flush(self, timeout_s: float) -> None:
        """Wait for the sinks, as long as ``timeout_s`` allows, and take in what they confirm."""
        self._topic.flush(timeout_s)
        if self._redis is not None:
            self._redis.flush(timeout_s)
        self.settle()

    def close(self) -> None:
        """End the Redis thread and leave Kafka."""
        if self._redis is not None:
            self._redis.close()
        self._topic.close()

    def _remember(self, stored: StoredRecommendation) -> None:
        self._given_up.pop(stored.user_id, None)
        _keep(self._latest, stored, self.CACHED)

    def _everything(self) -> list[StoredRecommendation]:
        return [*self._given_up.copy().values(), *self._latest.copy().values()]

    def _delivered(
        self,
        recommendation: Recommendation,
        since_ms: int,
        traced: Traced,
        error: KafkaError | None,
        message: Message,
    ) -> None:
        user, version = recommendation.user_id, recommendation.version
        traced.end(None if error is None else error.str())
        if error is not None:
            self._metrics.sink_errors.labels("kafka").inc()
            self._metrics.sink_up.labels("kafka").set(0)
            self._on_failed(user, self._ledger.failed(user, version))
            return
        self._arrived[recommendation.strategy] += 1
        self._metrics.kafka_seconds.observe(message.latency() or 0.0)
        self._freshness[recommendation.trigger].observe(max(0.0, time.time() - since_ms / 1000))
        self._ledger.confirmed(user, version, TOPIC)


def _keep(kept: dict[str, StoredRecommendation], stored: StoredRecommendation, at_most: int) -> None:
    """Keep it as the latest of all; beyond ``at_most`` the oldest goes."""
    kept.pop(stored.user_id, None)
    kept[stored.user_id] = stored
    if len(kept) > at_most:
        del kept[next(iter(kept))]
