"""Squares of the map hold their most visited items, however many are entered at once."""

import numpy as np
import torch

from model_server.fusion.cells import CELL_ROWS, CellIndex
from model_server.visits import VisitCounts

CPU = torch.device("cpu")
SIDE = 0.01


def visited(counts: dict[int, float], rows: int = 1024) -> VisitCounts:
    visits = VisitCounts(CPU, capacity=rows)
    for row, count in counts.items():
        visits.visitors[row] = count
    return visits


def places(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return np.arange(rows), 40.0 + 0.1 * rng.random(rows), -0.05 + 0.1 * rng.random(rows)


def test_rows_entered_together_lie_as_if_entered_one_by_one_and_survive_a_restart() -> None:
    visits, (rows, lat, lon) = visited({n: float(n % 7) for n in range(1000)}), places(1000)
    together, single, restored = (CellIndex(CPU, SIDE, capacity=2) for _ in range(3))
    together.add(rows, lat, lon, visits)
    for n in range(len(rows)):
        single.add(rows[n : n + 1], lat[n : n + 1], lon[n : n + 1], visits)
    restored.load_state(together.state(), rows, lat, lon)
    for n in range(len(rows)):
        near = [set(near_to(cells, n)) for cells in (together, single, restored)]
        assert near[0] == near[1] == near[2]


def test_a_rows_neighbours_are_those_of_the_nine_squares_around_it() -> None:
    rows, lat, lon = places(60)
    cells = CellIndex(CPU, SIDE)
    cells.add(rows, lat, lon, visited({}))
    square = np.stack((lat // SIDE, lon // SIDE), 1)
    for n in range(len(rows)):
        expected = np.flatnonzero((np.abs(square - square[n]) <= 1).all(1))
        assert sorted(near_to(cells, n)) == expected.tolist()
    assert cells.around_rows(torch.tensor([5000, -1])).tolist() == [[-1] * 9] * 2


def test_a_full_square_gives_the_place_of_its_least_visited_row_to_a_newcomer() -> None:
    rows = np.arange(CELL_ROWS)
    cells, visits = CellIndex(CPU, SIDE), visited({n: float(n != 7) for n in range(CELL_ROWS)})
    cells.add(rows, np.full(CELL_ROWS, 40.001), np.full(CELL_ROWS, 0.001), visits)
    cells.add(np.array([3, 99]), np.full(2, 40.001), np.full(2, 0.001), visits)
    assert sorted(near_to(cells, 3)) == sorted({*rows.tolist(), 99} - {7})


def near_to(cells: CellIndex, row: int) -> list[int]:
    slots = cells.around_rows(torch.tensor([row]))[0]
    members = cells.members[slots[slots >= 0]].flatten()
    return members[members >= 0].tolist()
