"""A shortlist names each row once, and it is known which of them are the user's own."""

import numpy as np
import pytest
import torch

from model_server.fusion.cpu_rows import distinct_rows
from model_server.fusion.exploring import own_mask


@pytest.mark.parametrize("rows", [1, 40, 100_000])
def test_each_line_holds_its_distinct_rows_in_ascending_order(rows: int) -> None:
    found = torch.tensor(np.random.default_rng(rows).integers(-1, rows, (9, 70)))
    found[4] = -1
    lines = [sorted({row for row in line if row >= 0}) for line in found.tolist()]
    most = max(map(len, lines))
    assert distinct_rows(found, rows).tolist() == [[-1] * (most - len(line)) + line for line in lines]


@pytest.mark.parametrize("shape", [(3, 0), (0, 3)])
def test_nothing_found_is_nothing(shape: tuple[int, int]) -> None:
    assert distinct_rows(torch.zeros(shape, dtype=torch.long), 5).shape == (shape[0], 0)


def test_a_row_beyond_the_catalogue_is_refused() -> None:
    with pytest.raises(IndexError, match="not in the catalogue"):
        distinct_rows(torch.tensor([[5]]), 5)


def test_own_rows_are_found_among_the_candidates() -> None:
    random = np.random.default_rng(0)
    candidates = distinct_rows(torch.tensor(random.integers(-1, 90, (9, 40))), 90)
    own = torch.tensor(random.integers(-1, 90, (9, 30)))
    expected = [[row >= 0 and row in mine for row in line] for line, mine in zip(candidates.tolist(), own.tolist())]
    assert own_mask(own, candidates).tolist() == expected
    everything = torch.arange(90).expand(9, 90)
    assert own_mask(own, everything).tolist() == [[row in mine for row in range(90)] for mine in own.tolist()]
