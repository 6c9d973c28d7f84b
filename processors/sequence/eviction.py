"""Which of the things held to let go when a bound is reached, and what may be wrong afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def lightest_eighth(
    weight: np.ndarray[Any, Any],
    born: np.ndarray[Any, Any],
    floor: float,
    tie_break: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]],
) -> tuple[np.ndarray[Any, Any], float]:
    """A mask of the lightest eighth (at least one), and the new floor.

    ``weight`` is what was seen of each since it is held, ``born`` the floor at that moment. The floor bounds from above
    the weight of whatever is not held. Ranking by ``weight - (floor - born)`` is the Misra-Gries summary with its
    subtractions put off (Anderson et al., "A high-performance algorithm for identifying frequent items in data
    streams", IMC 2017): with room for n things the floor never exceeds 8 / 7 of the total weight over n. Equal ones go
    in the order of ``tie_break`` (a number for each of the places it is asked for), so that the choice does not depend on
    where they lie. O(n).
    """
    count = max(1, len(weight) // 8)
    rank = weight + born - floor
    threshold = np.partition(rank, count - 1)[count - 1]
    leaves = rank < threshold
    tied = np.flatnonzero(rank == threshold)
    leaves[tied[np.argsort(tie_break(tied), kind="stable")[: count - int(leaves.sum())]]] = True
    return leaves, max(floor, float((weight + born)[leaves].max()))
