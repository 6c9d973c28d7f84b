"""The ids behind codes on their way through topics and snapshots, and in a stage's memory."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.columns import encode_columns
from streams.stages import coded_ids
from streams.stages import names as names_module
from streams.stages.coded_ids import CodedIds, decode_ids, encode_ids
from streams.stages.names import Names

EDGES = [0, 2**7, 2**8, 2**15, 2**16, 2**31, 2**32, 2**63 - 1, -1, -32, -(2**7), -(2**15), -(2**31), -(2**63)]
NEAR_EDGES = sorted({code + step for code in EDGES for step in (-1, 0, 1) if -(2**63) <= code + step < 2**63})


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    coded_ids.warm_up()
    names_module.warm_up()


CODES = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(NEAR_EDGES)
TEXTS = st.text(max_size=40) | st.sampled_from(["", "東京"])
IDS = st.dictionaries(CODES, TEXTS, max_size=20)


@given(IDS)
def test_ids_come_back_as_they_were(ids: dict[int, str]) -> None:
    assert decode_ids(encode_ids(CodedIds.of(ids))).as_dict() == ids
    assert Names.from_bytes(10**6, Names(10**6, ids).to_bytes()).held.as_dict() == ids


@given(IDS)
def test_ids_are_written_and_read_as_msgspec_does(ids: dict[int, str]) -> None:
    assert encode_ids(CodedIds.of(ids)) == msgspec.msgpack.encode(ids)


@pytest.mark.parametrize("length", [0, 31, 32, 255, 256, 65_535, 65_536])
def test_ids_of_any_length_are_written_as_msgspec_does(length: int) -> None:
    ids = {7: "x" * length, 8: "東" * length}
    assert encode_ids(CodedIds.of(ids)) == msgspec.msgpack.encode(ids)
    assert decode_ids(msgspec.msgpack.encode(ids)).as_dict() == ids


@pytest.mark.parametrize("size", [15, 16, 65_535, 65_536])
def test_maps_of_any_size_are_written_as_msgspec_does(size: int) -> None:
    ids = {code: str(code) for code in range(size)}
    assert encode_ids(CodedIds.of(ids)) == msgspec.msgpack.encode(ids)
    assert decode_ids(msgspec.msgpack.encode(ids)).as_dict() == ids


@given(IDS)
def test_ids_that_were_written_as_columns_are_still_read(ids: dict[int, str]) -> None:
    codes = np.fromiter(ids.keys(), np.int64, len(ids))
    assert decode_ids(encode_columns({"code": codes, "name": list(ids.values())})).as_dict() == ids


@given(IDS, st.integers(0, 100), st.integers(0, 255))
def test_bytes_that_are_cut_or_changed_are_read_as_msgspec_reads_them_or_refused(
    ids: dict[int, str], place: int, byte: int
) -> None:
    data = bytearray(encode_ids(CodedIds.of(ids)))
    data[place % len(data)] = byte
    for broken in (bytes(data), bytes(data[: place % len(data)])):
        if broken[:1] == b"\x93":
            continue
        try:
            expected = msgspec.msgpack.decode(broken, type=dict[int, str])
            np.array(list(expected), np.int64)
        except (msgspec.DecodeError, UnicodeDecodeError, OverflowError):
            with pytest.raises(ValueError, match="not ids"):
                decode_ids(broken)
        else:
            assert decode_ids(broken).as_dict() == expected


@pytest.mark.parametrize(
    "data", [b"", b"\xc0", b"\x81\x07", b"\x93\x01", b"\x81\xa1a\xa1b", b"\x81\x07\xa1\xff", b"\x81\x07\xa1ab"]
)
def test_what_is_no_map_of_ids_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not"):
        decode_ids(data)


@given(st.lists(st.dictionaries(st.integers(0, 60), st.text(max_size=5), max_size=12), max_size=12))
def test_a_stage_knows_what_it_learned_last_within_its_bound(batches: list[dict[int, str]]) -> None:
    names, expected = Names(16), dict[int, str]()
    for batch in batches:
        batch = {code: f"{code}" for code in batch}
        names.learn(CodedIds.of(batch))
        expected.update(batch)
        surplus = len(expected) - 16
        if surplus > 0:
            for code in list(expected)[: surplus + 2]:
                del expected[code]
        assert list(names.held.as_dict().items()) == list(expected.items())
        assert {code: name for code in range(61) if (name := names.get(code)) is not None} == expected


@given(IDS, st.lists(CODES))
def test_the_ids_of_some_codes_are_those_that_are_known_each_once(ids: dict[int, str], others: list[int]) -> None:
    names, wanted = Names(10**6, ids), others + list(ids) + others
    codes = np.array(wanted, np.int64)
    assert list(names.of(codes).as_dict().items()) == [
        (code, ids[code]) for code in dict.fromkeys(wanted) if code in ids
    ]
    assert names.knows(codes).tolist() == [code in ids for code in wanted]


def test_an_id_that_is_learned_twice_in_a_batch_is_held_once() -> None:
    names, twice = Names(10), CodedIds.joined([CodedIds.of({7: "cafe", 8: "gym"}), CodedIds.of({7: "cafe", 9: "東京"})])
    names.learn(twice)
    assert names.held.as_dict() == {7: "cafe", 8: "gym", 9: "東京"}
    assert twice.select(np.array([3, 0])).as_dict() == {9: "東京", 7: "cafe"}


def test_an_id_that_was_looked_for_in_vain_is_found_once_it_is_learned() -> None:
    names = Names(10, {7: "cafe"})
    assert [names.get(8), names.get(8)] == [None, None]
    names.learn(CodedIds.of({8: "gym"}))
    assert names.get(8) == "gym"


def test_texts_that_were_read_are_kept_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "MAX_READ", 4)
    names = Names(100, {code: str(code) for code in range(50)})
    for _ in range(2):
        assert [names.get(code) for code in range(60)] == [str(code) if code < 50 else None for code in range(60)]
        assert len(names._read) <= 4


def test_what_is_learned_later_does_not_change_what_was_given_out() -> None:
    names, given_out = Names(10_000), list[tuple[CodedIds, int]]()
    for start in range(0, 20_000, 500):
        names.learn(CodedIds.of({code: f"id-{code}" for code in range(start, start + 500)}))
        given_out.append((names.of(np.array([start])), start))
    assert all(ids.as_dict() == {code: f"id-{code}"} for ids, code in given_out)
