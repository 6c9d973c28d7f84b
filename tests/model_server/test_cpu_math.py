"""Logarithms and exponentials that loops over arrays are made of vectors for are right to float32's last digits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from numba import njit

from model_server.cpu_math import LEAST, MOST, exp_of, largest_of, log_of

Floats = npt.NDArray[np.float32]


def of_each(function: Any) -> Callable[[Floats], Floats]:
    """The function in a loop that the compiler may make vectors of."""

    @njit
    def results(values: Floats) -> Floats:
        out = np.empty_like(values)
        for n in range(len(values)):
            out[n] = function(values[n])
        return out

    return results  # type: ignore[no-any-return]


logs, exponentials = of_each(log_of), of_each(exp_of)


def test_a_logarithm_is_right_to_the_last_digits() -> None:
    values = np.concatenate(
        (np.exp(np.linspace(-80, 80, 50_001)), 1 + np.linspace(-0.3, 0.5, 50_001)), dtype=np.float32
    )
    np.testing.assert_allclose(logs(values), np.log(values.astype(np.float64)), rtol=2e-7, atol=2e-8)


def test_an_exponential_is_right_to_the_last_digits() -> None:
    values = np.linspace(LEAST, MOST, 100_001, dtype=np.float32)
    np.testing.assert_allclose(exponentials(values), np.exp(values.astype(np.float64)), rtol=2e-7)


def test_beyond_what_float32_holds_an_exponential_stays_what_it_is_at_the_end() -> None:
    found = exponentials(np.array([-np.inf, -1e9, -88, 89, np.inf], np.float32))
    assert found.tolist() == pytest.approx([np.exp(-87.0)] * 3 + [np.exp(88.0)] * 2)


def test_what_is_not_a_number_does_not_become_one() -> None:
    for count in (1, 64):  # one alone, and as part of vectors
        unknown = np.full(count, np.nan, np.float32)
        assert np.isnan(logs(unknown)).all() and np.isnan(exponentials(unknown)).all()
        assert (logs(np.full(count, np.inf, np.float32)) == np.inf).all()


@pytest.mark.parametrize("count", [1, 15, 64, 716])
def test_the_largest_is_found_whatever_the_signs(count: int) -> None:
    rng = np.random.default_rng(count)
    for values in (rng.normal(size=count), -rng.exponential(size=count), np.full(count, -np.inf), np.zeros(count)):
        assert largest_of(values.astype(np.float32)) == values.astype(np.float32).max()
    assert largest_of(np.array([-1e9, -0.0, -np.inf], np.float32)) == 0.0
    assert largest_of(np.zeros(0, np.float32)) == -np.inf
