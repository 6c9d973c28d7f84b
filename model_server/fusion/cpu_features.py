"""The explore features on a CPU: one pass over each user's candidates in place of a chain of operations over all of them.

``model_server.fusion.exploring`` says what the features are; these are the same to the rounding of float32. Most of what
the chain spends goes into carrying intermediate results to memory and back, and into logarithms of the same few numbers.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

from model_server.catalogue import EARTH_RADIUS_KM, Catalogue
from model_server.fusion.batch import HOUR_S, UserBatch, gather_users
from model_server.fusion.crowds import Crowds
from model_server.fusion.exploring import (
    CROWD,
    NAMES,
    TOUCHES,
    category_lifts,
    public_features,
)
from model_server.histories import Histories
from model_server.neighbours import ItemNeighbours
from model_server.patterns import PatternStore, RowLists
from model_server.visits import DAY_PARTS, VisitCounts

Array = npt.NDArray[Any]

# Every constant is float32: one float64 among them would turn the whole expression into float64.
ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)
DIAMETER_KM = np.float32(2 * EARTH_RADIUS_KM)
STRAIGHT = np.float32(0.05)  # up to this sine two terms of the series give the angle to a billionth
SIXTH, FORTIETHS = np.float32(1 / 6), np.float32(3 / 40)
STREET_KM, BLOCK_KM = np.float32(0.3), np.float32(0.4)
FAR, QUARTER, LINKED, FEW = np.float32(0.01), np.float32(0.25), np.float32(1e-3), np.float32(3)
LOG_QUARTER, LOG_LINKED = np.float32(math.log(0.25)), np.float32(math.log(1e-3))
# Columns that the kernel needs beside the public features.
USUAL, LOG_USUAL, LOG_PARTS = CROWD + 1, CROWD + 2, CROWD + 3
NEVER_MADE = 0  # the round of a line; rounds are counted from 1


class PublicRows:
    """What is the same for every user: per row the public features and the terms that depend on its visits alone.

    A line is computed when it is first asked for and kept until visits or crowds change; for the whole catalogue at once where
    that is less work. Memory: 4 (LOG_PARTS + 3) bytes per row of the catalogue.
    """

    WORTH = 4  # the whole catalogue at once costs less than this many rows by name

    def __init__(self, visits: VisitCounts, crowds: Crowds) -> None:
        self._visits, self._crowds = visits, crowds
        self._kept = torch.zeros(0, LOG_PARTS + 1)
        self._made_in = np.zeros(0, np.int32)
        self._round, self._as_of = 0, (-1, -1)
        self.columns = np.zeros(0, np.int32)  # -1 everywhere between two uses, which leave it so

    def lines(self, rows: int, wanted: Array) -> Tensor:
        """Float32 [at least ``rows``, LOG_PARTS + 1], right in the lines of the ``wanted`` rows int64 (-1: none).

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
        """A line for each of these rows [n], float32 [n, LOG_PARTS + 1]."""
        public = public_features(rows, self._visits, self._crowds)
        touches = public[:, TOUCHES]
        usual = 0.2 * touches / (self._visits.touches.sum() + 1) + 2e-4
        beside = torch.stack((usual, torch.log(usual), torch.log(DAY_PARTS / (touches + 6))), 1)
        return torch.cat((public, beside), 1)

    def _reserve(self, rows: int) -> None:
        if rows > len(self.columns):
            more = max(rows, 2 * len(self.columns)) - len(self.columns)
            self._kept = torch.cat((self._kept, torch.zeros(more, LOG_PARTS + 1)))
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
        likes = torch.stack(category_lifts(batch, catalogue, visits, hour), 2)
        self._known = (
            *_places(catalogue), catalogue.category.numpy(), visits.hours.numpy(), visits.visitors.numpy(),
            batch.last_row.numpy(), batch.home_row.numpy(), batch.recent_rows.numpy(), moving.numpy(), hour.numpy(),
            likes.numpy(), *_lists(patterns.transitions), *_lists(patterns.covisits), *_lists(neighbours.lists),
        )  # fmt: skip

    def features(self, candidates: Tensor, sequence: Tensor, ascending: bool = False) -> Tensor:
        """What ``explore_features`` gives, whether they ascend or not; 0 where there is no row. O(users x candidates).

        Raises IndexError for a row that is not in the catalogue.
        """
        named = candidates.contiguous().numpy()
        lines = self._public.lines(self._rows, named)
        features = torch.empty((*candidates.shape, len(NAMES)))
        _fill(
            features.numpy(), named, sequence.contiguous().numpy(), self._public.columns[: self._rows], lines.numpy(),
            *self._known,
        )  # fmt: skip
        return features


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


def _places(catalogue: Catalogue) -> tuple[Array, Array]:
    return catalogue.position.numpy(), catalogue.has_place.numpy()


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


@njit(cache=True, error_model="numpy", inline="always")
def _km(x: Any, y: Any, z: Any) -> Any:
    """The great-circle distance whose chord has these parts."""
    sine = HALF * math.sqrt(x * x + y * y + z * z)
    square = sine * sine
    if sine < STRAIGHT:
        return DIAMETER_KM * (sine + sine * square * (SIXTH + FORTIETHS * square))
    return DIAMETER_KM * math.asin(min(sine, ONE))


@njit(cache=True, error_model="numpy")
def _link(
    neighbours: Array, weights: Array, source: int, times: Any, column_of_row: Array, linked: Array, kind: int
) -> None:
    """Add the weights of a row's list, so many times, to the columns of the rows that it names."""
    for place in range(neighbours.shape[1]):
        row = neighbours[source, place]
        if 0 <= row < len(column_of_row) and column_of_row[row] >= 0:
            linked[column_of_row[row], kind] += weights[source, place] * times


@njit(cache=True, error_model="numpy")
def _fill(
    features: Array, candidates: Array, sequence: Array, column_of_row: Array, of_rows: Array,
    position: Array, has_place: Array, category: Array, hours: Array, visitors: Array, last_row: Array, home: Array,
    recent: Array, moving: Array, hour: Array, likes: Array, transitions: Array, transition_weights: Array,
    covisits: Array, covisit_weights: Array, alike: Array, alike_weights: Array,
) -> None:  # fmt: skip
    """Write the features of every candidate; ``column_of_row`` is -1 for every row of the catalogue, before and after."""
    users, most = candidates.shape
    linked = np.empty((most, 3), np.float32)
    for u in range(users):
        last, at_home, linked[:] = last_row[u], home[u], ZERO
        last_x, last_y, last_z, placed = position[last, 0], position[last, 1], position[last, 2], has_place[last]
        home_x, home_y, home_z = position[at_home, 0], position[at_home, 1], position[at_home, 2]
        home_placed = has_place[at_home]
        for c in range(most):
            if candidates[u, c] >= 0:
                column_of_row[candidates[u, c]] = c
        _link(transitions, transition_weights, last, ONE, column_of_row, linked, 0)
        _link(covisits, covisit_weights, last, ONE, column_of_row, linked, 1)
        held = ZERO
        for place in range(recent.shape[1]):
            source = recent[u, place]
            if source >= 0:
                held += ONE
                times = ONE / math.sqrt(visitors[source] + FEW)
                _link(alike, alike_weights, source, times, column_of_row, linked, 2)
        held = max(held, ONE)
        for c in range(most):
            row = candidates[u, c]
            if row < 0:
                features[u, c] = ZERO
                continue
            column_of_row[row] = -1
            kind = category[row]
            for each in range(TOUCHES):
                features[u, c, each] = of_rows[row, each]
            x, y, z = position[row, 0], position[row, 1], position[row, 2]
            km = _km(x - last_x, y - last_y, z - last_z) if placed and has_place[row] else ZERO
            log_km, close, nearby = math.log(ONE + km / STREET_KM), math.exp(-km / BLOCK_KM), math.exp(-HALF * km)
            features[u, c, 5] = log_km
            features[u, c, 6] = close
            features[u, c, 7] = nearby
            features[u, c, 8] = moving[u] * log_km
            features[u, c, 9] = moving[u] * close
            if at_home != last:
                km = _km(x - home_x, y - home_y, z - home_z) if home_placed and has_place[row] else ZERO
                log_km, nearby = math.log(ONE + km / STREET_KM), math.exp(-HALF * km)
            features[u, c, 10] = log_km
            features[u, c, 11] = math.log(nearby + FAR)
            features[u, c, 12] = likes[u, kind, 0]
            features[u, c, 13] = likes[u, kind, 1]
            features[u, c, 14] = ONE if kind == category[last] else ZERO
            then = hours[row, hour[u]]
            features[u, c, 15] = of_rows[row, LOG_PARTS] + (math.log(then + QUARTER) if then != ZERO else LOG_QUARTER)
            features[u, c, 16] = likes[u, kind, 2]
            weight = linked[c, 0]
            features[u, c, 17] = math.log(weight + of_rows[row, USUAL]) if weight != ZERO else of_rows[row, LOG_USUAL]
            weight = linked[c, 1]
            features[u, c, 18] = math.log(weight + LINKED) if weight != ZERO else LOG_LINKED
            weight = linked[c, 2]
            if weight != ZERO:
                weight = math.log(weight / math.sqrt(visitors[row] + FEW) / held + LINKED)
            else:
                weight = LOG_LINKED
            features[u, c, 19] = weight
            features[u, c, 20] = sequence[u, c]
            features[u, c, 21] = of_rows[row, CROWD]
