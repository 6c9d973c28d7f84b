"""Convex hulls of points in the plane: Andrew's monotone chain, a fraction of a millisecond for a crowd."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


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
        if size == held or x[corners[size - 1]] != x[at] or y[corners[size - 1]] != y[at]:
            corners[size] = at
            size += 1
    return size


def convex_hull(x: Floats, y: Floats) -> Indices:
    """The points at the corners of the convex hull, counter-clockwise from the lowest x; both ends if all lie on one line.

    Of coincident points one is named; points on an edge are none of its corners. O(points log points).

    >>> convex_hull(np.array([0.0, 2.0, 1.0, 2.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, 2.0, 2.0, 1.0])).tolist()
    [0, 1, 3, 4]

    Source: A. M. Andrew, Another efficient algorithm for convex hulls in two dimensions, 1979.
    """
    order = np.lexsort((y, x))
    corners = np.empty(2 * len(order) + 1, np.int64)
    lower = _chain(x, y, order, corners, 0)
    if lower < 2:
        return corners[:lower]
    # The last corner of either chain is the first of the other.
    upper = _chain(x, y, order[::-1].copy(), corners, lower - 1)
    return corners[: upper - 1]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _chains(x: Floats, y: Floats, order: Indices, start: Indices, corners: Indices) -> Indices:
    """The corners of each run of ``order`` one behind the other in ``corners``; how many each run has."""
    found, held = np.empty(len(start), np.int64), 0
    for run in range(len(start)):
        end = start[run + 1] if run + 1 < len(start) else len(order)
        points, own = order[start[run] : end], corners[held:]
        lower = _chain(x, y, points, own, 0)
        found[run] = lower if lower < 2 else _chain(x, y, points[::-1].copy(), own, lower - 1) - 1
        held += found[run]
    return found


def convex_hulls(x: Floats, y: Floats, start: Indices) -> list[Indices]:
    """The ``convex_hull`` of each run of points, none of them empty, that begin at ``start``: all in one call.

    >>> [hull.tolist() for hull in convex_hulls(np.array([0.0, 1.0, 2.0, 5.0]), np.zeros(4), np.array([0, 3]))]
    [[0, 2], [3]]
    """
    run = np.repeat(np.arange(len(start)), np.diff(np.append(start, len(x))))
    corners = np.empty(2 * len(x) + 1, np.int64)
    found = _chains(x, y, np.lexsort((y, x, run)), start, corners)
    return np.split(corners[: found.sum()], np.cumsum(found)[:-1])


def warm_up() -> None:
    """Compile (or load) the kernels."""
    convex_hull(np.arange(3.0), np.arange(3.0) ** 2)
    convex_hulls(np.arange(3.0), np.arange(3.0) ** 2, np.zeros(1, np.int64))
