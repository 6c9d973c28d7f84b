"""Sending behaviour events and catalogue items as any well-behaved producer does: keyed, idempotent, acknowledged."""

from array import array
from collections.abc import Callable
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from chronotope.kafka.errors import ClusterError
from schemas import json_wire
from schemas.events import BehaviorEvent, Item
from schemas.pseudonyms import pseudonym
from schemas.settings import KafkaSettings
from schemas.topics import CATALOG, EVENTS, TopicSpec

FLUSH_TIMEOUT_S = 60.0
POLL_EVERY = 256


class SendTimes:
    """When each acknowledged event was stamped by the producer: (partition, offset) -> milliseconds; 8 bytes per event.

    Written by the producer's thread, read by any other.
    """

    def __init__(self) -> None:
        self._partitions: dict[int, tuple[int, array[int]]] = {}

    def note(self, partition: int, offset: int, time_ms: int) -> None:
        """Remember one acknowledged event; offsets of a partition come in order."""
        first, times = self._partitions.setdefault(partition, (offset, array("q")))
        gap = offset - first - len(times)
        if gap > 0:  # somebody else writes to the partition too
            times.extend([-1] * gap)
        times.append(time_ms)

    def get(self, partition: int, offset: int) -> int | None:
        """The send time of an event, None if it is not ours. O(1)."""
        first, times = self._partitions.get(partition, (0, None))
        if times is None or not 0 <= offset - first < len(times):
            return None
        time_ms = times[offset - first]
        return None if time_ms < 0 else time_ms


class EventProducer:
    """Sends events (key: user) and items (key: item); ``sent`` counts what the broker acknowledged.

    A full queue waits; a record that the broker refuses for good raises ClusterError at the next call. Not thread-safe,
    except that ``sent`` and ``times`` may be read from anywhere. With ``pseudonym_key`` no user id leaves this process.
    """

    def __init__(self, settings: KafkaSettings, pseudonym_key: bytes | None = None, **options: Any) -> None:
        self._pseudonym_key = pseudonym_key
        self._producer = Producer(
            settings.confluent_producer() | {"log_level": 0, "queue.buffering.max.messages": 200_000} | options
        )
        self.sent = 0
        self.items_sent = 0
        self.times = SendTimes()
        self._failure: str | None = None
        self._queued = 0

    def send_event(self, event: BehaviorEvent) -> None:
        """Queue one event. Raises ClusterError if an earlier one was refused."""
        if self._pseudonym_key is not None:
            event = msgspec.structs.replace(event, user_id=pseudonym(self._pseudonym_key, event.user_id))
        self._send(EVENTS, event.user_id, event, self._event_acknowledged)

    def send_item(self, item: Item) -> None:
        """Queue one catalogue item. Raises ClusterError if an earlier record was refused."""
        self._send(CATALOG, item.item_id, item, self._item_acknowledged)

    def poll(self, timeout_s: float = 0.0) -> None:
        """Handle acknowledgements. Raises ClusterError if one was a refusal."""
        self._producer.poll(timeout_s)
        if self._failure is not None:
            raise ClusterError(self._failure)

    def flush(self) -> None:
        """Wait until everything queued is acknowledged. Raises ClusterError if that fails or takes over a minute."""
        left = self._producer.flush(FLUSH_TIMEOUT_S)
        self.poll()
        if left:
            raise ClusterError(f"{left} records were not acknowledged within {FLUSH_TIMEOUT_S:g} s")

    def _send(
        self, spec: TopicSpec, key: str, message: msgspec.Struct, done: Callable[[KafkaError | None, Message], None]
    ) -> None:
        value = json_wire.encode(message)
        while True:
            try:
                self._producer.produce(spec.name, value, key, on_delivery=done)
                break
            except BufferError:
                self.poll(0.1)
            except KafkaException as error:
                raise ClusterError(f"{spec.name}: {error.args[0].str()}") from error
        self._queued += 1
        if self._queued % POLL_EVERY == 0:
            self.poll()

    def _event_acknowledged(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failure = f"{message.topic()}: {error.str()}"
            return
        self.times.note(message.partition(), message.offset(), message.timestamp()[1])
        self.sent += 1

    def _item_acknowledged(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failure = f"{message.topic()}: {error.str()}"
            return
        self.items_sent += 1
