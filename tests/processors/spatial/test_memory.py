"""Arrays of the window's memory, small and mapped."""

import gc
import mmap
from pathlib import Path

import numpy as np
import pytest

from processors.spatial.memory import LARGE_PAGE, MAPPED, line_full, line_zeros


@pytest.mark.parametrize("size", [1, MAPPED // 16, MAPPED // 16 + 1, LARGE_PAGE // 16, LARGE_PAGE // 4])
def test_an_array_begins_at_a_cache_line_and_holds_what_is_written(size: int) -> None:
    array = line_zeros((size, 4), np.int32)
    assert array.shape == (size, 4) and array.ctypes.data % 64 == 0 and not array.any()
    array[:] = np.arange(size)[:, None]
    assert (array.sum(axis=1) == 4 * np.arange(size)).all()
    assert (line_full((size,), -1, np.int32) == -1).all()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_memory_that_nothing_refers_to_goes_back_to_the_system() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    gc.collect()
    before = resident()
    arrays = [line_full((100 * MAPPED,), 1, np.uint8) for _ in range(3)]
    assert resident() - before > 250 * MAPPED
    del arrays
    assert resident() - before < 50 * MAPPED


def test_a_system_without_large_pages_gives_the_same_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 9_999)  # an advice that no kernel knows
    array = line_zeros((LARGE_PAGE,), np.int64)
    assert len(array) == LARGE_PAGE and not array.any()
