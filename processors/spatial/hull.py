"""Convex hulls of points in the plane: Andrew's monotone chain over the points that are not plainly inside."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
FEW = 16  # to sort so few points takes no longer than to find out which of them are inside
MARGIN = 1e-12  # a cross product may be off by that share of its size
EAST, NORTH = (1.0, 1.0, 0.0, -1.0), (0.0, 1.0, 1.0, 1.0)


def convex_hull(x: Floats, y: Floats) -> Indices:
    """The points at the corners of the convex hull, counter-clockwise from the lowest x; both ends if all lie on one line.

    Of coincident points the first one is named; points on an edge are none of its corners. O(points log points).

    >>> convex_hull(np.array([0.0, 2.0, 1.0, 2.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, 2.0, 2.0, 1.0])).tolist()
    [0, 1, 3, 4]

    Sources: A. M. Andrew, Another efficient algorithm for convex hulls in two dimensions, 1979; of large crowds the points
    between the eight outermost ones are left out before, after S. G. Akl and G. T. Toussaint, A fast convex hull algorithm, 1978.
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
        lowest, highest = _outermost(x, y, _candidates(x, y, start[run], end))
        own = corners[held:]
        lower = _chain(x, y, lowest, own, 0)
        # The last corner of either chain is the first of the other, unless there are two of that x.
        upper = _chain(x, y, highest[::-1].copy(), own, lower if lowest[-1] != highest[-1] else lower - 1)
        found[run] = upper if upper == 1 or lowest[0] != highest[0] else upper - 1
        held += found[run]
    return found


@njit(cache=True)  # type: ignore[untyped-decorator]
def _candidates(x: Floats, y: Floats, begin: int, end: int) -> Indices:
    """The points that may be corners: none is left out but what is inside of the polygon of the outermost ones."""
    if end - begin < FEW:
        return np.arange(begin, end)
    outermost = _octagon(x, y, begin, end)
    slack = MARGIN * (x[outermost[0]] - x[outermost[4]]) * (y[outermost[2]] - y[outermost[6]])
    if slack == 0.0:  # one place, or one line along an axis: it has no inside
        return np.arange(begin, end)
    candidates, size = np.empty(end - begin, np.int64), 0
    for at in range(begin, end):
        inside = True
        for side in range(8):
            a, b = outermost[side], outermost[(side + 1) % 8]
            if a != b and (x[b] - x[a]) * (y[at] - y[a]) - (y[b] - y[a]) * (x[at] - x[a]) <= slack:
                inside = False
                break
        if not inside:
            candidates[size] = at
            size += 1
    return candidates[:size]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _octagon(x: Floats, y: Floats, begin: int, end: int) -> Indices:
    """The outermost point in each of the eight main directions, counter-clockwise from the east."""
    outermost = np.full(8, begin)
    for at in range(begin + 1, end):
        for side in range(4):
            dx, dy = EAST[side], NORTH[side]
            far = dx * x[at] + dy * y[at]
            first, opposite = outermost[side], outermost[side + 4]
            if far > dx * x[first] + dy * y[first]:
                outermost[side] = at
            if far < dx * x[opposite] + dy * y[opposite]:
                outermost[side + 4] = at
    return outermost


@njit(cache=True)  # type: ignore[untyped-decorator]
def _outermost(x: Floats, y: Floats, candidates: Indices) -> tuple[Indices, Indices]:
    """The lowest and the highest candidate of each x, from the lowest x to the highest: no other can be a corner."""
    order = candidates[np.argsort(x[candidates])]
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
