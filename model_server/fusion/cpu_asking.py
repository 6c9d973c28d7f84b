"""What the trees of exploring are asked about, on a CPU: written at once, in place of being put together from copies."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

Array = npt.NDArray[Any]


def asked_on_cpu(
    features: Tensor, likeliest: Tensor, likely: Tensor, kind: Tensor, moves: Tensor, of_users: Tensor
) -> npt.NDArray[np.float32]:
    """Of the columns ``likely`` [users, n] of ``features`` [users, candidates, ...]: a line [users x n, ...] for each.

    It holds the features, ``likeliest`` [users, n], that less the first of its user, the logarithm of its place, its ``kind``
    [users, n], its ``moves`` [users, n, ...] and its user's ``of_users`` [users, ...]. O(what is written).
    """
    users, n = likely.shape
    of_pair, about_moves = features.shape[2], moves.shape[2]
    out = np.empty((users, n, of_pair + 4 + about_moves + of_users.shape[1]), np.float32)
    place = np.log1p(np.arange(n, dtype=np.float32))
    columns = (each.detach().contiguous().numpy() for each in (likeliest, likely, kind, moves, of_users))
    _write(features.detach().transpose(1, 2).contiguous().numpy(), *columns, place, out)
    return out.reshape(users * n, out.shape[2])


def warm_up() -> None:
    """Compile the kernel, or read it from numba's cache, so that no user's batch waits for it."""
    one, column = torch.zeros(1, 1), torch.zeros((1, 1), dtype=torch.long)
    asked_on_cpu(one[None], one, column, column, one[None], one)


@njit(cache=True, nogil=True, error_model="numpy")
def _write(
    features: Array, likeliest: Array, likely: Array, kind: Array, moves: Array, of_users: Array, place: Array, out: Array
) -> None:  # fmt: skip
    of_pair, about_moves = features.shape[1], moves.shape[2]
    for u in range(len(likely)):
        of_user, mine = features[u], of_users[u]
        for n in range(likely.shape[1]):
            line, column = out[u, n], likely[u, n]
            for f in range(of_pair):
                line[f] = of_user[f, column]
            line[of_pair] = likeliest[u, n]
            line[of_pair + 1] = likeliest[u, n] - likeliest[u, 0]
            line[of_pair + 2], line[of_pair + 3] = place[n], kind[u, n]
            for m in range(about_moves):
                line[of_pair + 4 + m] = moves[u, n, m]
            for m in range(len(mine)):
                line[of_pair + 4 + about_moves + m] = mine[m]
