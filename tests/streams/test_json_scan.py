"""The kernel that reads plain events against msgspec, which reads everything: the same columns, the same refusals."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from event_records import GOOD, NOW_MS, Record
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.validation import EventLimits
from streams.decoding import EventDecoder, Reject
from streams.json_scan import ITEM, scan_events
from streams.stages.columns import EVENT_COLUMNS, EventColumns


def both(values: list[bytes | None]) -> tuple[tuple[EventColumns, list[Reject]], tuple[EventColumns, list[Reject]]]:
    """What is decoded with the kernel, and by msgspec alone."""
    records = [Record(offset, value) for offset, value in enumerate(values)]
    slow = EventDecoder(EventLimits())
    return EventDecoder(EventLimits()).decode(records, NOW_MS), slow._one_by_one(records, np.full(len(records), NOW_MS))


def assert_same(values: list[bytes | None]) -> None:
    (columns, rejects), (expected, refused) = both(values)
    assert rejects == refused
    for name in EVENT_COLUMNS:
        np.testing.assert_array_equal(getattr(columns, name), getattr(expected, name), err_msg=name)
        if columns.lat.dtype == getattr(columns, name).dtype:
            np.testing.assert_array_equal(
                np.signbit(getattr(columns, name)), np.signbit(getattr(expected, name)), err_msg=name
            )
    assert columns.names.as_dict() == expected.names.as_dict()


texts = st.text(max_size=12) | st.sampled_from(
    ["u", "café", "кафе", "東京", 'a"b', "back\\slash", "", "\x7f", "x" * 257]
)
numbers = (
    st.floats(-200.0, 200.0)
    | st.integers(-(10**20), 10**20)
    | st.sampled_from([0.1 + 0.2, -0.0, 5e-324, 1e22, 1e23, 40.791541216670915, 90.0, -180.00000000000003, None])
)
fields: dict[str, st.SearchStrategy[Any]] = {
    "event_id": texts,
    "user_id": texts,
    "item_id": texts,
    "action": st.sampled_from(["view", "purchase", "teleport", "views"]),
    "event_time_ms": st.integers(NOW_MS - 10**9, NOW_MS + 10**9) | st.integers() | st.just(1e12) | st.just("soon"),
    "lat": numbers,
    "lon": numbers,
    "session_id": texts | st.none() | st.just(7),
    "request_id": texts | st.none(),
    "value": numbers | st.just("dear"),
    "context": st.dictionaries(st.sampled_from(["category", "category", "x", "é"]), texts, max_size=3)
    | st.none()
    | st.just({"a": 1}),
    "unknown": texts | numbers | st.booleans() | st.none() | st.just([1]) | st.just({"a": {}}),
    "category": texts,
}
events = st.fixed_dictionaries({}, optional=fields).map(lambda changes: GOOD | changes)
layouts = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n\t", " :\r ")])


@st.composite
def values(draw: st.DrawFn) -> bytes:
    """The JSON of an event in some layout and order of fields, sometimes with a byte that is wrong."""
    fields_of = list(draw(events).items())
    ordered = dict(draw(st.permutations(fields_of)))
    written = json.dumps(ordered, separators=draw(layouts), ensure_ascii=draw(st.booleans())).encode()
    if draw(st.integers(0, 3)) == 0:
        at, byte = draw(st.integers(0, len(written) - 1)), draw(st.integers(0, 255))
        written = draw(
            st.sampled_from([written[:at], written[:at] + bytes([byte]) + written[at + 1 :], written + b" }"])
        )
    return written


@settings(max_examples=400, deadline=None)
@given(st.lists(values(), min_size=1, max_size=5))
def test_whatever_producers_write_it_is_decoded_as_by_msgspec(written: list[bytes]) -> None:
    assert_same([*written])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.from_regex(rb"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True), min_size=1, max_size=5
    )
)
def test_numbers_are_those_of_msgspec_to_the_last_bit(digits: list[bytes]) -> None:
    raw = msgspec.json.encode(GOOD)[:-1]
    found = scan_events([raw + b',"lat":1,"lon":' + number + b"}" for number in digits])
    for row, number in enumerate(digits):
        wrong = number.lstrip(b"-")[:1] == b"0" and number.lstrip(b"-")[1:2].isdigit()
        assert found.plain[row] != wrong
        if not wrong and np.isinf(float(number)):  # msgspec refuses it, and no place is there
            assert np.isinf(found.places[row, 1])
        elif not wrong:
            assert found.places[row, 1].hex() == msgspec.json.decode(number, type=float).hex()


@pytest.mark.parametrize(
    "broken",
    [
        b"{}", b"{", b"", b"null", b"[]", b'{"event_id":"e",}', b'{"event_id":"e" "user_id":"u"}', b"\xef\xbb\xbf{}",
        b'{"event_id":"e","event_id":"f","user_id":"u","item_id":"i","action":"view","event_time_ms":1600000000000}',
        b'{"event_id":"e","user_id":"u","item_id":"i","action":"view","event_time_ms":01600000000000}',
        b'{"event_id":"e","user_id":"u","item_id":"i","action":"view","event_time_ms":1600000000000}{}',
        b'{"event_id":"e","user_id":"u","item_id":"i","action":"view","event_time_ms":1600000000000,"lat":nul}',
        b'{"event_id":"e\n","user_id":"u","item_id":"i","action":"view","event_time_ms":1600000000000}',
        b'{"event_id":"\xff","user_id":"u","item_id":"i","action":"view","event_time_ms":1600000000000}',
        b'{"event_id":"e","user_id":"\xed\xa0\x80","item_id":"i","action":"view","event_time_ms":1600000000000}',
        b'{"event_id":"e","user_id":"u","item_id":"i","action":"view","event_time_ms":1600000000000,"value":1e999}',
        b'{"event_id":"e","user_id":"u","item_id":"i","action":"view","event_time_ms":1600000000000,"context":{"category":"a","category":"b"}}',
    ],
)  # fmt: skip
def test_what_is_not_plain_ends_as_without_the_kernel(broken: bytes) -> None:
    good = msgspec.json.encode(GOOD)
    assert_same([good, broken, good, None, b"\x00avro", good])


def test_minus_nought_is_nought_as_an_integer_and_has_its_sign_as_a_float() -> None:
    raw = msgspec.json.encode(GOOD)[:-1]
    assert_same([raw + b',"lat":-0,"lon":' + number + b"}" for number in (b"-0", b"-0.0", b"-0e5", b"0")])


def test_limits_beyond_any_number_are_none() -> None:
    limits = EventLimits(max_bytes=10**30, max_id_chars=10**30, min_event_time_ms=-(10**30), max_ahead_ms=10**18)
    columns, rejects = EventDecoder(limits).decode([Record(0, msgspec.json.encode(GOOD))], NOW_MS)
    assert len(columns) == 1 and not rejects


def test_plain_events_are_read_by_the_kernel_and_not_by_msgspec() -> None:
    wide = GOOD | {
        "item_id": "кафе",
        "lat": 40.791541216670915,
        "lon": -0.0,
        "value": None,
        "context": {"category": "bar"},
    }
    more = wide | {"source": "web", "category": "none", "sure": True, "maybe": None, "false": False, "weight": -1.5e3}
    found = scan_events([json.dumps(wide, ensure_ascii=False).encode(), *map(msgspec.json.encode, (wide, more))])
    assert found.plain.all()
    start, end = found.spans[1, ITEM]
    assert found.data[start:end].decode() == "кафе"
