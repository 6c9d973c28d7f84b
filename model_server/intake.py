"""From Kafka records to valid messages: what cannot be used is counted by reason and left out, the stream goes on."""

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from model_server.consuming import Record
from model_server.metrics import ServerMetrics
from schemas.avro_wire import ConfluentAvroDecoder, WireFormatError
from schemas.events import BehaviorEvent, Item
from schemas.json_wire import decoder
from schemas.topics import CATALOG, EVENTS, TopicSpec
from schemas.validation import EventLimits, problem_of


class Received(NamedTuple):
    """A decoded message and the record that carried it."""

    message: Any
    record: Record


class RecentIds:
    """The latest ``limit`` event ids, to recognise an event that a producer sent twice.

    >>> recent = RecentIds(limit=2)
    >>> [recent.is_new(event_id) for event_id in ("a", "b", "a", "c", "a")]
    [True, True, False, True, True]
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ids: OrderedDict[str, None] = (
            OrderedDict()
        )  # of a dict the first key is found by passing all that are gone

    def is_new(self, event_id: str) -> bool:
        """Whether the id was not among the latest; it is from now on. O(1)."""
        if event_id in self._ids:
            return False
        self._ids[event_id] = None
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)
        return True


class Intake:
    """Decodes and validates records; the workers send what is refused here to the rejected topic, so it is only counted.

    Events may be JSON or, with ``avro``, Confluent-framed Avro (a leading zero byte). A record's own timestamp is the clock by
    which an event lies in the future, so that reading it again gives the same verdict.
    """

    def __init__(
        self,
        specs: Sequence[TopicSpec],
        limits: EventLimits,
        metrics: ServerMetrics,
        avro: ConfluentAvroDecoder | None = None,
    ) -> None:
        self._decoders = {spec.name: decoder(spec) for spec in specs}
        self._limits, self._metrics, self._avro = limits, metrics, avro

    def receive(self, records: Sequence[Record], wall_ms: int) -> Iterator[Received]:
        """The usable messages of these records, in order."""
        for topic, number in Counter(record.source.topic for record in records).items():
            self._metrics.records.labels(topic).inc(number)
        for record in records:
            topic = record.source.topic
            if record.value is None:
                if topic == CATALOG.name and record.key:
                    yield Received(_withdrawn(record.key), record)
                continue
            message = self._decode(topic, record.value)
            if isinstance(message, _Refusal):
                self._metrics.refused.labels(topic, message.reason).inc()
                continue
            problem = self._problem(message, min(record.appended_ms, wall_ms) if record.appended_ms > 0 else wall_ms)
            if problem is None:
                yield Received(message, record)
            else:
                self._metrics.refused.labels(topic, problem).inc()

    def _decode(self, topic: str, value: bytes) -> Any:
        if len(value) > self._limits.max_bytes:
            return _Refusal("too_large")
        try:
            if self._avro is not None and topic == EVENTS.name and value[:1] == b"\0":
                return self._avro.decode(value)
            return self._decoders[topic].decode(value)
        except msgspec.ValidationError:
            return _Refusal("wrong_shape")
        except (msgspec.DecodeError, UnicodeDecodeError, WireFormatError, RecursionError):
            return _Refusal("not_decodable")

    def _problem(self, message: object, clock_ms: int) -> str | None:
        if isinstance(message, BehaviorEvent):
            return problem_of(message, self._limits, clock_ms)
        if isinstance(message, Item):
            return _problem_of_item(message)
        user_id = getattr(message, "user_id", "some")
        if user_id is not None and not user_id:
            return "empty_id"
        return None


class _Refusal(NamedTuple):
    reason: str


def _withdrawn(key: bytes) -> Item:
    return Item(item_id=key.decode(errors="replace"), version=-1, available=False)


def _problem_of_item(item: Item) -> str | None:
    if not item.item_id:
        return "empty_id"
    if (item.lat is None) != (item.lon is None):
        return "half_a_place"
    if item.lat is not None and item.lon is not None and not (abs(item.lat) <= 90.0 and abs(item.lon) <= 180.0):
        return "impossible_coordinates"
    return None
