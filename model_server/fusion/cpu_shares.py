"""What each expert gave to a shown item, on a CPU: of the shown items alone, in place of a chain of operations over all.

The same to the rounding of float32 as ``model_server.fusion.shares``, which says what a share is.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

from model_server.cpu_math import exp_of

Array = npt.NDArray[Any]
ZERO = np.float32(0)


class Part(NamedTuple):
    """Features of which a score is a weighted sum, as arrays: [..., features], the weights, and whose each feature is (-1:
    nobody's).
    """

    features: Array
    weights: Array
    expert: Array


class Owned(NamedTuple):
    """The own items of users, as arrays: where each user's pairs begin, [users + 1], and their log-probabilities, [pairs]."""

    starts: Array
    log_p: Array


def shares_on_cpu(
    owned: Owned, own: tuple[Part, Part], explored: Part, mean: Array, columns: Array, experts: int
) -> Tensor:
    """Shares float32 [users, shown, experts] of the items at these ``columns`` int64 [users, shown] of the merged list.

    ``own`` are the parts of a returning item's score, features [pairs, ...]; the weights of the first are a line for each user,
    those of the second a line for all. Of an ``explored`` item's the features are [users, features, candidates], the weights a
    line for all, and ``mean`` [users, features] is what is expected of them. O(pairs + shown).
    """
    shares = torch.zeros((*columns.shape, experts))
    _share(owned, *own, explored, mean, columns, shares.numpy())
    return shares


def warm_up() -> None:
    """Compile the kernel, or read it from numba's cache, so that no user's batch waits for it."""
    one, expert = np.zeros((1, 1), np.float32), np.zeros(1, np.int64)
    owned, part = Owned(np.arange(2), one[0]), Part(one, one[0], expert)
    shares_on_cpu(owned, (Part(one, one, expert), part), Part(one[None], one[0], expert), one, expert[None], 1)


@njit(cache=True, error_model="numpy")
def _share(owned: Any, fixed: Any, mixed: Any, explored: Any, mean: Array, columns: Array, shares: Array) -> None:
    width = 0
    for u in range(len(columns)):
        width = max(width, owned.starts[u + 1] - owned.starts[u])
    of_fixed, of_mixed = np.empty(len(fixed.expert), np.float32), np.empty(len(mixed.expert), np.float32)
    for u in range(len(columns)):
        first, last = owned.starts[u], owned.starts[u + 1]
        _expect(fixed.features, owned.log_p, first, last, of_fixed)
        _expect(mixed.features, owned.log_p, first, last, of_mixed)
        for n in range(columns.shape[1]):
            column, out = columns[u, n], shares[u, n]
            if column >= width:
                _give(explored.features[u, :, column - width], mean[u], explored.weights, explored.expert, out)
            elif first + column < last:
                _give(fixed.features[first + column], of_fixed, fixed.weights[u], fixed.expert, out)
                _give(mixed.features[first + column], of_mixed, mixed.weights, mixed.expert, out)


@njit(cache=True, error_model="numpy")
def _expect(features: Array, log_p: Array, first: int, last: int, mean: Array) -> None:
    """Write the mean of the pairs from ``first`` to ``last`` by their probabilities."""
    mean[:] = ZERO
    for pair in range(first, last):
        p = exp_of(log_p[pair])
        for f in range(len(mean)):
            mean[f] += p * features[pair, f]


@njit(cache=True, error_model="numpy")
def _give(features: Array, mean: Array, weights: Array, expert: Array, out: Array) -> None:
    for f in range(len(mean)):
        if expert[f] >= 0:
            out[expert[f]] += weights[f] * (features[f] - mean[f])
