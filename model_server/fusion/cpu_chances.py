"""Choosing among candidates on a CPU: which can be chosen, how likely each is, and what is expected of their features.

``model_server.fusion.chances`` says what each of these is; here one pass over each user's candidates takes the place of a chain
of operations over everybody's, which spends most of its time carrying intermediate results to memory and back.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

from model_server.cpu_math import exp_of, largest_of, log_of

Array = npt.NDArray[Any]
F = np.float32
NOTHING, NEVER = F(0), F(-1e9)


def choosable_on_cpu(candidates: Tensor, own_rows: Tensor, rankable: Tensor) -> Tensor:
    """The candidates that can be chosen, -1 in place of the others. O(candidates + own rows).

    Raises IndexError for one that is not in the catalogue.
    """
    chosen = torch.empty(candidates.shape, dtype=torch.long)
    _choose(_array(candidates), _array(own_rows), rankable.numpy(), chosen.numpy())
    return chosen


def log_chances_on_cpu(logits: Tensor, rows: Tensor) -> Tensor:
    """``log_chances`` of logits float32 [users, n]. O(users n)."""
    chances = torch.empty(logits.shape)
    _normalise(_array(logits), _array(rows), chances.numpy())
    return chances


def expected_on_cpu(log_p: Tensor, features: Tensor) -> Tensor:
    """``expected`` of features [users, n, ...]; fastest where the candidates of a feature lie side by side. O(features)."""
    found = torch.empty((len(features), features.shape[2]))
    _expect(_array(log_p), _array(features.transpose(1, 2)), found.numpy())
    return found


def append_chances_on_cpu(
    rows: Tensor, probability: Tensor, found: Tensor, log_p: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """``append_chances`` of candidates ``found`` [users, n]. O(users n)."""
    width = rows.shape[1] + found.shape[1]
    all_rows, all_p = torch.empty((len(rows), width), dtype=torch.long), torch.empty((len(rows), width))
    columns = (_array(each) for each in (rows, probability, found, log_p, weight))
    _append(*columns, all_rows.numpy(), all_p.numpy())
    return all_rows, all_p


def warm_up() -> None:
    """Compile the kernels, or read them from numba's cache, so that no user's batch waits for it."""
    rows, one = torch.zeros((1, 1), dtype=torch.long), torch.zeros((1, 1))
    choosable_on_cpu(rows, rows, torch.ones(1, dtype=torch.bool))
    log_chances_on_cpu(one, rows)
    expected_on_cpu(one, one[None])
    append_chances_on_cpu(rows, one, rows, one, one[0])


def _array(tensor: Tensor) -> Any:
    return tensor.contiguous().numpy()


@njit(cache=True, error_model="numpy")
def _choose(candidates: Array, own_rows: Array, rankable: Array, chosen: Array) -> None:
    """Go through the candidates and through the own rows at once: both ascend, but for -1 before the ones, after the others."""
    for u in range(len(candidates)):
        at, own = 0, own_rows[u]
        for c in range(candidates.shape[1]):
            row = candidates[u, c]
            if row >= len(rankable):
                raise IndexError("a candidate is not in the catalogue")
            while at < len(own) and 0 <= own[at] < row:
                at += 1
            mine = at < len(own) and own[at] == row
            chosen[u, c] = row if row >= 0 and rankable[row] and not mine else -1


@njit(cache=True, nogil=True, error_model="numpy")
def _normalise(logits: Array, rows: Array, chances: Array) -> None:
    for u in range(len(logits)):
        _normalise_one(logits[u], rows[u], chances[u])


@njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _normalise_one(logits: Array, rows: Array, chances: Array) -> None:
    """The chances are first what is summed up: in a loop of its own, for the compiler to make vectors of it."""
    total = NOTHING
    for c in range(len(logits)):
        chances[c] = logits[c] if rows[c] >= 0 else NEVER
    most = max(largest_of(chances), NEVER)
    for c in range(len(logits)):
        total += exp_of(chances[c] - most)
    least = most + log_of(total)
    for c in range(len(logits)):
        chances[c] = chances[c] - least if rows[c] >= 0 else NEVER


@njit(cache=True, nogil=True, error_model="numpy")
def _expect(log_p: Array, features: Array, found: Array) -> None:
    p = np.empty(log_p.shape[1], np.float32)
    for u in range(len(log_p)):
        _take_exps(log_p[u], p)
        for f in range(features.shape[1]):
            found[u, f] = _dot(p, features[u, f])


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _take_exps(x: Array, out: Array) -> None:
    for c in range(len(x)):
        out[c] = exp_of(x[c])


@njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _dot(a: Array, b: Array) -> Any:
    total = NOTHING
    for n in range(len(a)):
        total += a[n] * b[n]
    return total


@njit(cache=True, error_model="numpy")
def _append(
    rows: Array, probability: Array, found: Array, log_p: Array, weight: Array, all_rows: Array, all_p: Array
) -> None:  # fmt: skip
    first = rows.shape[1]
    for u in range(len(rows)):
        for c in range(first):
            all_rows[u, c] = rows[u, c]
            all_p[u, c] = probability[u, c] if rows[u, c] >= 0 else F(-1)
        all_rows[u, first:] = found[u]
        _weigh(weight[u], log_p[u], found[u], all_p[u, first:])


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _weigh(weight: Any, log_p: Array, rows: Array, out: Array) -> None:
    for c in range(len(rows)):
        out[c] = weight * exp_of(log_p[c]) if rows[c] >= 0 else F(-1)
