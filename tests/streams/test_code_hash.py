"""Codes by the kernel are those of hashlib."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codes import code_of
from streams.code_hash import codes_of


@settings(deadline=None)
@given(st.lists(st.text(max_size=400)))
def test_codes_of_slices_are_those_of_the_texts(ids: list[str]) -> None:
    parts = [text.encode() for text in ids]
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    spans = np.stack([ends - np.array([len(part) for part in parts], np.int64), ends], axis=1)
    assert codes_of(np.frombuffer(b"".join(parts), np.uint8), spans).tolist() == [code_of(text) for text in ids]


@pytest.mark.parametrize("length", [0, 1, 7, 8, 127, 128, 129, 255, 256, 257, 1_000])
def test_texts_of_whole_blocks_and_around_them_have_their_codes(length: int) -> None:
    text = "".join(chr(33 + at % 90) for at in range(length))
    data = np.frombuffer(f"before{text}after".encode(), np.uint8)
    assert codes_of(data, np.array([[6, 6 + length]])).tolist() == [code_of(text)]
