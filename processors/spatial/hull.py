"""Convex hulls of points in the plane: Andrew's monotone chain, a fraction of a millisecond for a crowd."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def convex_hull(x: Floats, y: Floats) -> Indices:
    """The points at the corners of the convex hull, counter-clockwise from the lowest x; both ends if all lie on one line.

    Of coincident points the first one is named; points on an edge are none of its corners. O(points log points).

    >>> convex_hull(np.array([0.0, 2.0, 1.0, 2.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, 2.0, 2.0, 1.0])).tolist()
    [0, 1, 3, 4]

    Source: A. M. Andrew, Another efficient algorithm for convex hulls in two dimensions, 1979.
    """
    return convex_hulls(x, y, np.zeros(min(len(x), 1), np.int64))[0]


def convex_hulls(x: Floats, y: Floats, start: Indices) -> tuple[Indices, Indices]:
    """The ``convex_hull`` of each run of points, none of them empty, that begin at ``start``: all in one call.

    Returns the corners of all runs, one run behind the other, and how many each has.

    >>> corners, numbers = convex_hulls(np.array([0.0, 1.0, 2.0, 5.0]), np.zeros(4), np.array([0, 3]))
    >>> corners.tolist(), numbers.tolist()
    ([0, 2, 3], [2, 1])
    """
    corners = np.empty(2 * len(x) + 1, np.int64)
    numbers = _chains(x, y, start, corners)
    return corners[: numbers.sum()].copy(), numbers


@njit(cache=True)  # type: ignore[untyped-decorator]
def _chains(x: Floats, y: Floats, start: Indices, corners: Indices) -> Indices:
    """The corners of each run one behind the other in ``corners``; how many each run has."""
    found, held = np.empty(len(start), np.int64), 0
    for run in range(len(start)):
        end = start[run + 1] if run + 1 < len(start) else len(x)
        lowest, highest = _outermost(x, y, start[run], end)
        own = corners[held:]
        lower = _chain(x, y, lowest, own, 0)
        # The last corner of either chain is the first of the other, unless there are two of that x.
        upper = _chain(x, y, highest[::-1].copy(), own, lower if lowest[-1] != highest[-1] else lower - 1)
        found[run] = upper if upper == 1 or lowest[0] != highest[0] else upper - 1
        held += found[run]
    return found


@njit(cache=True)  # type: ignore[untyped-decorator]
def _outermost(x: Floats, y: Floats, begin: int, end: int) -> tuple[Indices, Indices]:
    """The lowest and the highest point of each x, from the lowest x to the highest: no other can be a corner."""
    order = np.argsort(x[begin:end]) + begin
    lowest, highest, size = np.empty_like(order), np.empty_like(order), 0
    for at in order:
        if size == 0 or x[at] != x[lowest[size - 1]]:
            lowest[size] = highest[size] = at
            size += 1
        else:
            low, high = lowest[size - 1], highest[size - 1]
            if y[at] < y[low] or (y[at] == y[low] and at < low):
                lowest[size - 1] = at
            if y[at] > y[high] or (y[at] == y[high] and at < high):
                highest[size - 1] = at
    return lowest[:size], highest[:size]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _chain(x: Floats, y: Floats, order: Indices, corners: Indices, held: int) -> int:
    """Walk the points of ``order`` and keep those of a left turn, behind ``held`` corners that stay; the corners now."""
    size = held
    for at in order:
        while size >= held + 2:
            a, b = corners[size - 2], corners[size - 1]
            if (x[b] - x[a]) * (y[at] - y[a]) - (y[b] - y[a]) * (x[at] - x[a]) > 0.0:
                break
            size -= 1
        corners[size] = at
        size += 1
    return size


def warm_up() -> None:
    """Compile (or load) the kernels."""
    convex_hulls(np.arange(3.0), np.arange(3.0) ** 2, np.zeros(1, np.int64))
