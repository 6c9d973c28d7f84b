"""The most visited items of every square of the map: what is near a place, at a cost that does not grow with the catalogue."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

from model_server.catalogue import grown
from model_server.fusion.cpu_rows import Squares
from model_server.visits import VisitCounts

CELL_ROWS = 20
NEIGHBOURHOOD = tuple((north, east) for north in (-1, 0, 1) for east in (-1, 0, 1))
EMPTY = -1e9

Array = npt.NDArray[Any]


class CellIndex:
    """The most visited rows of every square of the map, ``CELL_ROWS`` at most per square.

    A full square gives the place of its least visited row to a newcomer, so what it holds follows the crowd. Every square
    knows the slots of the nine around it, which a new one tells of itself: where a row's neighbours are is two look-ups.
    """

    def __init__(self, device: torch.device, side_deg: float, capacity: int = 256) -> None:
        self.side_deg, self.device = side_deg, device
        self._slot: dict[tuple[int, int], int] = {}
        self._around = torch.full((capacity, len(NEIGHBOURHOOD)), -1, device=device)
        self._slot_of_row = torch.full((capacity,), -1, device=device)
        self.members = torch.full((capacity, CELL_ROWS), -1, dtype=torch.long, device=device)

    def add(self, rows: Array, lat: Array, lon: Array, visits: VisitCounts) -> None:
        """Enter rows int64 [n] at their places [n], in order; a row that a square holds already changes nothing. O(n)."""
        slots = self._locate(rows, lat, lon)
        touched, at = np.unique(slots, return_inverse=True)
        which = torch.from_numpy(touched).to(self.device)
        held = self.members[which].cpu().numpy()
        _enter(held, at, rows, visits.visitors.cpu().numpy())
        self.members[which] = torch.from_numpy(held).to(self.device)

    def around(self, lat: float, lon: float) -> list[int]:
        """Slots of the nine squares around a place, -1 where a square is empty."""
        north, east = int(lat // self.side_deg), int(lon // self.side_deg)
        return [self._slot.get((north + a, east + b), -1) for a, b in NEIGHBOURHOOD]

    def around_rows(self, rows: Tensor) -> Tensor:
        """``around`` of the places of these rows int64 [n], int64 [n, 9]; -1 for a row whose place is not known."""
        known = (rows >= 0) & (rows < len(self._slot_of_row))
        slots = torch.where(known, self._slot_of_row[torch.where(known, rows, 0)], -1)
        return torch.where(slots[:, None] >= 0, self._around[slots.clamp(min=0)], -1)

    def squares(self) -> Squares:
        """All squares as arrays on the CPU, until one is opened."""
        return Squares(self.members.numpy(), self._slot_of_row.numpy(), self._around.numpy())

    def state(self) -> dict[str, Any]:
        """The squares in use and their members."""
        squares = torch.tensor(list(self._slot), dtype=torch.long).reshape(-1, 2)
        return {"squares": squares, "members": self.members[: len(self._slot)].cpu().clone()}

    def load_state(self, state: dict[str, Any], rows: Array, lat: Array, lon: Array) -> None:
        """Take over what ``state`` gave for the rows int64 [n] that are at these places."""
        self._slot = {}
        for square in map(tuple, state["squares"].tolist()):
            self._open(square)
        self.members[: len(self._slot)] = state["members"].to(self.members)
        self._locate(rows, lat, lon)

    def _locate(self, rows: Array, lat: Array, lon: Array) -> Array:
        """The slots int64 [n] of the squares of these places, opened if need be; notes them as those of the rows."""
        squares = np.stack((lat // self.side_deg, lon // self.side_deg), 1).astype(np.int64)
        distinct, at = np.unique(squares, axis=0, return_inverse=True)
        slots = np.array([self._open(square) for square in map(tuple, distinct.tolist())], np.int64)[at.reshape(-1)]
        if len(rows) and (most := int(rows.max()) + 1) > len(self._slot_of_row):
            self._slot_of_row = grown(self._slot_of_row, max(most, 2 * len(self._slot_of_row)), -1)
        self._slot_of_row[torch.from_numpy(rows).to(self.device)] = torch.from_numpy(slots).to(self.device)
        return slots

    def _open(self, square: tuple[int, int]) -> int:
        """The slot of a square; a new one is told to its neighbours."""
        slot = self._slot.get(square)
        if slot is not None:
            return slot
        slot = self._slot[square] = len(self._slot)
        if slot >= len(self.members):
            self.members = grown(self.members, 2 * len(self.members), -1)
            self._around = grown(self._around, len(self.members), -1)
        north, east = square
        around = [self._slot.get((north + a, east + b), -1) for a, b in NEIGHBOURHOOD]
        self._around[slot] = torch.tensor(around, device=self.device)
        for place, neighbour in enumerate(around):
            if neighbour >= 0:
                self._around[neighbour, len(NEIGHBOURHOOD) - 1 - place] = slot
        return slot


@njit(cache=True)
def _enter(held: Array, square: Array, rows: Array, visitors: Array) -> None:
    """Enter each row into the line of ``held`` that ``square`` names, in place of an empty or the least visited member."""
    for n in range(len(rows)):
        line, least, where = held[square[n]], np.inf, 0
        for m in range(len(line)):
            if line[m] == rows[n]:
                where = -1
                break
            worth = visitors[line[m]] if line[m] >= 0 else EMPTY
            if worth < least:
                least, where = worth, m
        if where >= 0:
            line[where] = rows[n]


def warm_up() -> None:
    """Compile the kernel, or read it from numba's cache, so that no user's batch waits for it."""
    device = torch.device("cpu")
    CellIndex(device, 1.0).add(np.zeros(1, np.int64), np.zeros(1), np.zeros(1), VisitCounts(device))
