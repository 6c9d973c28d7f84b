"""What the trees of exploring are asked about, on a CPU: written at once, in place of being put together from copies.

To be asked, a pair needs the bins of its features and not the features, and what is told of its user is in the same bin for all
pairs of that user.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

from model_server.fusion.trees import BINS, bin_of, write_bins

Array = npt.NDArray[Any]
OF_CHANCE = 4  # columns: the chance, that less the first one, the logarithm of the place, and the kind


class LikelyPairs(NamedTuple):
    """The ``likely`` columns [users, n] of ``features`` [users, ..., candidates], as arrays; ``of`` takes them of tensors.

    A pair is asked about its features, its chance among the ``likeliest`` [users, n], that less the first of its user, the
    logarithm of its place, its ``kind`` [users, n], its ``moves`` [users, n, ...] and its user's ``of_users`` [users, ...].
    """

    features_of: Array
    likeliest: Array
    likely: Array
    kind: Array
    moves: Array
    of_users: Array

    @classmethod
    def of(
        cls, features: Tensor, likeliest: Tensor, likely: Tensor, kind: Tensor, moves: Tensor, of_users: Tensor
    ) -> "LikelyPairs":
        """Of tensors; fastest if the candidates of a feature of ``features`` [users, candidates, ...] lie side by side."""
        columns = (features.transpose(1, 2), likeliest, likely, kind, moves, of_users)
        return cls(*(each.detach().contiguous().numpy() for each in columns))

    @property
    def columns(self) -> int:
        """What is asked about each pair."""
        return int(self.features_of.shape[1] + OF_CHANCE + self.moves.shape[2] + self.of_users.shape[1])

    def features(self) -> npt.NDArray[np.float32]:
        """A line for each pair, float32 [users x n, ...]. O(what is written)."""
        out = np.empty((*self.likely.shape, self.columns), np.float32)
        _write(self, self._places(), out)
        return out.reshape(-1, self.columns)

    def bins(self, edges: Array) -> Array:
        """The bins of ``features`` by the ``edges`` of its columns, uint8 [columns, users x n]. O(users n columns)."""
        out = np.empty((self.columns, *self.likely.shape), np.uint8)
        _write_bins(self, self._places(), edges, out)
        return out.reshape(self.columns, -1)

    def _places(self) -> Array:
        return np.log1p(np.arange(self.likely.shape[1], dtype=np.float32))


def warm_up() -> None:
    """Compile the kernels, or read them from numba's cache, so that no user's batch waits for it."""
    one, column = torch.zeros(1, 1), torch.zeros((1, 1), dtype=torch.long)
    pairs = LikelyPairs.of(one[None], one, column, column, one[None], one)
    pairs.bins(np.zeros((pairs.features().shape[1], BINS - 1), np.float32))


@njit(cache=True, nogil=True, error_model="numpy")
def _write(pairs: Any, place: Array, out: Array) -> None:
    of_pair, about_moves = pairs.features_of.shape[1], pairs.moves.shape[2]
    for u in range(len(pairs.likely)):
        of_user, mine, chance = pairs.features_of[u], pairs.of_users[u], pairs.likeliest[u]
        for n in range(pairs.likely.shape[1]):
            line, column = out[u, n], pairs.likely[u, n]
            for f in range(of_pair):
                line[f] = of_user[f, column]
            line[of_pair] = chance[n]
            line[of_pair + 1] = chance[n] - chance[0]
            line[of_pair + 2], line[of_pair + 3] = place[n], pairs.kind[u, n]
            for m in range(about_moves):
                line[of_pair + OF_CHANCE + m] = pairs.moves[u, n, m]
            for m in range(len(mine)):
                line[of_pair + OF_CHANCE + about_moves + m] = mine[m]


@njit(cache=True, nogil=True, error_model="numpy")
def _write_bins(pairs: Any, place: Array, edges: Array, out: Array) -> None:
    """Column by column: what is the same for all pairs of a user, or for a place, is looked up once."""
    of_pair, about_moves, most = pairs.features_of.shape[1], pairs.moves.shape[2], len(place)
    of_place, values, count = np.empty(most, np.uint8), np.empty(most, np.float32), np.empty(most, np.int32)
    write_bins(place, edges[of_pair + 2], count, of_place)
    for u in range(len(pairs.likely)):
        of_user, mine, chance, likely = pairs.features_of[u], pairs.of_users[u], pairs.likeliest[u], pairs.likely[u]
        for f in range(of_pair):
            for n in range(most):
                values[n] = of_user[f, likely[n]]
            write_bins(values, edges[f], count, out[f, u])
        write_bins(chance, edges[of_pair], count, out[of_pair, u])
        for n in range(most):
            values[n] = chance[n] - chance[0]
        write_bins(values, edges[of_pair + 1], count, out[of_pair + 1, u])
        out[of_pair + 2, u] = of_place
        for n in range(most):
            values[n] = pairs.kind[u, n]
        write_bins(values, edges[of_pair + 3], count, out[of_pair + 3, u])
        for m in range(about_moves):
            for n in range(most):
                values[n] = pairs.moves[u, n, m]
            write_bins(values, edges[of_pair + OF_CHANCE + m], count, out[of_pair + OF_CHANCE + m, u])
        for m in range(len(mine)):
            column = of_pair + OF_CHANCE + about_moves + m
            out[column, u] = bin_of(mine[m], edges[column])
