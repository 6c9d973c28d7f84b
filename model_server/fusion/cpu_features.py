"""The explore features on a CPU: one pass over each user's candidates in place of a chain of operations over all of them.

``model_server.fusion.exploring`` says what the features are; these are the same to the rounding of float32. Most of what
the chain spends goes into carrying intermediate results to memory and back. The candidates of a feature lie side by side, so
that logarithms and exponentials are taken of vectors.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

from model_server.catalogue import Catalogue
from model_server.fusion.batch import HOUR_S, UserBatch, gather_users
from model_server.fusion.cpu_filling import COLUMNS, FEW, Links, Places, Users, fill_features
from model_server.fusion.cpu_liking import category_lifts_on_cpu
from model_server.fusion.crowds import Crowds
from model_server.fusion.exploring import NAMES, TOUCHES, public_features
from model_server.histories import Histories
from model_server.neighbours import ItemNeighbours
from model_server.patterns import PatternStore, RowLists
from model_server.visits import DAY_PARTS, VisitCounts

Array = npt.NDArray[Any]
NEVER_MADE = 0  # the round of a line; rounds are counted from 1


class PublicRows:
    """What is the same for every user: per row the public features and the terms that depend on its visits alone.

    A line is computed when it is first asked for and kept until visits or crowds change; for the whole catalogue at once where
    that is less work. Memory: 4 (COLUMNS + 2) bytes per row of the catalogue.
    """

    WORTH = 4  # the whole catalogue at once costs less than this many rows by name

    def __init__(self, visits: VisitCounts, crowds: Crowds) -> None:
        self._visits, self._crowds = visits, crowds
        self._kept = torch.zeros(0, COLUMNS)
        self._made_in = np.zeros(0, np.int32)
        self._round, self._as_of = 0, (-1, -1)
        self.columns = np.zeros(0, np.int32)  # -1 everywhere between two uses, which leave it so

    def lines(self, rows: int, wanted: Array) -> Tensor:
        """Float32 [at least ``rows``, COLUMNS], right in the lines of the ``wanted`` rows int64 (-1: none).

        O(wanted), beside the lines that are out of date. Raises IndexError if one of them is not below ``rows``.
        """
        self._reserve(rows)
        as_of = (self._visits.changes, self._crowds.changes)
        if self._as_of != as_of:
            self._as_of, self._round = as_of, self._round + 1
        stale = np.empty(min(wanted.size, rows), np.int64)
        number = _stale(wanted.reshape(-1), rows, self._made_in, self._round, stale)
        if number and rows <= self.WORTH * wanted.size:
            self._kept[:rows] = self.of(torch.arange(rows))
            self._made_in[:rows] = self._round
        elif number:
            named = stale[:number]
            self._kept[torch.from_numpy(named)] = self.of(torch.from_numpy(named))
            self._made_in[named] = self._round
        return self._kept

    def of(self, rows: Tensor) -> Tensor:
        """A line for each of these rows [n], float32 [n, COLUMNS]."""
        public = public_features(rows, self._visits, self._crowds)
        touches = public[:, TOUCHES]
        usual = 0.2 * touches / (self._visits.touches.sum() + 1) + 2e-4
        cosine = torch.rsqrt(self._visits.visitors[rows] + float(FEW))
        return torch.cat((public, torch.stack((usual, torch.log(usual), cosine), 1)), 1)

    def _reserve(self, rows: int) -> None:
        if rows > len(self.columns):
            more = max(rows, 2 * len(self.columns)) - len(self.columns)
            self._kept = torch.cat((self._kept, torch.zeros(more, COLUMNS)))
            self._made_in = np.concatenate((self._made_in, np.zeros(more, np.int32)))
            self.columns = np.concatenate((self.columns, np.full(more, -1, np.int32)))


class CpuExploring:
    """The explore features of one batch of users, of tensors on the CPU; what does not depend on the rows is made once."""

    def __init__(
        self,
        batch: UserBatch,
        catalogue: Catalogue,
        visits: VisitCounts,
        patterns: PatternStore,
        neighbours: ItemNeighbours,
        public: PublicRows,
    ) -> None:
        """Raises IndexError if one of the tables has no room for a row of the catalogue."""
        tables = (visits.hours, patterns.transitions.weights, patterns.covisits.weights, neighbours.lists.weights)
        if min(map(len, tables)) < len(catalogue):
            raise IndexError(f"a table has fewer rows than the {len(catalogue)} of the catalogue")
        self._rows, self._public = len(catalogue), public
        hour = (batch.now_week_s / HOUR_S).long() % DAY_PARTS
        moving = torch.exp(-batch.gap_s / HOUR_S) if batch.timed else torch.zeros(batch.users)
        likes = category_lifts_on_cpu(batch, catalogue, visits, hour.numpy())
        self._users = Users(
            batch.last_row.numpy(), batch.home_row.numpy(), batch.recent_rows.numpy(), moving.numpy(), hour.numpy(),
            likes,
        )  # fmt: skip
        self._places = Places(
            catalogue.position.numpy(), catalogue.has_place.numpy(), catalogue.category.numpy(), visits.hours.numpy(),
            visits.visitors.numpy(),
        )  # fmt: skip
        self._links = Links(*_lists(patterns.transitions), *_lists(patterns.covisits), *_lists(neighbours.lists))

    def features(self, candidates: Tensor, sequence: Tensor, ascending: bool = False) -> Tensor:
        """What ``explore_features`` gives, whether they ascend or not; 0 where there is no row. O(users x candidates).

        In memory the candidates of a feature are side by side. Raises IndexError for a row that is not in the catalogue.
        """
        named = candidates.contiguous().numpy()
        lines = self._public.lines(self._rows, named)
        features = torch.empty((len(candidates), len(NAMES), candidates.shape[1]))
        fill_features(
            features.numpy(), named, sequence.contiguous().numpy(), self._public.columns[: self._rows], lines.numpy(),
            self._users, self._places, self._links,
        )  # fmt: skip
        return features.transpose(1, 2)


def warm_up() -> None:
    """Compile the kernel, or read it from numba's cache, so that no user's batch waits for it."""
    device = torch.device("cpu")
    catalogue, histories = Catalogue(device), Histories(device)
    catalogue.rows_of(["anything"])
    histories.append(histories.slots_of(["anybody"]), torch.tensor([0]), torch.zeros(1).double(), torch.zeros(1))
    batch, visits = gather_users(histories, 1, torch.tensor([0])), VisitCounts(device)
    patterns, neighbours = PatternStore(catalogue, device), ItemNeighbours(device)
    exploring = CpuExploring(batch, catalogue, visits, patterns, neighbours, PublicRows(visits, Crowds(device)))
    exploring.features(torch.tensor([[0, -1]]), torch.zeros(1, 2))


def _lists(lists: RowLists) -> tuple[Array, Array]:
    return lists.neighbours.numpy(), lists.weights.numpy()


@njit(cache=True)
def _stale(wanted: Array, rows: int, made_in: Array, now: int, stale: Array) -> int:
    """Write the rows among ``wanted`` that were not made in this round, each once; how many. They count as never made."""
    count = 0
    for n in range(len(wanted)):
        if wanted[n] >= rows:
            raise IndexError("a candidate is not in the catalogue")
    for n in range(len(wanted)):
        row = wanted[n]
        if row >= 0 and made_in[row] != now:
            made_in[row] = now  # so that it comes once
            stale[count] = row
            count += 1
    for n in range(count):
        made_in[stale[n]] = NEVER_MADE
    return count
