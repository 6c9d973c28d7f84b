"""Columnar batches come back as they went in, and broken bytes are told apart from good ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.columns import decode_columns, encode_columns


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=20), st.booleans())))
def test_round_trip_keeps_every_value(rows: list[tuple[int, float, str, bool]]) -> None:
    codes, values, texts, flags = ([row[i] for row in rows] for i in range(4))
    batch = encode_columns(
        {
            "code": np.array(codes, np.int64),
            "value": np.array(values, np.float64),
            "text": texts,
            "flag": np.array(flags, bool),
        }
    )
    back = decode_columns(batch)
    assert back["text"] == texts
    np.testing.assert_array_equal(back["code"], np.array(codes, np.int64))
    np.testing.assert_array_equal(back["value"], np.array(values, np.float64))
    np.testing.assert_array_equal(back["flag"], np.array(flags, bool))


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        encode_columns({"a": np.zeros(2), "b": np.zeros(3)})


def test_a_column_of_objects_is_refused() -> None:
    with pytest.raises(ValueError, match="column a has dtype object"):
        encode_columns({"a": np.array([object()])})


@given(st.binary(max_size=80))
def test_random_bytes_are_refused_with_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"columnar batch|column"):
        decode_columns(data)


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_flipped_byte_never_breaks_anything_but_the_batch(position: int, byte: int) -> None:
    batch = bytearray(encode_columns({"t": np.arange(5.0), "user": ["a", "bb", "", "ccc", "é"]}))
    batch[position % len(batch)] = byte
    try:
        back = decode_columns(bytes(batch))
    except ValueError:
        return
    assert len({len(column) for column in back.values()}) <= 1
