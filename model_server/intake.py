"""From Kafka records to valid messages: what cannot be used is counted by reason and left out, the stream goes on."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from model_server.consuming import Record
from model_server.metrics import ServerMetrics
from schemas.events import BehaviorEvent, Item
from schemas.json_wire import decoder
from schemas.topics import CATALOG, TopicSpec
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
        self._ids: dict[str, None] = {}

    def is_new(self, event_id: str) -> bool:
        """Whether the id was not among the latest; it is from now on. O(1)."""
        if event_id in self._ids:
            return False
        self._ids[event_id] = None
        if len(self._ids) > self._limit:
            del self._ids[next(iter(self._ids))]
        return True


class Intake:
    """Decodes and validates records; the workers send what is refused here to the rejected topic, so it is only counted."""

    def __init__(self, specs: Sequence[TopicSpec], limits: EventLimits, metrics: ServerMetrics) -> None:
        self._decoders = {spec.name: decoder(spec) for spec in specs}
        self._limits, self._metrics = limits, metrics

    def receive(self, records: Sequence[Record], wall_ms: int) -> Iterator[Received]:
        """The usable messages of these records, in order."""
        for record in records:
            topic = record.source.topic
            self._metrics.records.labels(topic).inc()
            if record.value is None:
                if topic == CATALOG.name and record.key:
                    yield Received(_withdrawn(record.key), record)
                continue
            if len(record.value) > self._limits.max_bytes:
                self._refuse(topic, "too_large")
                continue
            try:
                message = self._decoders[topic].decode(record.value)
            except msgspec.ValidationError:
                self._refuse(topic, "wrong_shape")
                continue
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._refuse(topic, "not_json")
                continue
            problem = self._problem(message, wall_ms)
            if problem is None:
                yield Received(message, record)
            else:
                self._refuse(topic, problem)

    def _problem(self, message: object, wall_ms: int) -> str | None:
        if isinstance(message, BehaviorEvent):
            return problem_of(message, self._limits, wall_ms)
        if isinstance(message, Item):
            return _problem_of_item(message)
        user_id = getattr(message, "user_id", "some")
        if user_id is not None and not user_id:
            return "empty_id"
        return None

    def _refuse(self, topic: str, reason: str) -> None:
        self._metrics.refused.labels(topic, reason).inc()


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
