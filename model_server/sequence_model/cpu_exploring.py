"""What exploring has to say of a few rows per user, on a CPU: one pass over the rows in place of a chain of operations.

``model_server.sequence_model.listening`` says what it is: query . vector + what a row is worth to everybody + the distance from
the last place. The same to the rounding of float32; a row whose distance lies on the edge of two buckets may fall into either.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

from model_server.sequence_model import relations as rel

Array = npt.NDArray[Any]
NEVER = np.float32(-1e9)
KM_PER_DEGREE, TO_RADIANS = np.float32(111.19), np.float32(math.pi / 180)
EDGES_KM = np.array(rel.DISTANCE_EDGES_KM, np.float32)
ZERO = np.float32(0)


class Explored(NamedTuple):
    """The catalogue as exploring sees it, [N, ...]: vectors, worth, places in degrees, and which rows are known."""

    vectors: Tensor
    worth: Tensor
    lat: Tensor
    lon: Tensor
    known: Tensor


class Explorers(NamedTuple):
    """The users, [B, ...]: query vectors, last place in degrees, last row, and which column of ``near`` is theirs."""

    query: Tensor
    lat: Tensor
    lon: Tensor
    row: Tensor
    column: Tensor


def explore_logits_on_cpu(rows: Tensor, users: Explorers, catalogue: Explored, near: Tensor) -> Tensor:
    """float32 [B, C] of rows int64 [B, C]: the logits, ``NEVER`` for a row that is not known.

    ``near`` float32 [buckets of a distance, columns] are the logits of the distance. O(B C d).
    """
    out = torch.empty(rows.shape)
    seen, asking = Explored(*map(_array, catalogue)), Explorers(*map(_array, users))
    _explore(_array(rows), asking, seen, _array(near), out.numpy())
    return out


def warm_up() -> None:
    """Compile the kernel, or read it from numba's cache, so that no user's batch waits for it."""
    one, row = torch.zeros(1), torch.zeros(1, dtype=torch.long)
    catalogue = Explored(torch.zeros(1, 8), one, one, one, torch.ones(1, dtype=torch.bool))
    near = torch.zeros(rel.DISTANCE_BUCKETS, 1)
    explore_logits_on_cpu(row[None], Explorers(torch.zeros(1, 8), one, one, row, row), catalogue, near)


def _array(tensor: Tensor) -> Any:
    return tensor.contiguous().numpy()


@njit(cache=True, fastmath={"reassoc", "contract"})
def _dot(a: Array, b: Array) -> Any:
    """In whatever order is fastest."""
    total = ZERO
    for n in range(len(a)):
        total += a[n] * b[n]
    return total


@njit(cache=True)
def _explore(rows: Array, users: Any, catalogue: Any, near: Array, out: Array) -> None:
    known_rows = len(catalogue.worth)
    for u in range(rows.shape[0]):
        lat, lon, query, column = users.lat[u], users.lon[u], users.query[u], users.column[u]
        shrink = math.cos(lat * TO_RADIANS)
        for c in range(rows.shape[1]):
            row = rows[u, c]
            if row < 0 or row >= known_rows or not catalogue.known[row]:
                out[u, c] = NEVER
                continue
            if row == users.row[u]:
                bucket: Any = rel.SAME
            else:
                east, north = (lon - catalogue.lon[row]) * shrink, lat - catalogue.lat[row]
                km = math.sqrt(east * east + north * north) * KM_PER_DEGREE
                bucket = rel.UNKNOWN if math.isnan(km) else np.searchsorted(EDGES_KM, km)
            out[u, c] = near[bucket, column] + (catalogue.worth[row] + _dot(query, catalogue.vectors[row]))
