"""When a pattern is told again: at its first support, and whenever it has grown by a share."""

import math

import numpy as np
import pytest

from streams.stages.growth import GrowthLedger


def told_one_by_one(keys: list[int], min_support: int, growth: float, at_most: int) -> list[int]:
    seen, told, out = dict[int, int](), dict[int, int](), []
    for key in keys:
        seen[key] = seen.get(key, 0) + 1
        before = told.get(key, 0)
        grown = min(before * growth, at_most)
        needed = max(math.ceil(grown), 1) if before else min_support
        if seen[key] - before >= needed:
            told[key] = seen[key]
            out.append(key)
    return out


@pytest.mark.parametrize(
    ("growth", "at_most"), [(0.5, 2**62), (1.0, 4), (1e-3, 2**62), (7.3, 64), (math.inf, 2**62), (1e19, 5)]
)
def test_keys_are_due_as_counted_one_by_one(growth: float, at_most: int) -> None:
    keys = np.random.default_rng(1).integers(0, 9, 400).tolist()
    ledger = GrowthLedger(min_support=2, growth=growth, max_keys=100, at_most=at_most)
    due = [key for one in keys for key in ledger.due(np.array([one])).tolist()]
    assert due == told_one_by_one(keys, 2, growth, at_most)


def test_growth_without_end_tells_a_key_once() -> None:
    ledger = GrowthLedger(min_support=2, growth=math.inf, max_keys=100)
    assert [ledger.due(np.array([7])).tolist() for _ in range(6)] == [[], [7], [], [], [], []]


def test_a_batch_tells_each_key_once_with_all_its_events() -> None:
    ledger = GrowthLedger(min_support=2, growth=1.0, max_keys=100)
    assert ledger.due(np.array([5, 3, 5, 5, 4])).tolist() == [5]
    assert ledger.seen(np.array([5, 3, 9])).tolist() == [3, 1, 0]
