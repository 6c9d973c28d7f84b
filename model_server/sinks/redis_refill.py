"""A Redis that holds nothing of ours is filled from the topic, which keeps the latest recommendation of everybody."""

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import redis
import structlog
from confluent_kafka import KafkaException

from model_server.consuming import Record, SharedConsumer
from model_server.sinks.redis_sink import COMPARE_AND_SET, StoredRecommendation, redis_client, write
from schemas.settings import KafkaSettings, RedisSettings
from schemas.topics import RECOMMENDATIONS

log = structlog.get_logger(__name__)
WHOLE = "whole"
# Nothing was lost since we began if our mark still stands; looking and saying so are one step.
SAY_WHOLE = "if redis.call('HGET', KEYS[1], ARGV[1]) then redis.call('HSET', KEYS[1], ARGV[2], '1') end"


class _Told(msgspec.Struct):
    """What is read of a recommendation in the topic."""

    user_id: str
    version: int
    expires_at_ms: int
    limited: bool = False


def standing_recommendations(kafka: KafkaSettings, batch: int = 128) -> Iterator[list[StoredRecommendation]]:
    """Everybody's standing recommendations that have not expired, as the topic has them, earlier versions first.

    It ends where the topic ended. Raises KafkaException if the topic does not exist. O(batch) memory.
    """
    topic = SharedConsumer(kafka, (RECOMMENDATIONS,))
    try:
        while not topic.caught_up:
            yield list(_standing(topic.poll(batch, 0.05), time.time_ns() // 1_000_000))
    finally:
        topic.close()


class RedisRefill:
    """A thread that looks every second whether Redis still holds what was written, and fills it if not.

    A mark in Redis says that it is whole; a Redis that was flushed, or came back without its data, has lost the mark too. What
    is written goes through compare-and-set, so nothing goes back in version and several instances may fill at once.
    """

    CHECK_EVERY_S = 1.0

    def __init__(self, settings: RedisSettings, standing: Callable[[], Iterable[list[StoredRecommendation]]]) -> None:
        self._prefix, self._mark = settings.key_prefix, f"{settings.key_prefix}filled"
        self._client = redis_client(settings)
        self._script = self._client.register_script(COMPARE_AND_SET)
        self._standing = standing
        self._name = secrets.token_hex(4)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="redis-refill", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, also half-way: whoever looks next begins again."""
        self._closing.set()
        self._thread.join(timeout=5.0)
        self._client.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                if self._client.hget(self._mark, WHOLE) is None:
                    self._fill()
            except (redis.RedisError, OSError):
                pass  # the sink says when Redis is away
            except KafkaException as error:
                log.warning("the recommendations cannot be read to fill redis", error=str(error))
            self._closing.wait(self.CHECK_EVERY_S)

    def _fill(self) -> None:
        self._client.hset(self._mark, self._name, "1")
        count = 0
        for some in self._standing():
            if self._closing.is_set():
                return
            if some:
                write(self._script, self._prefix, some)
                count += len(some)
        self._client.eval(SAY_WHOLE, 1, self._mark, self._name, WHOLE)
        log.info("redis held nothing of ours and was filled from the topic", recommendations=count)


def _standing(records: Sequence[Record], now_ms: int) -> Iterator[StoredRecommendation]:
    for record in records:
        try:
            told = msgspec.json.decode(record.value or b"", type=_Told)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # a tombstone, or no recommendation
        if not told.limited and told.expires_at_ms > now_ms:
            yield StoredRecommendation(told.user_id, told.version, told.expires_at_ms, record.value or b"")
