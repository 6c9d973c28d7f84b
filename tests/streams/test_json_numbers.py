"""Numbers from the kernel against Python's own, which are correctly rounded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.json_numbers import MOST_DIGITS, float_of, read_number


@settings(max_examples=1_000, deadline=None)
@given(st.integers(0, 10**MOST_DIGITS - 1), st.integers(-30, 30))
def test_a_number_that_is_sure_is_the_nearest_double(mantissa: int, power: int) -> None:
    number, is_sure = float_of(mantissa, len(str(mantissa)), power)
    assert not is_sure or number == float(f"{mantissa}e{power}")


@settings(max_examples=1_000, deadline=None)
@given(st.floats(0.0001, 180.0))
def test_every_place_as_programs_write_it_is_sure(place: float) -> None:
    text = np.frombuffer(repr(place).encode(), np.uint8)
    stop, mantissa, digits, power, _ = read_number(text, 0, len(text))
    assert stop == len(text) and float_of(mantissa, digits, power) == (place, True)


@pytest.mark.parametrize("between", [2**53 + 1, 2**54 + 2, 2**55 + 12, 2**57 + 48, 2**58 - 16])
def test_what_lies_in_the_middle_between_two_doubles_is_never_sure(between: int) -> None:
    """Nothing of a quotient tells which way to round it, but that its double is even."""
    assert float(between - 1) != float(between + 1)
    assert not float_of(between, len(str(between)), 0)[1]


@settings(max_examples=500, deadline=None)
@given(st.from_regex(rb"0{0,20}[0-9]{1,40}", fullmatch=True))
def test_the_first_digits_are_kept_and_all_are_counted(text: bytes) -> None:
    significant = text.lstrip(b"0")
    fraction = np.frombuffer(b"0." + text + b" ", np.uint8)
    stop, mantissa, digits, power, is_float = read_number(fraction, 0, len(fraction))
    assert (stop, digits, power, is_float) == (len(text) + 2, len(significant), -len(text), True)
    assert mantissa == int(significant[:MOST_DIGITS] or b"0")
