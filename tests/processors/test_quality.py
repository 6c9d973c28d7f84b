"""Pattern quality against scipy's distributions and a hand-made life."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from processors.quality import (
    MAX_SIGNIFICANCE,
    PatternBook,
    best_of,
    binomial_significance,
    binomial_significances,
    poisson_significance,
    poisson_significances,
    significance_of,
    strength,
)
from schemas.patterns import PatternQuality


@pytest.mark.parametrize(("count", "expected"), [(1, 0.01), (3, 2.5), (10, 10), (40, 3.3), (200, 150)])
def test_poisson_significance_is_the_tail(count: int, expected: float) -> None:
    assert poisson_significance(count, expected) == pytest.approx(-math.log10(stats.poisson.sf(count - 1, expected)))


@pytest.mark.parametrize(("count", "total", "share"), [(1, 5, 0.1), (8, 10, 0.5), (30, 400, 0.01), (10, 10, 0.3)])
def test_binomial_significance_is_the_tail(count: int, total: int, share: float) -> None:
    exact = -math.log10(stats.binom.sf(count - 1, total, share))
    assert binomial_significance(count, total, share) == pytest.approx(exact)


def test_significance_goes_on_where_doubles_end() -> None:
    steps = [poisson_significance(count, 1.0) for count in range(100, 400)]
    assert all(0 < b - a < 4 for a, b in pairwise(steps))
    steps = [binomial_significance(count, 2000, 0.05) for count in range(300, 1200)]
    assert all(0 < b - a < 2 for a, b in pairwise(steps)) and steps[-1] > 300
    exact = -stats.binom.logsf(599, 2000, 0.05) / math.log(10)
    assert binomial_significance(600, 2000, 0.05) == pytest.approx(exact, rel=1e-3)


def test_edges_of_significance() -> None:
    assert poisson_significance(0, 3.0) == 0.0 and poisson_significance(2, 0.0) == MAX_SIGNIFICANCE
    assert binomial_significance(0, 4, 0.5) == 0.0 and binomial_significance(2, 4, 0.0) == MAX_SIGNIFICANCE
    assert binomial_significance(4, 4, 1.0) == 0.0
    assert (significance_of(1.0), significance_of(0.0)) == (0.0, MAX_SIGNIFICANCE)
    for wrong in ((-1.0, 1.0), (1.0, -1.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="count"):
            poisson_significance(*wrong)
    with pytest.raises(ValueError, match="count"):
        binomial_significance(5, 4, 0.5)
    with pytest.raises(ValueError, match="share"):
        binomial_significance(1, 4, 1.5)
    with pytest.raises(ValueError, match="p_value"):
        significance_of(-0.1)


def record(book: PatternBook, key: int, time_s: float, claim: int, significance: float = 5.0) -> float:
    return book.record(key, time_s=time_s, claim=claim, support=10.0, significance=significance).stability


def test_stability_is_the_share_of_life_without_a_change() -> None:
    book = PatternBook()
    assert [record(book, 7, t, c) for t, c in ((0, 1), (10, 1), (20, 2), (40, 2))] == [0.0, 1.0, 0.5, 0.75]
    assert record(book, 7, 30.0, 2) == 0.75  # a late record adds no life
    book.retire(7)
    assert record(book, 7, 50.0, 2) == 0.0


def test_strong_is_what_is_significant_and_stable() -> None:
    def made(significance: float, stability: float, support: float = 1.0) -> PatternQuality:
        return PatternQuality(support=support, significance=significance, stability=stability)

    ordered = [made(1.0, 1.0), made(9.0, 0.0), made(9.0, 1.0), made(9.0, 1.0, 2.0)]
    assert all(strength(weaker) < strength(stronger) for weaker, stronger in pairwise(ordered))


def test_the_best_of_many_is_worth_less_than_the_same_one_alone() -> None:
    assert best_of(5.0, 1) == 5.0 and best_of(5.0, 100) == pytest.approx(3.0) and best_of(1.0, 100) == 0.0


def test_book_is_bounded_forgets_the_weakest_and_goes_on_after_a_restart() -> None:
    books = [PatternBook(max_patterns=64), PatternBook(max_patterns=64)]
    for i in range(1000):
        if i % 97 == 0:
            books[1] = PatternBook.from_bytes(books[1].to_bytes())
        told = [record(book, i, 0.0, 0, significance=float(i % 100)) for book in books]
        assert told[0] == told[1]
    assert books[0].to_bytes() == books[1].to_bytes()
    assert len(books[0]) <= 64 and books[0].forgotten_patterns == 1000 - len(books[0])
    # What is left is the strong and the newest: a strong one has its life still, a weak one begins anew.
    assert record(books[0], 99, 10.0, 0, 99.0) == 1.0 and record(books[0], 0, 10.0, 0, 0.0) == 0.0
    with pytest.raises(ValueError, match="payload"):
        PatternBook.from_bytes(b"nothing")


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="significance"):
        PatternBook().record(1, time_s=0.0, claim=0, support=1.0, significance=math.inf)


def test_significances_of_many_are_those_of_each() -> None:
    cases = [(5.0, 9.0, 0.2), (0.0, 4.0, 0.5), (2.0, 4.0, 0.0), (4.0, 4.0, 1.0), (900.0, 2000.0, 0.05), (0.3, 0.7, 0.9)]
    count, total, share = np.array(cases).T
    expected = [binomial_significance(*case) for case in cases]
    np.testing.assert_allclose(binomial_significances(count, total, share), expected)


def test_poisson_significances_of_many_are_those_of_each() -> None:
    count = np.array([0.0, 10.0, 3.5, 5_000.0, 2.0, 4.0])
    expected = np.array([1.0, 1.0, 3.0, 1.0, 0.0, 1e13])
    each = [poisson_significance(*pair) for pair in zip(count.tolist(), expected.tolist(), strict=True)]
    assert each[3] > 300 and each[4] == MAX_SIGNIFICANCE
    np.testing.assert_allclose(poisson_significances(count, expected), each)
