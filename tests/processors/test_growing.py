"""Arrays that grow keep their rows, begin with zeros beyond them, and stay where they are while there is room."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors import growing
from processors.growing import AHEAD, LARGE_PAGE, LEAST_ROOM, in_place, lengthened, roomy_zeros

LARGE = LARGE_PAGE // 8
RECORD = np.dtype([("a", np.int64), ("b", np.float32, (6,))])
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="addresses are reserved on Linux")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 3 * LARGE), min_size=1, max_size=6), st.sampled_from([np.int64, np.uint8, RECORD]))
def test_rows_are_kept_and_new_ones_are_zero(steps: list[int], dtype: type) -> None:
    array, written = roomy_zeros(1, dtype), 0
    for step in steps:
        array = lengthened(array, len(array) + step)
        numbers = array["a"] if dtype is RECORD else array
        assert (numbers[:written] == 7).all() and not numbers[written:].any()
        numbers[written:] = 7
        written = len(array)


def test_every_array_opens_a_cache_line() -> None:
    assert all(
        roomy_zeros(size, np.uint8).ctypes.data % growing.LINE == 0 for size in (1, 100, LARGE_PAGE, 3 * LARGE_PAGE)
    )


@on_linux
def test_a_large_array_grows_where_it_is_as_far_as_there_is_room() -> None:
    array = roomy_zeros(LARGE, np.int64)
    longer = in_place(array, LEAST_ROOM // 8)
    assert longer is not None and np.shares_memory(array, longer)
    assert in_place(longer, LEAST_ROOM // 8 + LARGE_PAGE) is None
    assert in_place(roomy_zeros(LEAST_ROOM // 8, np.int64), AHEAD * LEAST_ROOM // 8) is not None
    assert np.shares_memory(array, lengthened(array, 2 * LARGE))


def test_a_small_array_and_another_ones_memory_are_copied() -> None:
    small, foreign = roomy_zeros(10, np.int64), np.zeros(3 * LARGE, np.int64)
    assert in_place(small, 11) is None and in_place(foreign[:LARGE], LARGE + 1) is None
    assert in_place(np.frombuffer(b"x" * 100, np.uint8)[:10], 11) is None


@on_linux
def test_rows_of_several_numbers_grow_in_place_too() -> None:
    rows = roomy_zeros(LARGE // 4, np.int64, (5,))
    rows[-1] = 3
    longer = in_place(rows, LARGE // 2)
    assert longer is not None and longer.shape == (LARGE // 2, 5) and (longer[LARGE // 4 - 1] == 3).all()


def test_where_no_more_addresses_are_to_be_had_arrays_are_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "AHEAD", 1 << 40)
    array = roomy_zeros(LARGE, np.int64)
    assert not array.any() and in_place(array, LARGE + 1) is None
