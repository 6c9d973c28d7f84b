"""Logarithms and exponentials of float32 for loops over arrays in numba kernels: the compiler makes vectors of them.

A call of the C library in a loop keeps it from doing that, and costs some ten times as much. The polynomials are Moshier's
(Cephes, logf and expf), right to a ten-millionth. What uses them must loop over few one-dimensional arrays at a time, or the
compiler gives up telling them apart.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

F = np.float32
ONE, HALF = F(1), F(0.5)
LOG2_HIGH, LOG2_LOW, LOG2_E = F(0.693359375), F(-2.12194440e-4), F(1.44269504)
LOWEST, SIGN_SHIFT, NO_SIGN = (
    np.int32(np.float32(-np.inf).view(np.int32) ^ 0x7FFFFFFF),
    np.int32(31),
    np.int32(0x7FFFFFFF),
)
LEAST, MOST = F(-87), F(88)  # what float32 has an exponential of
SQRT_HALF, MANTISSA, MANTISSA_BITS, BIAS = np.int32(0x3F3504F3), np.int32(0x7FFFFF), np.int32(23), np.int32(127)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def log_of(x: Any) -> Any:
    """The logarithm of a positive number that is not denormal; infinity and NaN stay what they are."""
    bits = np.int32(F(x).view(np.int32) - SQRT_HALF)
    power = F(np.int32(bits >> MANTISSA_BITS))
    f = np.int32(np.int32(bits & MANTISSA) + SQRT_HALF).view(np.float32) - ONE
    y = F(7.0376836292e-2)
    y = y * f + F(-1.1514610310e-1)
    y = y * f + F(1.1676998740e-1)
    y = y * f + F(-1.2420140846e-1)
    y = y * f + F(1.4249322787e-1)
    y = y * f + F(-1.6668057665e-1)
    y = y * f + F(2.0000714765e-1)
    y = y * f + F(-2.4999993993e-1)
    y = y * f + F(3.3333331174e-1)
    square = f * f
    y = y * f * square + LOG2_LOW * power - HALF * square
    return f + y + LOG2_HIGH * power if x < np.inf else F(x)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def exp_of(x: Any) -> Any:
    """The exponential, of no less than ``LEAST`` and no more than ``MOST``; NaN stays NaN."""
    x = LEAST if x < LEAST else MOST if x > MOST else F(x)
    power = np.floor(x * LOG2_E + HALF)  # not math.floor, which gives an int64: no vector of those is made
    r = x - power * LOG2_HIGH - power * LOG2_LOW
    y = F(1.9875691500e-4)
    y = y * r + F(1.3981999507e-3)
    y = y * r + F(8.3334519073e-3)
    y = y * r + F(4.1665795894e-2)
    y = y * r + F(1.6666665459e-1)
    y = y * r + F(5.0000001201e-1)
    y = y * (r * r) + r + ONE
    return y * np.int32(np.int32(np.int32(power) + BIAS) << MANTISSA_BITS).view(np.float32)


@njit(cache=True, fastmath={"reassoc", "contract"})
def dot(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Any:
    """The scalar product of float32 vectors, in whatever order is fastest."""
    total = np.float32(0)
    for n in range(len(a)):
        total += a[n] * b[n]
    return total


@njit(cache=True, error_model="numpy")
def largest_of(x: npt.NDArray[Any]) -> Any:
    """The largest of float32 numbers, -infinity of none.

    Compared are their bits, whose order as integers is that of the numbers: of integers the compiler makes vectors. NaN is
    passed over or, with a positive sign, the largest.
    """
    most = LOWEST
    for n in range(len(x)):
        bits = F(x[n]).view(np.int32)
        most = max(most, np.int32(bits ^ np.int32(np.int32(bits >> SIGN_SHIFT) & NO_SIGN)))
    return np.int32(most ^ np.int32(np.int32(most >> SIGN_SHIFT) & NO_SIGN)).view(np.float32)
