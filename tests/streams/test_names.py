"""The ids behind codes on their way through topics and snapshots."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.columns import encode_columns
from streams.stages.columns import decode_names, encode_names
from streams.stages.names import Names

CODES = st.integers(-(2**63), 2**63 - 1)


@given(st.dictionaries(CODES, st.text()))
def test_ids_come_back_as_they_were(names: dict[int, str]) -> None:
    assert decode_names(encode_names(names)) == names
    assert Names.from_bytes(10**6, Names(10**6, names).to_bytes()).held == names


@given(st.dictionaries(CODES, st.text()))
def test_ids_that_were_written_as_columns_are_still_read(names: dict[int, str]) -> None:
    codes = np.fromiter(names.keys(), np.int64, len(names))
    assert decode_names(encode_columns({"code": codes, "name": list(names.values())})) == names


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x81\x07", b"\x93\x01", b"\x81\xa1a\xa1b"])
def test_what_is_no_map_of_ids_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not"):
        decode_names(data)
