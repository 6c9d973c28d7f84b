"""The neighbours of a cell: 25 on its own regular grid, through the links of its strip, and those across a seam by a list."""

from __future__ import annotations

import numpy as np

from processors.spatial.geometry import Params
from processors.spatial.kernel import kernel
from processors.spatial.layout import BEGIN, END, NEAR, SEAM, State

# LINK_OF[part, o]: where the strip of neighbour o of a cell that is that part of its strip stands in a row of `near`; and
# from bit 4 on the part that the neighbour is of it
LINK_OF = np.array(
    [
        [(o // 5) * 3 + ((part + o % 5 - 2) >> 2) + 1 + (((part + o % 5 - 2) & 3) << 4) for o in range(25)]
        for part in range(4)
    ],
    np.uint8,
)


@kernel
def neighbour(S: State, c: int, o: int) -> int:
    """Neighbour o of cell c, -1 if there is none: 0 to 24 on its own grid, from 25 on across a seam."""
    if o < NEAR:
        link = LINK_OF[c & 3, o]
        first = S.near[c >> 2, link & 15]
        return first + (link >> 4) if first >= 0 else -1
    return S.seam_near[seam_row(S, c), o - NEAR]


@kernel
def look_around(S: State, P: Params, c: int, sub: int) -> int:
    """The neighbours of cell c on its grid that hold sites and come near its sub-cell, into S.around; how many they are.

    Without a branch: which cells are empty is beyond what a processor can guess.
    """
    n = 0
    for j in range(P.n_candidates[sub]):
        o = P.candidates[sub, j]
        link = LINK_OF[c & 3, o]
        first = S.near[c >> 2, link & 15]
        d = max(first, 0) + (link >> 4)
        S.around[n, 0], S.around[n, 1] = d, o
        n += int(first >= 0) & int(S.span[d, END] != S.span[d, BEGIN])
    return n


@kernel
def seam_row(S: State, c: int) -> int:
    return 4 * S.strips[c >> 2].seam + (c & 3)


@kernel
def offset_back(S: State, d: int, c: int, o: int) -> int:
    """The offset at which d holds c, given that c holds d at o."""
    if o < NEAR:
        return 24 - o
    row = seam_row(S, d)
    for back in range(SEAM):
        if S.seam_near[row, back] == c:
            return NEAR + back
    raise AssertionError("neighbours across a seam know each other")


@kernel
def place_key(S: State, c: int) -> int:
    """A number that orders cells by place, whatever their slots."""
    return 4 * S.strips[c >> 2].key + (c & 3)
