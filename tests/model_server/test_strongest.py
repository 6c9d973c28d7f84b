"""The strongest shares are those that sorting finds, and their parts those of the positive evidence."""

import numpy as np
import pytest

from model_server.strongest import strongest


@pytest.mark.parametrize("most", [0, 1, 3, 9])
def test_the_strongest_are_those_of_a_sorted_list_with_their_parts_of_what_is_positive(most: int) -> None:
    rng = np.random.default_rng(most)
    shares = rng.normal(size=(50, 7))
    shares[3], shares[4] = -1.0, np.arange(7.0)
    columns, parts = strongest(shares, most)
    for line, named, part in zip(shares, columns, parts):
        positive = np.where(line > 0, line, 0.0)
        best = np.argsort(-positive, kind="stable")[: min(most, 7)]
        expected = positive[best] / max(positive.sum(), 1e-30)
        np.testing.assert_allclose(part, expected, rtol=1e-12)
        assert named[part > 0].tolist() == best[expected > 0].tolist()


def test_of_equal_shares_the_first_comes_first() -> None:
    columns, parts = strongest(np.array([[1.0, 2.0, 1.0, 2.0]]), 3)
    assert (columns.tolist(), parts.round(3).tolist()) == ([[1, 3, 0]], [[0.333, 0.333, 0.167]])


def test_what_is_no_number_counts_for_nothing_and_the_infinite_has_no_parts() -> None:
    columns, parts = strongest(np.array([[np.nan, 3.0, 1.0], [np.inf, 3.0, 1.0]]), 2)
    assert (columns[0].tolist(), parts.tolist()) == ([1, 2], [[0.75, 0.25], [0.0, 0.0]])
