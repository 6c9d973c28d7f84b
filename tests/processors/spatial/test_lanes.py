"""The vector instructions do what the loops they stand for would do, on lines and bytes of every content."""

from typing import Any

import numpy as np
import pytest
from numba import njit

from processors.spatial.lanes import equal_bytes, equal_lanes, lanes_within, shift_lanes

LOW, HIGH, LEAST = np.float32(1.9), np.float32(2.1), 5


@njit
def all_of(bytes_: Any, records_f: Any, records_i: Any, line: int, value: int, x: Any, y: Any, squeeze: Any) -> Any:
    same = equal_bytes(bytes_, 3, value)
    places = equal_lanes(records_i, line, 3, value)
    within = lanes_within(records_f, line, x, y, squeeze, LOW, HIGH, LEAST)
    return same, places, within, shift_lanes(records_f, line, x, y, squeeze, LOW, HIGH, -1, LEAST)


def bits(places: Any) -> int:
    return sum(1 << j for j, on in enumerate(places) if on)


@pytest.mark.parametrize("seed", range(20))
def test_vector_instructions_equal_the_loops_they_stand_for(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bytes_ = rng.integers(250, 256, 64).astype(np.uint8)
    lines_f = rng.uniform(-1.5, 1.5, (6, 4, 4)).astype(np.float32)
    lines_i = lines_f.view(np.int32)
    lines_i[:, 2], lines_i[:, 3] = rng.integers(3, 9, (6, 4)), rng.integers(250, 256, (6, 4))
    x, y, squeeze, value, line = np.float32(0.2), np.float32(-0.1), np.float32(0.9), 252, int(rng.integers(6))
    before, sites = lines_i[:, 2].copy(), lines_i[:, 3].copy()
    squared = squeeze * (lines_f[line, 0] - x) ** 2 + (lines_f[line, 1] - y) ** 2
    sure, unsure = squared <= LOW, (squared > LOW) & (squared <= HIGH)
    enough, came = before[line] >= LEAST, sure & (before[line] - 1 == LEAST)

    same, places, within, shifted = all_of(bytes_, lines_f, lines_i, line, value, x, y, squeeze)

    assert same == bits(bytes_[3:27] == value)
    assert places == bits(sites[line] == value)
    assert within == bits(sure & enough) | bits(unsure & enough) << 4
    assert shifted == bits(sure) | bits(unsure) << 4 | bits(came) << 8 | int(sure.sum()) << 12
    before[line] -= sure
    assert np.array_equal(lines_i[:, 2], before)
    assert np.array_equal(lines_i[:, 3], sites)
