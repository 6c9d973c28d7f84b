"""Decoding: raw records to columns, and a reason for everything that is refused."""

from typing import Any

import msgspec
import numpy as np
import pytest
from event_records import GOOD, NOW_MS, Record

from schemas import json_wire
from schemas.avro_wire import ConfluentAvroDecoder, frame
from schemas.codes import code_of
from schemas.contracts.avro import avro_schema
from schemas.events import BehaviorEvent
from schemas.validation import EventLimits
from streams.decoding import EventDecoder
from streams.stages.columns import NO_CODE, decode_events, encode_events
from streams.stages.names import Names


def value(**changes: Any) -> bytes:
    return msgspec.json.encode({name: field for name, field in (GOOD | changes).items() if field is not ...})


def reason(raw: bytes | None, timestamp: int = NOW_MS) -> str | None:
    columns, rejects = EventDecoder(EventLimits()).decode([Record(5, raw, timestamp)], NOW_MS)
    assert len(columns) + len(rejects) == 1
    return rejects[0].reason if rejects else None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"{not json", "not_decodable"),
        (b"\xff\xfe", "not_decodable"),
        (b"", "no_value"),
        (None, "no_value"),
        (b"[" * 100_000, "wrong_fields"),
        (b'{"event_id": NaN}', "not_decodable"),
        (value(user_id=...), "wrong_fields"),
        (value(event_time_ms="soon"), "wrong_fields"),
        (value(event_time_ms=1.5), "wrong_fields"),
        (value(lat="north", lon=1.0), "wrong_fields"),
        (value(user_id=""), "empty_id"),
        (value(item_id="x" * 257), "id_too_long"),
        (value(context={"category": "x" * 257}), "category_too_long"),
        (value(action="teleport"), "unknown_action"),
        (value(event_time_ms=1), "time_before_2000"),
        (value(event_time_ms=-(10**30)), "time_before_2000"),
        (value(event_time_ms=-(2**63)), "time_before_2000"),
        (value(event_time_ms=NOW_MS + 86_400_001), "time_in_future"),
        (value(event_time_ms=2**63 - 1), "time_in_future"),
        (value(lat=1.0), "half_a_place"),
        (value(lat=90.01, lon=0.0), "impossible_coordinates"),
        (value(lat=0.0, lon=-180.5), "impossible_coordinates"),
        (b"\x00\x00\x00\x00\x01x", "no_schema_registry"),
        (b" " * 5_000_000, "too_large"),
    ],
)
def test_bad_input_is_refused_with_its_reason(raw: bytes | None, expected: str) -> None:
    assert reason(raw) == expected


def test_what_is_in_the_future_depends_on_the_records_own_time_so_that_a_replay_agrees() -> None:
    ahead = value(event_time_ms=NOW_MS - 50_000_000)
    assert reason(ahead, timestamp=NOW_MS - 200_000_000) == "time_in_future"
    assert reason(ahead, timestamp=-1) is None
    assert reason(ahead, timestamp=NOW_MS * 10) is None


def test_good_events_become_columns_in_offset_order() -> None:
    records = [
        Record(3, value(user_id="ü", lat=1.5, lon=2.5, context={"category": "bar"})),
        Record(4, b"broken"),
        Record(9, value(action="purchase")),
    ]
    columns, rejects = EventDecoder(EventLimits()).decode(records, NOW_MS)
    assert columns.offset.tolist() == [3, 9]
    assert columns.user.tolist() == [code_of("ü"), code_of("u")]
    assert columns.category.tolist() == [code_of("bar"), NO_CODE]
    assert columns.weight.tolist() == [1.0, 5.0]
    assert np.isnan(columns.lat).tolist() == [False, True]
    assert columns.names.as_dict()[code_of("bar")] == "bar"
    assert [reject.offset for reject in rejects] == [4]


def test_the_same_event_id_has_the_same_hash_in_every_batch() -> None:
    decoder = EventDecoder(EventLimits())
    alone, _ = decoder.decode([Record(0, value(event_id="é1"))], NOW_MS)
    among, _ = decoder.decode([Record(0, value(event_id="x")), Record(1, value(event_id="é1"))], NOW_MS)
    assert alone.event_hash[0] == among.event_hash[1] != among.event_hash[0]


def test_avro_values_are_read_where_a_registry_is_configured() -> None:
    class Schemas:
        def schema_text(self, schema_id: int) -> str:
            return msgspec.json.encode(avro_schema(BehaviorEvent)).decode()

    decoder = EventDecoder(EventLimits(), ConfluentAvroDecoder(BehaviorEvent, Schemas()))
    event = BehaviorEvent(**GOOD)
    columns, rejects = decoder.decode([Record(0, frame(7, event)), Record(1, json_wire.encode(event))], NOW_MS)
    assert len(columns) == 2 and not rejects
    assert columns.event_hash[0] == columns.event_hash[1]


def test_columns_survive_the_state_log_with_the_names_that_are_new() -> None:
    columns, _ = EventDecoder(EventLimits()).decode([Record(0, value()), Record(1, value(user_id="v"))], NOW_MS)
    again = decode_events(encode_events(columns, Names(9, {code_of("u"): "u"})))
    assert again.names.as_dict() == {code_of("v"): "v", code_of("i"): "i"}
    assert again.time_ms.tolist() == columns.time_ms.tolist()
