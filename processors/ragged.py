"""Runs of different lengths, one behind the other in a flat column: where they begin, and what is in each."""

import numpy as np
from numba import njit

from processors.code_index import Ints

EVERYTHING = 2**62


def starts_of(lengths: Ints) -> Ints:
    """Where runs of these lengths begin that lie one behind the other.

    >>> starts_of(np.array([2, 0, 3])).tolist()
    [0, 2, 2]
    """
    starts = np.zeros(len(lengths), np.int64)
    np.cumsum(lengths[:-1], out=starts[1:])
    return starts


def places_in(starts: Ints, lengths: Ints) -> Ints:
    """The places of all that is in some runs, run by run. O(places).

    >>> places_in(np.array([7, 0]), np.array([2, 3])).tolist()
    [7, 8, 0, 1, 2]
    """
    return np.arange(lengths.sum()) + np.repeat(starts - starts_of(lengths), lengths)


def tallied(
    codes: Ints, lengths: Ints, weights: Ints | None = None, at_most: int = EVERYTHING
) -> tuple[Ints, Ints, Ints]:
    """(distinct codes of each run, ascending; the sum of their weights there, 1 each without; distinct codes by run).

    Of a run the ``at_most`` smallest codes are named. O(codes log codes).

    >>> codes, counts, lengths = tallied(np.array([5, 3, 5, 9]), np.array([3, 1]))
    >>> codes.tolist(), counts.tolist(), lengths.tolist()
    ([3, 5, 9], [1, 2, 1], [2, 1])
    """
    found, sums = np.empty(len(codes), np.int64), np.empty(len(codes), np.int64)
    distinct = np.empty(len(lengths), np.int64)
    if weights is None:
        total = _count(codes, lengths, at_most, found, sums, distinct)
    else:
        total = _tally(codes, lengths, weights, at_most, found, sums, distinct)
    return found[:total].copy(), sums[:total].copy(), distinct


def tallied_below(bound: int, codes: Ints, lengths: Ints) -> tuple[Ints, Ints, Ints]:
    """``tallied`` for codes from 0 to ``bound``, which is not among them. O(codes + runs * bound), without sorting.

    >>> codes, counts, lengths = tallied_below(24, np.array([5, 3, 5, 9]), np.array([3, 1]))
    >>> codes.tolist(), counts.tolist(), lengths.tolist()
    ([3, 5, 9], [1, 2, 1], [2, 1])
    """
    found, sums = np.empty(len(codes), np.int64), np.empty(len(codes), np.int64)
    distinct = np.empty(len(lengths), np.int64)
    total = _count_below(bound, codes, lengths, found, sums, distinct)
    return found[:total].copy(), sums[:total].copy(), distinct


def warm_up() -> None:
    """Compile the kernel ahead of the first event."""
    codes, lengths = np.zeros(2, np.int64), np.full(1, 2)
    tallied(codes, lengths)
    tallied(codes, lengths, codes)
    tallied_below(1, codes, lengths)


@njit(cache=True)
def _count(codes, lengths, at_most, found, sums, distinct):  # type: ignore[no-untyped-def]
    held, begin = 0, 0
    for run in range(len(lengths)):
        end, first = begin + lengths[run], held
        for code in np.sort(codes[begin:end]):
            if held > first and found[held - 1] == code:
                sums[held - 1] += 1
            elif held - first < at_most:
                found[held], sums[held] = code, 1
                held += 1
            else:
                break
        distinct[run], begin = held - first, end
    return held


@njit(cache=True)
def _count_below(bound, codes, lengths, found, sums, distinct):  # type: ignore[no-untyped-def]
    counts, held, begin = np.zeros(bound, np.int64), 0, 0
    for run in range(len(lengths)):
        end, first = begin + lengths[run], held
        for at in range(begin, end):
            counts[codes[at]] += 1
        for code in range(bound):
            if counts[code]:
                found[held], sums[held], counts[code] = code, counts[code], 0
                held += 1
        distinct[run], begin = held - first, end
    return held


@njit(cache=True)
def _tally(codes, lengths, weights, at_most, found, sums, distinct):  # type: ignore[no-untyped-def]
    held, begin = 0, 0
    for run in range(len(lengths)):
        end, first = begin + lengths[run], held
        for at in np.argsort(codes[begin:end]):
            code = codes[begin + at]
            if held > first and found[held - 1] == code:
                sums[held - 1] += weights[begin + at]
            elif held - first < at_most:
                found[held], sums[held] = code, weights[begin + at]
                held += 1
            else:
                break
        distinct[run], begin = held - first, end
    return held
