"""Dense numbers for codes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.code_index import CodeIndex

CODES = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 30), max_size=300)


@settings(deadline=None)
@given(CODES, st.integers(1, 50))
def test_codes_are_numbered_in_the_order_in_which_they_are_first_seen(codes: list[int], cut: int) -> None:
    index, number = CodeIndex(), {code: at for at, code in enumerate(dict.fromkeys(codes))}
    rows = [index.rows(np.array(codes[at : at + cut], np.int64)) for at in range(0, len(codes), cut)]
    assert [row for part in rows for row in part.tolist()] == [number[code] for code in codes]
    assert index.codes.tolist() == list(number)


@settings(deadline=None)
@given(CODES, CODES)
def test_finding_numbers_nothing(seen: list[int], asked: list[int]) -> None:
    index, number = CodeIndex(np.array(seen, np.int64)), {code: at for at, code in enumerate(dict.fromkeys(seen))}
    assert index.find(np.array(asked, np.int64)).tolist() == [number.get(code, -1) for code in asked]
    assert len(index) == len(number)


def test_numbers_survive_growth() -> None:
    index, codes = CodeIndex(), np.random.default_rng(0).permutation(100_000)
    for part in np.array_split(codes, 37):
        index.rows(part)
    assert index.find(codes).tolist() == list(range(len(codes)))
