"""Which unknown items are worth scoring for a user: a shortlist whose size does not depend on the catalogue's."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model_server.catalogue import Catalogue
from model_server.fusion.batch import UserBatch
from model_server.fusion.cells import CellIndex
from model_server.fusion.cpu_rows import Sources, collected_rows, distinct_rows
from model_server.neighbours import ItemNeighbours
from model_server.patterns import PatternStore
from model_server.visits import VisitCounts

CELL_DEG = (0.003, 0.008, 0.022, 0.06, 0.2)
HOME_SCALE = 2
LINKED_PLACES = 3
REFRESH_EVERY = 1024

Array = npt.NDArray[Any]


def distinct(found: Tensor, rows: int) -> Tensor:
    """The distinct catalogue rows of each line of ``found`` int64 [n, m], ascending, padded with -1 at the left."""
    if found.device.type == "cpu":
        return distinct_rows(found, rows)
    found = found.sort(1).values
    repeated = torch.zeros_like(found, dtype=torch.bool)
    repeated[:, 1:] = found[:, 1:] == found[:, :-1]
    found = found.masked_fill(repeated, -1).sort(1).values
    return found[:, found.shape[1] - int((found >= 0).sum(1).max()) :]


class Shortlist:
    """Candidates: what is near the last place, near home, popular, rising, new, and linked to the latest places.

    With at most ``dense_rows`` rows in the catalogue all of them are candidates.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        visits: VisitCounts,
        patterns: PatternStore,
        neighbours: ItemNeighbours,
        dense_rows: int = 768,
    ) -> None:
        self._catalogue, self._visits, self._patterns, self._neighbours = catalogue, visits, patterns, neighbours
        self._dense_rows, device = dense_rows, catalogue.device
        self._cells = [CellIndex(device, side) for side in CELL_DEG]
        self._places = np.zeros((0, 2))  # latitude and longitude by row, NaN where unknown
        self._general = torch.zeros(0, dtype=torch.long, device=device)
        self._counted = -1.0

    def place(self, rows: Array, lat: Array, lon: Array) -> None:
        """Say where rows int64 [n] are (float64 [n], WGS84 degrees); the first word on a row holds. O(n), amortised."""
        rows, first = np.unique(rows, return_index=True)
        self._reserve(int(rows[-1]) + 1 if len(rows) else 0)
        new = np.isnan(self._places[rows, 0])
        rows, lat, lon = rows[new], lat[first[new]], lon[first[new]]
        if not len(rows):
            return
        self._places[rows] = np.stack((lat, lon), 1)
        for cells in self._cells:
            cells.add(rows, lat, lon, self._visits)

    def around(self, lat: float, lon: float) -> Tensor:
        """The rows of the nine smallest squares around a place, int64."""
        cells = self._cells[0]
        slots = [slot for slot in cells.around(lat, lon) if slot >= 0]
        members = cells.members[torch.tensor(slots, dtype=torch.long, device=cells.device)].flatten()
        return members[members >= 0]

    def of(self, batch: UserBatch, sequence_rows: Tensor | None = None) -> Tensor:
        """Distinct candidate rows int64 [users, n], ascending; padded with -1 at the left."""
        rows = len(self._catalogue)
        if rows <= self._dense_rows:
            return torch.arange(rows, device=batch.slots.device).expand(batch.users, rows)
        linked = batch.recent_rows[:, :LINKED_PLACES]
        by_kernel = batch.slots.device.type == "cpu"
        return (self._on_cpu if by_kernel else self._on_device)(batch, linked, sequence_rows)

    def _on_device(self, batch: UserBatch, linked: Tensor, sequence_rows: Tensor | None) -> Tensor:
        parts = [self._near(batch.last_row, scale) for scale in range(len(CELL_DEG))]
        parts.append(self._near(batch.home_row, HOME_SCALE))
        parts += [
            torch.where(linked[..., None] >= 0, lists.neighbours[linked.clamp(min=0)], -1).flatten(1)
            for lists in (self._patterns.transitions, self._patterns.covisits, self._neighbours.lists)
        ]
        parts.append(self._popular().expand(batch.users, -1))
        if sequence_rows is not None:
            parts.append(sequence_rows)
        return distinct(torch.cat(parts, 1), len(self._catalogue))

    def _on_cpu(self, batch: UserBatch, linked: Tensor, sequence_rows: Tensor | None) -> Tensor:
        further = linked.new_zeros((batch.users, 0)) if sequence_rows is None else sequence_rows
        columns = (batch.last_row, batch.home_row, linked, self._popular(), further)
        squares = tuple(cells.squares() for cells in self._cells)
        lists = (self._patterns.transitions, self._patterns.covisits, self._neighbours.lists)
        neighbours = tuple(each.neighbours.numpy() for each in lists)
        sources = Sources(*(each.contiguous().numpy() for each in columns))
        return collected_rows(sources, squares, squares[HOME_SCALE], neighbours, len(self._catalogue))

    def state(self) -> dict[str, Any]:
        """Where rows are and what the squares hold."""
        rows = np.flatnonzero(~np.isnan(self._places[:, 0]))
        places = torch.from_numpy(self._places[rows])
        return {"rows": rows.tolist(), "places": places, "cells": [cells.state() for cells in self._cells]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave."""
        rows, places = np.array(state["rows"], np.int64), state["places"].numpy()
        self._places = np.full((int(rows.max()) + 1 if len(rows) else 0, 2), np.nan)
        self._places[rows] = places
        for cells, saved in zip(self._cells, state["cells"]):
            cells.load_state(saved, rows, *places.T.copy())
        self._counted = -1.0

    def _reserve(self, rows: int) -> None:
        held = len(self._places)
        if rows > held:
            more = np.full((max(rows - held, held), 2), np.nan)
            self._places = np.concatenate((self._places, more))

    def _near(self, rows: Tensor, scale: int) -> Tensor:
        cells = self._cells[scale]
        slots = cells.around_rows(rows)
        return torch.where(slots[..., None] >= 0, cells.members[slots.clamp(min=0)], -1).flatten(1)

    def _popular(self) -> Tensor:
        """Most visitors, most visitors of the last month, most visits of the last day, newest; drawn now and then."""
        visits, rows = self._visits, len(self._catalogue)
        total = float(visits.touches.sum())
        if self._counted < 0 or total - self._counted >= REFRESH_EVERY or len(self._general) == 0:
            visits.reserve(rows, 0)
            everything = torch.arange(rows, device=self._catalogue.device)
            standing = torch.where(self._catalogue.rankable(), 0.0, -torch.inf)
            scores = (
                (visits.visitors[:rows], 128),
                (visits.recent_visitors(everything, 2), 64),
                (visits.recent(everything, 0), 64),
                (everything.float(), 48),
            )
            self._general = torch.cat([(score + standing).topk(min(most, rows)).indices for score, most in scores])
            self._counted = total
        return self._general
