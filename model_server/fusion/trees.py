"""Oblivious regression trees: one question per level, the same on every branch, so that the answers are a leaf's number.

Trees of this kind are fast to ask and hard to overfit with (Prokhorenkova et al. 2018, CatBoost). Features are told apart by the
bin they fall into, a byte each.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

BINS, DEPTH = 32, 6
LEVELS = BINS.bit_length() - 1
SMOOTHING, LEAST_CURVATURE = 5.0, 2.0

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tree:
    """``column`` and ``bound`` [DEPTH]: is the column's bin at least the bound? ``value`` float32 [2 ** DEPTH] by the answers."""

    column: Array
    bound: Array
    value: Array


def edges_of(features: Array) -> Array:
    """The edges of equally full bins of each column, float32 [columns, BINS - 1]."""
    edges = np.quantile(features, np.arange(1, BINS) / BINS, axis=0)
    return np.ascontiguousarray(edges.T, np.float32)


def binned(features: Array, edges: Array) -> Array:
    """The bin of each feature, uint8 [n, columns]. O(n columns log BINS)."""
    bins = np.empty(features.shape, np.uint8)
    _bin(np.ascontiguousarray(features, np.float32), edges, bins)
    return bins


def grown(bins: Array, gradient: Array, curvature: Array, columns: Array) -> Tree:
    """The tree that answers a Newton step's wish best, from some ``columns`` of ``bins`` [n, ...]. O(DEPTH n columns).

    ``gradient`` and ``curvature`` [n] are a log-likelihood's by the score of each row; each question promises most.
    """
    column, bound = np.zeros(DEPTH, np.int64), np.full(DEPTH, BINS, np.int64)
    sums = np.zeros((1 << DEPTH, 2))
    _grow(bins, gradient, curvature, columns, column, bound, sums)
    return Tree(column, bound, (sums[:, 0] / (sums[:, 1] + SMOOTHING)).astype(np.float32))


def answers(bins: Array, column: Array, bound: Array, value: Array) -> Array:
    """The sum of what some trees, [trees, ...] as in ``Tree``, say of each of the pairs, float32 [n]. O(n trees DEPTH).

    ``bins`` uint8 [columns, n] are those of ``binned``, the pairs of a column side by side.
    """
    total = np.zeros(bins.shape[1], np.float32)
    _answer(np.ascontiguousarray(bins), column, bound.astype(np.uint8), value, total)
    return total


@njit(cache=True, error_model="numpy")
def bin_of(x: Any, edges: Array) -> Any:
    """How many of a column's edges, a power of two but one, ``x`` has reached: a search that never guesses."""
    reached = 0
    for level in range(LEVELS):
        step = BINS >> (level + 1)
        reached += step * (edges[reached + step - 1] <= x)
    return reached


@njit(cache=True, error_model="numpy")
def write_bins(values: Array, edges: Array, count: Array, bins: Array) -> None:
    """Write ``bin_of`` of each float32 value, with room for as many int32 in ``count``.

    To compare vectors with every edge, four at a time, takes less than to search for each value.
    """
    count[:] = 0
    for edge in range(0, BINS - 4, 4):
        a, b, c, d = edges[edge], edges[edge + 1], edges[edge + 2], edges[edge + 3]
        for n in range(len(values)):
            x = values[n]
            count[n] += np.int32(x >= a) + np.int32(x >= b) + np.int32(x >= c) + np.int32(x >= d)
    a, b, c = edges[BINS - 4], edges[BINS - 3], edges[BINS - 2]
    for n in range(len(values)):
        x = values[n]
        bins[n] = count[n] + np.int32(x >= a) + np.int32(x >= b) + np.int32(x >= c)


@njit(cache=True, nogil=True, error_model="numpy")
def _bin(features: Array, edges: Array, bins: Array) -> None:
    for n in range(len(features)):
        for k in range(features.shape[1]):
            bins[n, k] = bin_of(features[n, k], edges[k])


@njit(cache=True, nogil=True, error_model="numpy")
def _grow(
    bins: Array, gradient: Array, curvature: Array, columns: Array, column: Array, bound: Array, sums: Array
) -> None:  # fmt: skip
    """Write the questions, and the sums of gradient and curvature by leaf; a question that nobody passes separates nothing."""
    leaf = np.zeros(len(bins), np.int64)
    for level in range(DEPTH):
        tally = np.zeros((1 << level, len(columns), BINS, 2))
        for n in range(len(bins)):
            at, g, c = leaf[n], gradient[n], curvature[n]
            for k in range(len(columns)):
                b = bins[n, columns[k]]
                tally[at, k, b, 0] += g
                tally[at, k, b, 1] += c
        best = 0.0
        for k in range(len(columns)):
            gain = np.zeros(BINS)
            for at in range(1 << level):
                all_g, all_c = tally[at, k, :, 0].sum(), tally[at, k, :, 1].sum()
                whole = all_g * all_g / (all_c + SMOOTHING)
                below_g, below_c = 0.0, 0.0
                for b in range(1, BINS):
                    below_g += tally[at, k, b - 1, 0]
                    below_c += tally[at, k, b - 1, 1]
                    above_g, above_c = all_g - below_g, all_c - below_c
                    if min(below_c, above_c) >= LEAST_CURVATURE:
                        gain[b] += below_g * below_g / (below_c + SMOOTHING) - whole
                        gain[b] += above_g * above_g / (above_c + SMOOTHING)
            b = gain.argmax()
            if gain[b] > best:
                best, column[level], bound[level] = gain[b], columns[k], b
        for n in range(len(bins)):
            leaf[n] = 2 * leaf[n] + (bins[n, column[level]] >= bound[level])
    for n in range(len(bins)):
        sums[leaf[n], 0] += gradient[n]
        sums[leaf[n], 1] += curvature[n]


@njit(cache=True, nogil=True, error_model="numpy")
def _answer(bins: Array, column: Array, bound: Array, value: Array, total: Array) -> None:
    """Tree by tree and question by question, of ``bins`` [columns, n]: a loop over bytes in a row is one of vectors."""
    leaf = np.empty(len(total), np.uint8)
    for t in range(len(column)):
        leaf[:] = 0
        for level in range(DEPTH):
            asked, least = bins[column[t, level]], bound[t, level]
            for n in range(len(leaf)):
                leaf[n] = (leaf[n] << 1) | (asked[n] >= least)
        for n in range(len(leaf)):
            total[n] += value[t, leaf[n]]


def warm_up() -> None:
    """Compile the kernels, or read them from numba's cache, so that no user's batch waits for it."""
    features = np.zeros((2, 1), np.float32)
    bins = binned(features, edges_of(features))
    slopes = np.zeros(2, np.float32)
    tree = grown(bins, slopes, slopes, np.arange(1))
    answers(bins.T, tree.column[None], tree.bound[None], tree.value[None])
