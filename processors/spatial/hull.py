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


def warm_up() -> None:
    """Compile (or load) the kernel."""
    convex_hull(np.arange(3.0), np.arange(3.0) ** 2)
