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

from model_server.cpu_math import dot
from model_server.sequence_model import relations as rel
from model_server.sequence_model.cpu_relations import EDGES_KM, KM_PER_DEGREE, distance_bucket, shrink_of

Array = npt.NDArray[Any]
NEVER = np.float32(-1e9)
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


def distance_buckets_on_cpu(
    rows: Tensor, lat: Tensor, lon: Tensor, last_row: Tensor, items: tuple[Tensor, Tensor]
) -> Tensor:
    """int64 [B, n]: the bucket of the distance from each of B last places to rows int64 [n] or [B, n] (-1: any).

    ``lat``, ``lon`` float32 [B] in degrees and ``last_row`` are of the last places, ``items`` the latitudes and longitudes of
    all rows. O(B n).
    """
    rows = rows if rows.dim() == 2 else rows[None]
    out = torch.empty((len(lat), rows.shape[1]), dtype=torch.long)
    _buckets(_array(rows), _array(lat), _array(lon), _array(last_row), *map(_array, items), out.numpy())
    return out


def warm_up() -> None:
    """Compile the kernel, or read it from numba's cache, so that no user's batch waits for it."""
    one, row = torch.zeros(1), torch.zeros(1, dtype=torch.long)
    catalogue = Explored(torch.zeros(1, 8), one, one, one, torch.ones(1, dtype=torch.bool))
    near = torch.zeros(rel.DISTANCE_BUCKETS, 1)
    distance_buckets_on_cpu(row, one, one, row, (one, one))
    explore_logits_on_cpu(row[None], Explorers(torch.zeros(1, 8), one, one, row, row), catalogue, near)


def _array(tensor: Tensor) -> Any:
    return tensor.contiguous().numpy()


@njit(cache=True)
def _buckets(
    rows: Array, lat: Array, lon: Array, last_row: Array, item_lat: Array, item_lon: Array, out: Array
) -> None:
    for u in range(out.shape[0]):
        shrink, line = shrink_of(lat[u]), min(u, rows.shape[0] - 1)
        for c in range(out.shape[1]):
            row = rows[line, c]
            if row == last_row[u]:
                out[u, c] = rel.SAME
            else:
                out[u, c] = distance_bucket(lat[u], lon[u], shrink, item_lat[max(row, 0)], item_lon[max(row, 0)])


@njit(cache=True, nogil=True)
def _explore(rows: Array, users: Any, catalogue: Any, near: Array, out: Array) -> None:
    """The buckets of a user's rows all at once: to compare vectors with each edge costs less than to look for each row's."""
    known_rows, most = len(catalogue.worth), rows.shape[1]
    km, bucket = np.empty(most, np.float32), np.empty(most, np.int32)
    for u in range(rows.shape[0]):
        query, column = users.query[u], users.column[u]
        _take_km(rows[u], users.lat[u], users.lon[u], catalogue, km)
        _count_edges(km, bucket)
        for c in range(most):
            row = rows[u, c]
            if row < 0 or row >= known_rows or not catalogue.known[row]:
                out[u, c] = NEVER
                continue
            if row == users.row[u]:
                bucket[c] = rel.SAME
            elif math.isnan(km[c]):
                bucket[c] = rel.UNKNOWN
            out[u, c] = near[bucket[c], column] + (catalogue.worth[row] + dot(query, catalogue.vectors[row]))


@njit(cache=True)
def _take_km(rows: Array, lat: Any, lon: Any, catalogue: Any, km: Array) -> None:
    """Write the distances of rows, NaN where a place is not known."""
    shrink = shrink_of(lat)
    for c in range(len(rows)):
        row = min(max(rows[c], 0), len(catalogue.lat) - 1)
        east, north = (lon - catalogue.lon[row]) * shrink, lat - catalogue.lat[row]
        km[c] = east * east + north * north
    for c in range(len(km)):
        km[c] = math.sqrt(km[c]) * KM_PER_DEGREE


@njit(cache=True)
def _count_edges(km: Array, bucket: Array) -> None:
    """Write how many edges lie below each distance."""
    bucket[:] = 0
    for edge in EDGES_KM:
        for c in range(len(km)):
            bucket[c] += km[c] > edge
