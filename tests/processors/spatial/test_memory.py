"""Arrays of the window's memory, small and mapped."""

import gc
import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from processors.spatial.memory import LARGE_PAGE, MAPPED, ROOM, grown, line_full, line_zeros


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("size", [1, MAPPED // 16, MAPPED // 16 + 1, LARGE_PAGE // 16, LARGE_PAGE // 4])
def test_an_array_begins_at_a_cache_line_and_holds_what_is_written(size: int) -> None:
    array = line_zeros((size, 4), np.int32)
    assert array.shape == (size, 4) and array.ctypes.data % 64 == 0 and not array.any()
    array[:] = np.arange(size)[:, None]
    assert (array.sum(axis=1) == 4 * np.arange(size)).all()
    assert (line_full((size,), -1, np.int32) == -1).all()


@pytest.mark.parametrize("size", [1, MAPPED // 16, MAPPED // 8, ROOM // 16, ROOM // 16 + 1, LARGE_PAGE])
def test_an_array_that_grows_holds_what_it_held_and_zeros(size: int) -> None:
    array = line_zeros((size, 4), np.int32)
    for rows in (size + 1, size + 9_000, 2 * size + 9_000):
        array[:] = np.arange(len(array))[:, None]
        before, array = array.copy(), grown(array, rows)
        assert array.shape == (rows, 4) and array.dtype == np.int32 and array.ctypes.data % 64 == 0
        assert (array[: len(before)] == before).all() and not array[len(before) :].any()


@pytest.mark.skipif(sys.platform != "linux", reason="arrays are mapped on Linux only")
def test_an_array_with_room_behind_it_grows_where_it_is_and_others_are_copied() -> None:
    mapped, small = line_full((MAPPED,), 1, np.uint8), line_full((MAPPED - 1,), 1, np.uint8)
    assert np.shares_memory(mapped, grown(mapped, ROOM))
    assert not np.shares_memory(mapped, grown(mapped, ROOM + 1))
    assert not np.shares_memory(mapped[1:], grown(mapped[1:], MAPPED))
    assert not np.shares_memory(small, grown(small, MAPPED))


def test_an_empty_array_grows() -> None:
    assert grown(np.empty((0, 3), np.int32), 2).tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_memory_that_nothing_refers_to_goes_back_to_the_system() -> None:
    gc.collect()
    before = resident()
    arrays = [line_full((100 * MAPPED,), 1, np.uint8) for _ in range(3)]
    assert resident() - before > 250 * MAPPED
    del arrays
    assert resident() - before < 50 * MAPPED


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_room_to_grow_takes_no_memory() -> None:
    before = resident()
    arrays = [line_full((MAPPED,), 1, np.uint8) for _ in range(20)]
    assert 19 * MAPPED < resident() - before < 40 * MAPPED
    assert len(arrays) == 20


def test_a_system_without_large_pages_gives_the_same_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 9_999)  # an advice that no kernel knows
    array = line_zeros((LARGE_PAGE,), np.int64)
    assert len(array) == LARGE_PAGE and not array.any()
