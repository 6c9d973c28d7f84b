"""What the linear weights and the small network say of candidates, on a CPU: user by user, so that nothing leaves the cache.

The same to the rounding of float32 as ``features @ weights + ExploreNetwork``, which is what is learned.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

from model_server.cpu_math import ONE, exp_of
from model_server.fusion.exploring import NAMES, ExploreNetwork

Array = npt.NDArray[Any]


def explore_logits_on_cpu(features: Tensor, weights: Tensor, network: ExploreNetwork) -> Tensor:
    """Logits [users, candidates] of features [users, candidates, len(NAMES)] by ``weights`` and the network on top.

    Fastest where the candidates of a feature lie side by side. O(users candidates hidden len(NAMES)).
    """
    hidden, out = network.hidden, network.out
    layers = (each.detach().numpy() for each in (hidden.weight, hidden.bias, out.weight[0], out.bias))
    logits = torch.empty(features.shape[:2])
    _logits(features.transpose(1, 2).contiguous().numpy(), weights.numpy(), *layers, logits.numpy())
    return logits


def warm_up() -> None:
    """Compile the kernel, or read it from numba's cache, so that no user's batch waits for it."""
    with torch.random.fork_rng(devices=[]):
        network = ExploreNetwork()
    explore_logits_on_cpu(torch.zeros(1, 1, len(NAMES)), torch.zeros(len(NAMES)), network)


@njit(cache=True, nogil=True, error_model="numpy")
def _logits(
    features: Array, weights: Array, hidden: Array, hidden_bias: Array, out: Array, out_bias: Array, logits: Array
) -> None:
    """Write the logits of ``features`` [users, features, candidates]; the hidden units, an even number, go two by two."""
    a, b, fours = np.empty(logits.shape[1], np.float32), np.empty(logits.shape[1], np.float32), len(weights) // 4 * 4
    for u in range(len(features)):
        of_user, total = features[u], logits[u]
        total[:] = out_bias[0]
        for f in range(len(weights)):
            _add(total, weights[f], of_user[f])
        for unit in range(0, len(out), 2):
            a[:], b[:] = hidden_bias[unit], hidden_bias[unit + 1]
            for f in range(0, fours, 4):
                x, y, z, w = of_user[f], of_user[f + 1], of_user[f + 2], of_user[f + 3]
                _add_four_to_both(a, b, hidden[unit, f:], hidden[unit + 1, f:], x, y, z, w)
            for f in range(fours, len(weights)):
                _add(a, hidden[unit, f], of_user[f])
                _add(b, hidden[unit + 1, f], of_user[f])
            _add_silu(total, out[unit], a)
            _add_silu(total, out[unit + 1], b)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _add(total: Array, times: Any, x: Array) -> None:
    for c in range(len(total)):
        total[c] += times * x[c]


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _add_four_to_both(
    a: Array, b: Array, to_a: Array, to_b: Array, x: Array, y: Array, z: Array, w: Array
) -> None:  # fmt: skip
    """Add four features to two units at once: what is read of a feature then serves both."""
    a_x, a_y, a_z, a_w = to_a[0], to_a[1], to_a[2], to_a[3]
    b_x, b_y, b_z, b_w = to_b[0], to_b[1], to_b[2], to_b[3]
    for c in range(len(a)):
        a[c] += a_x * x[c] + a_y * y[c] + a_z * z[c] + a_w * w[c]
        b[c] += b_x * x[c] + b_y * y[c] + b_z * z[c] + b_w * w[c]


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _add_silu(total: Array, times: Any, values: Array) -> None:
    for c in range(len(total)):
        total[c] += times * values[c] / (ONE + exp_of(-values[c]))
