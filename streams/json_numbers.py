"""JSON numbers for the kernel that reads events, correctly rounded or not at all."""

import numpy as np
from numba import njit

from streams.words import WORD, word_at

NOT_A_NUMBER = -1
MOST_DIGITS = 18  # that many fit an int64
_POWERS = 10.0 ** np.arange(23)  # the powers of ten that are doubles
_EXACT = 1 << 53
_HALVES = float((1 << 27) + 1)
_MARGIN = 1.0 + 2.0**-40  # far more than what is left is wrong by, which is 2**-52 of it


@njit(cache=True, forceinline=True)
def read_number(data, at, end):  # type: ignore[no-untyped-def]
    """The number that starts at ``at``: behind it (or NOT_A_NUMBER), its first MOST_DIGITS digits and how many there are, the
    power of ten that belongs to them if there are no more, and whether it has a point or an exponent.

    >>> read_number(np.frombuffer(b"-12.50e1,", np.uint8), 0, 9)
    (8, 1250, 4, -1, True)
    """
    failed = NOT_A_NUMBER, 0, 0, 0, False
    if at < end and data[at] == 45:  # -
        at += 1
    whole, power, is_float = at, 0, False
    at, mantissa, digits = _digits(data, at, end, 0, 0)
    if at == whole or (data[whole] == 48 and at > whole + 1):
        return failed
    if at < end and data[at] == 46:  # .
        is_float = True
        fraction = at + 1
        at, mantissa, digits = _digits(data, fraction, end, mantissa, digits)
        if at == fraction:
            return failed
        power = fraction - at
    if at < end and (data[at] == 101 or data[at] == 69):  # e, E
        is_float = True
        at += 1
        sign = 1
        if at < end and (data[at] == 43 or data[at] == 45):
            sign = 1 if data[at] == 43 else -1
            at += 1
        exponent, start = 0, at
        while at < end and 48 <= data[at] <= 57 and exponent < 10_000:
            exponent = exponent * 10 + data[at] - 48
            at += 1
        if at == start or (at < end and 48 <= data[at] <= 57):
            return failed
        power += sign * exponent
    return at, mantissa, digits, power, is_float


@njit(cache=True, forceinline=True)
def float_of(mantissa, digits, power):  # type: ignore[no-untyped-def]
    """``mantissa`` (at least 0) times ten to the ``power``, and whether that is surely the nearest double.

    Up to 2**53 one operation rounds once (Clinger, 1990). What the longer ones leave is divided once more; they are sure if a
    little more of it would not be rounded to another double (Ziv, 1991).

    >>> float_of(40509995643892495, 17, -15)
    (40.509995643892495, True)
    """
    if digits > MOST_DIGITS or abs(power) >= len(_POWERS):
        return 0.0, False
    if mantissa <= _EXACT:
        return (mantissa * _POWERS[power] if power >= 0 else mantissa / _POWERS[-power]), True
    if power > 0:
        return 0.0, False
    whole, divisor = float(mantissa), _POWERS[-power]
    quotient = whole / divisor
    product, error = _product(quotient, divisor)
    rest = ((whole - product) - error) + float(mantissa - np.int64(whole))
    correction = rest / divisor
    nearest = quotient + correction
    left = correction - (nearest - quotient)
    return nearest, nearest + left * _MARGIN == nearest


@njit(cache=True, forceinline=True)
def _product(left, right):  # type: ignore[no-untyped-def]
    """The product and what it lacks, exactly (Dekker, 1971)."""
    product = left * right
    split = left * _HALVES
    left_high = split - (split - left)
    left_low = left - left_high
    split = right * _HALVES
    right_high = split - (split - right)
    right_low = right - right_high
    lacks = ((left_high * right_high - product) + left_high * right_low + left_low * right_high) + left_low * right_low
    return product, lacks


@njit(cache=True, forceinline=True)
def _digits(data, at, end, mantissa, digits):  # type: ignore[no-untyped-def]
    """Behind the digits from ``at`` on, and what they add. Leading zeros are no digits; beyond MOST_DIGITS they are counted."""
    while at < end:
        if 0 < digits <= MOST_DIGITS - WORD and at + WORD <= end:
            word = word_at(data, at)
            if _are_digits(word):
                mantissa, digits, at = mantissa * 100_000_000 + _eight_digits(word), digits + WORD, at + WORD
                continue
        digit = np.int64(data[at]) - 48
        if digit < 0 or digit > 9:
            break
        at += 1
        if digits or digit:
            mantissa = mantissa * 10 + digit if digits < MOST_DIGITS else mantissa
            digits += 1
    return at, mantissa, digits


@njit(cache=True, forceinline=True)
def _are_digits(word):  # type: ignore[no-untyped-def]
    high, carried = np.uint64(0xF0F0F0F0F0F0F0F0), word + np.uint64(0x0606060606060606)
    return (word & high) | ((carried & high) >> np.uint64(4)) == np.uint64(0x3333333333333333)


@njit(cache=True, forceinline=True)
def _eight_digits(word):  # type: ignore[no-untyped-def]
    """Pairs, fours and eights of digits are put together at a time."""
    word -= np.uint64(0x3030303030303030)
    pairs = word * np.uint64(10) + (word >> np.uint64(8))
    low = (pairs & np.uint64(0x000000FF000000FF)) * np.uint64(0x000F424000000064)
    high = ((pairs >> np.uint64(16)) & np.uint64(0x000000FF000000FF)) * np.uint64(0x0000271000000001)
    return np.int64((low + high) >> np.uint64(32))
