"""Tallies of runs, held against counters."""

from collections import Counter

import numpy as np
import pytest

from processors.ragged import starts_of, tallied, tallied_below

LENGTHS = np.array([0, 1, 7, 0, 300, 2])


def some_codes(bound: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, bound, LENGTHS.sum())


def counters(codes: np.ndarray, weights: np.ndarray) -> list[list[tuple[int, int]]]:
    found = []
    for begin, length in zip(starts_of(LENGTHS).tolist(), LENGTHS.tolist(), strict=True):
        counter = Counter[int]()
        for code, weight in zip(codes[begin : begin + length], weights[begin : begin + length], strict=True):
            counter[int(code)] += int(weight)
        found.append(sorted(counter.items()))
    return found


def as_lists(tally: tuple[np.ndarray, np.ndarray, np.ndarray]) -> list[list[tuple[int, int]]]:
    codes, sums, distinct = tally
    ends = np.cumsum(distinct)[:-1]
    pairs = zip(np.split(codes, ends), np.split(sums, ends), strict=True)
    return [list(zip(some.tolist(), of_them.tolist(), strict=True)) for some, of_them in pairs]


@pytest.mark.parametrize("bound", [3, 40, 2**62])
def test_codes_are_counted_run_by_run(bound: int) -> None:
    codes = some_codes(bound)
    assert as_lists(tallied(codes, LENGTHS)) == counters(codes, np.ones(len(codes), np.int64))


def test_weights_are_added_up_run_by_run() -> None:
    codes, weights = some_codes(40), some_codes(9)
    assert as_lists(tallied(codes, LENGTHS, weights)) == counters(codes, weights)


def test_of_each_run_the_smallest_codes_are_named() -> None:
    codes = some_codes(40)
    expected = [some[:5] for some in counters(codes, np.ones(len(codes), np.int64))]
    assert [[code for code, _ in some] for some in as_lists(tallied(codes, LENGTHS, at_most=5))] == [
        [code for code, _ in some] for some in expected
    ]


@pytest.mark.parametrize("bound", [1, 24, 168])
def test_small_codes_are_counted_without_sorting(bound: int) -> None:
    codes = some_codes(bound)
    assert as_lists(tallied_below(bound, codes, LENGTHS)) == as_lists(tallied(codes, LENGTHS))
