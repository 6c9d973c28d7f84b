"""Which unknown items are worth scoring for a user: a shortlist whose size does not depend on the catalogue's."""

from typing import Any

import torch
from torch import Tensor

from model_server.catalogue import Catalogue, grown
from model_server.fusion.batch import UserBatch
from model_server.fusion.cpu_rows import distinct_rows
from model_server.neighbours import ItemNeighbours
from model_server.patterns import PatternStore
from model_server.visits import VisitCounts

CELL_DEG = (0.003, 0.008, 0.022, 0.06, 0.2)
HOME_SCALE = 2
CELL_ROWS = 20
UNKNOWN = -2
NEIGHBOURHOOD = tuple((north, east) for north in (-1, 0, 1) for east in (-1, 0, 1))
LINKED_PLACES = 3
REFRESH_EVERY = 1024


def distinct(found: Tensor, rows: int) -> Tensor:
    """The distinct catalogue rows of each line of ``found`` int64 [n, m], ascending, padded with -1 at the left."""
    if found.device.type == "cpu":
        return distinct_rows(found, rows)
    found = found.sort(1).values
    repeated = torch.zeros_like(found, dtype=torch.bool)
    repeated[:, 1:] = found[:, 1:] == found[:, :-1]
    found = found.masked_fill(repeated, -1).sort(1).values
    return found[:, found.shape[1] - int((found >= 0).sum(1).max()) :]


class CellIndex:
    """The most visited rows of every square of the map, ``CELL_ROWS`` at most per square.

    A full square gives the place of its least visited row to a newcomer, so what it holds follows the crowd.
    """

    def __init__(self, device: torch.device, side_deg: float, capacity: int = 256) -> None:
        self.side_deg, self.device = side_deg, device
        self._slot: dict[tuple[int, int], int] = {}
        self._known_squares = 0
        self._around_row = torch.full(
            (capacity, len(NEIGHBOURHOOD)), UNKNOWN, device=device
        )  # until there is a new square
        self.members = torch.full((capacity, CELL_ROWS), -1, dtype=torch.long, device=device)

    def add(self, row: int, lat: float, lon: float, visits: VisitCounts) -> None:
        """Enter a row at its place; entering it again changes nothing."""
        slot = self._slot.setdefault(self._cell(lat, lon), len(self._slot))
        if slot == self._known_squares:
            self._around_row.fill_(UNKNOWN)
            self._known_squares += 1
        if slot >= len(self.members):
            self.members = grown(self.members, 2 * len(self.members), -1)
        members = self.members[slot]
        if bool((members == row).any()):
            return
        worth = visits.visitors[members.clamp(min=0)] - 1e9 * (members < 0)
        self.members[slot, int(worth.argmin())] = row

    def around(self, lat: float, lon: float) -> list[int]:
        """Slots of the nine squares around a place, -1 where a square is empty."""
        north, east = self._cell(lat, lon)
        return [self._slot.get((north + a, east + b), -1) for a, b in NEIGHBOURHOOD]

    def around_rows(self, rows: Tensor, where: dict[int, tuple[float, float]]) -> Tensor:
        """``around`` of the places of these rows int64 [n], int64 [n, 9]; -1 for a row whose place is not known."""
        if int(rows.max()) >= len(self._around_row):
            self._around_row = grown(self._around_row, max(int(rows.max()) + 1, 2 * len(self._around_row)), UNKNOWN)
        found = self._around_row[rows]
        placed = [row for row in set(rows[found[:, 0] == UNKNOWN].tolist()) if row in where]
        if placed:
            around = torch.tensor([self.around(*where[row]) for row in placed], device=self.device)
            self._around_row[torch.tensor(placed, device=self.device)] = around
            found = self._around_row[rows]
        return found.clamp(min=-1)

    def state(self) -> dict[str, Any]:
        """The squares in use and their members."""
        squares = torch.tensor(list(self._slot), dtype=torch.long).reshape(-1, 2)
        return {"squares": squares, "members": self.members[: len(self._slot)].cpu().clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave."""
        self._slot = {(north, east): slot for slot, (north, east) in enumerate(state["squares"].tolist())}
        used = self._known_squares = len(self._slot)
        self._around_row.fill_(UNKNOWN)
        if used > len(self.members):
            self.members = grown(self.members, used, -1)
        self.members[:used] = state["members"].to(self.members)

    def _cell(self, lat: float, lon: float) -> tuple[int, int]:
        return int(lat // self.side_deg), int(lon // self.side_deg)


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
        self._where: dict[int, tuple[float, float]] = {}
        self._general = torch.zeros(0, dtype=torch.long, device=device)
        self._counted = -1.0

    def place(self, row: int, lat: float, lon: float) -> None:
        """Say where a row is. O(1)."""
        if row in self._where:
            return
        self._where[row] = (lat, lon)
        for cells in self._cells:
            cells.add(row, lat, lon, self._visits)

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
        parts = [self._near(batch.last_row, scale) for scale in range(len(CELL_DEG))]
        parts.append(self._near(batch.home_row, HOME_SCALE))
        parts += [
            torch.where(linked[..., None] >= 0, lists.neighbours[linked.clamp(min=0)], -1).flatten(1)
            for lists in (self._patterns.transitions, self._patterns.covisits, self._neighbours.lists)
        ]
        parts.append(self._popular().expand(batch.users, -1))
        if sequence_rows is not None:
            parts.append(sequence_rows)
        return distinct(torch.cat(parts, 1), rows)

    def state(self) -> dict[str, Any]:
        """Where rows are and what the squares hold."""
        rows = list(self._where)
        places = torch.tensor([self._where[row] for row in rows], dtype=torch.float64).reshape(-1, 2)
        return {"rows": rows, "places": places, "cells": [cells.state() for cells in self._cells]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave."""
        self._where = {row: (lat, lon) for row, (lat, lon) in zip(state["rows"], state["places"].tolist())}
        for cells, saved in zip(self._cells, state["cells"]):
            cells.load_state(saved)
        self._counted = -1.0

    def _near(self, rows: Tensor, scale: int) -> Tensor:
        cells = self._cells[scale]
        slots = cells.around_rows(rows, self._where)
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
