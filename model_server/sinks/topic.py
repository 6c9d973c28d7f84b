"""The topic sink: idempotent, keyed by user, and only done when the broker has said so."""

import logging
from collections.abc import Callable

from confluent_kafka import KafkaError, Message, Producer

from schemas.headers import Headers
from schemas.settings import KafkaSettings

Delivered = Callable[[KafkaError | None, Message], None]


class TopicSink:
    """Sends keyed values; ``on_delivery`` is called within ``poll`` once the broker has confirmed or given up.

    Not thread-safe: send and poll from one thread.
    """

    def __init__(self, kafka: KafkaSettings, linger_ms: float = 0.5, delivery_timeout_ms: int = 30_000) -> None:
        self._producer = Producer(
            kafka.confluent_producer()
            | {
                "linger.ms": linger_ms,
                "delivery.timeout.ms": delivery_timeout_ms,
                "queue.buffering.max.messages": 200_000,
                "queue.buffering.max.kbytes": 262_144,
                "message.max.bytes": 8_388_608,
            },
            logger=logging.getLogger("kafka"),
        )

    def send(
        self, topic: str, key: str, value: bytes, on_delivery: Delivered | None = None, headers: Headers | None = None
    ) -> None:
        """Queue one record; waits while the queue is full (the broker is slower than we are)."""
        while True:
            try:
                if on_delivery is None:
                    self._producer.produce(topic, value, key, headers=headers)
                else:
                    self._producer.produce(topic, value, key, on_delivery=on_delivery, headers=headers)
                return
            except BufferError:
                self._producer.poll(0.05)

    def poll(self) -> None:
        """Run the delivery callbacks that are due."""
        self._producer.poll(0)

    def flush(self, timeout_s: float) -> int:
        """Wait for all confirmations; how many are still missing."""
        return int(self._producer.flush(timeout_s))

    def close(self) -> None:
        """Leave the cluster; what is not confirmed yet never will be. Nothing can be sent any more."""
        del self._producer
