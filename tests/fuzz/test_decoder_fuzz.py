"""Whatever bytes come, the decoder takes an event or refuses it with a known reason, each record once, and never raises."""

import json
from typing import Any

import msgspec
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_server.consuming import Record as ConsumedRecord
from model_server.intake import Intake
from model_server.ledger import Source
from model_server.metrics import ServerMetrics
from schemas.avro_wire import ConfluentAvroDecoder, frame
from schemas.contracts.avro import avro_schema
from schemas.events import BehaviorEvent
from schemas.topics import CATALOG, EVENTS, FEEDBACK, PATTERN_TOPICS, REQUESTS, TopicSpec
from schemas.validation import EventLimits
from streams.decoding import REASONS, EventDecoder
from streams.stages.columns import decode_events, encode_events
from streams.stages.names import Names

NOW_MS = 1_700_000_000_000
LIMITS = EventLimits(max_bytes=4_000)
TOPICS = (EVENTS, REQUESTS, FEEDBACK, CATALOG, *PATTERN_TOPICS)
thousands = settings(
    max_examples=700, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
texts = st.text(min_size=1, max_size=20)
good_fields: dict[str, st.SearchStrategy[Any]] = {
    "event_id": texts,
    "user_id": texts,
    "item_id": texts,
    "action": st.sampled_from(["view", "click", "checkin", "trip", "cart", "purchase"]),
    "event_time_ms": st.integers(946_684_800_000, NOW_MS),
    "lat": st.floats(-90, 90),
    "lon": st.floats(-180, 180),
    "value": st.floats(allow_nan=False, allow_infinity=False),
    "context": st.dictionaries(texts, texts, max_size=3),
}
good_events = st.fixed_dictionaries(good_fields)


class Record(msgspec.Struct):
    offset: int
    value: bytes | None
    timestamp: int = NOW_MS


class Schemas:
    """A registry with one schema; every other id is unknown to it."""

    def schema_text(self, schema_id: int) -> str:
        return json.dumps(avro_schema(BehaviorEvent))


def _json(value: Any) -> bytes:
    return json.dumps(value).encode(errors="surrogatepass")


@st.composite
def spoilt_events(draw: st.DrawFn) -> bytes:
    """A good event with some fields of any type, or missing, or unheard of."""
    event = draw(good_events)
    for name in draw(st.lists(st.sampled_from(sorted(event)), max_size=3)):
        event[name] = draw(anything)
    for name in draw(st.lists(st.sampled_from(sorted(event)), max_size=1)):
        event.pop(name, None)
    if draw(st.booleans()):
        event[draw(st.text(max_size=8))] = draw(anything)
    return _json(event)


@st.composite
def damaged_events(draw: st.DrawFn) -> bytes:
    """A good event, in JSON or Avro, with some of its bytes replaced, cut or repeated."""
    event = draw(good_events)
    raw = bytearray(frame(1, BehaviorEvent(**event)) if draw(st.booleans()) else _json(event))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw) - 1))
        raw[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
        raw = raw or bytearray(b"{")
    return bytes(raw)


values = (
    st.none()
    | st.binary(max_size=200)
    | st.binary(max_size=60).map(lambda tail: b"\0" + tail)
    | st.binary(max_size=60).map(lambda body: b"\0\0\0\0\1" + body)
    | anything.map(_json)
    | good_events.map(_json)
    | spoilt_events()
    | damaged_events()
    | st.integers(100, 6_000).map(lambda depth: b'{"context":' + b"[" * depth)
)
timestamps = st.sampled_from([-1, 0, NOW_MS - 1, NOW_MS + 10**9, 2**62])


def _check(decoder: EventDecoder, raw: list[bytes | None], stamps: list[int]) -> None:
    records = [Record(7 + at, value, stamps[at % len(stamps)]) for at, value in enumerate(raw)]
    columns, rejects = decoder.decode(records, NOW_MS)
    accepted, refused = columns.offset.tolist(), [reject.offset for reject in rejects]
    assert sorted(accepted + refused) == [record.offset for record in records]
    assert {reject.reason for reject in rejects} <= set(REASONS)
    assert np.isfinite(columns.weight).all() and (columns.time_ms > 0).all()
    assert (np.isnan(columns.lat) == np.isnan(columns.lon)).all()
    assert (np.nan_to_num(np.abs(columns.lat)) <= 90).all() and (np.nan_to_num(np.abs(columns.lon)) <= 180).all()
    again = decode_events(encode_events(columns, Names(0)))
    assert again.offset.tolist() == accepted and again.user.tolist() == columns.user.tolist()
    for record in records:
        assert len(decoder.decode([record], NOW_MS)[0]) == (record.offset in accepted)


@thousands
@given(st.lists(values, min_size=1, max_size=6), st.lists(timestamps, min_size=1, max_size=3))
def test_any_record_is_taken_or_refused(raw: list[bytes | None], stamps: list[int]) -> None:
    _check(EventDecoder(LIMITS), raw, stamps)


@thousands
@given(st.lists(values, min_size=1, max_size=3))
def test_so_it_is_with_a_schema_registry(raw: list[bytes | None]) -> None:
    _check(EventDecoder(LIMITS, ConfluentAvroDecoder(BehaviorEvent, Schemas())), raw, [NOW_MS])


@thousands
@given(st.lists(values, min_size=1, max_size=6), st.sampled_from(TOPICS), st.booleans())
def test_the_model_server_uses_a_record_or_counts_it_as_refused(
    raw: list[bytes | None], topic: TopicSpec, avro: bool
) -> None:
    metrics = ServerMetrics()
    intake = Intake(TOPICS, LIMITS, metrics, ConfluentAvroDecoder(BehaviorEvent, Schemas()) if avro else None)
    source = Source(topic.name, 0)
    records = [ConsumedRecord(source, at, NOW_MS, b"key", value, ()) for at, value in enumerate(raw)]
    used = list(intake.receive(records, NOW_MS))
    refused = sum(
        sample.value
        for family in metrics.refused.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    )
    assert len(used) + refused + sum(value is None for value in raw) >= len(raw)
