"""What is discovered after what is counted as a plain tally says, and can be stored."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model_server.fusion.moves import GAP_RATIO, MOST_KINDS, PRIOR, SHORTEST_S, Moves

CPU = torch.device("cpu")
KINDS = 90
Array = npt.NDArray[Any]


def counted(seed: int = 0) -> tuple[Moves, Array, Array, Array]:
    rng, moves = np.random.default_rng(seed), Moves(CPU)
    before, kind, gap_s = rng.integers(0, KINDS, 500), rng.integers(0, KINDS, 500), rng.exponential(20000.0, 500)
    kind[before < 30] = 7
    for part in np.split(np.arange(500), 10):
        moves.count(torch.tensor(before[part]), torch.tensor(gap_s[part]).float(), torch.tensor(kind[part]))
    return moves, before, gap_s, kind


def test_a_lift_compares_a_line_with_what_is_usual() -> None:
    moves, before, gap_s, kind = counted()
    kinds = len(moves.usual)
    usual = np.bincount(kind, minlength=kinds) + 0.5
    usual /= usual.sum()
    line = np.bincount(kind[before == 3], minlength=kinds)
    soon = np.bincount(kind[np.log1p(gap_s / SHORTEST_S) < GAP_RATIO], minlength=kinds)
    found = moves.lifts(torch.tensor([3]), torch.tensor([60.0]), torch.arange(KINDS)[None])[0].numpy()
    for column, tally in enumerate((line, soon)):
        expected = np.log((tally + PRIOR * usual) / (tally.sum() + PRIOR) / usual)
        np.testing.assert_allclose(found[:, column], expected[:KINDS], rtol=1e-4, atol=1e-5)
    assert found[:, 0].argmax() == 7


def test_after_a_category_that_nobody_has_been_to_everything_is_as_usual() -> None:
    moves, *_ = counted()
    assert (
        not moves.lifts(torch.tensor([300]), torch.tensor([60.0]), torch.tensor([[7, 8]]))[..., 0].abs().gt(1e-6).any()
    )


def test_however_many_categories_there_are_the_counts_keep_their_bounds() -> None:
    moves, many = Moves(CPU), torch.tensor([5, 1_000_000])
    moves.count(many, torch.tensor([60.0, 60.0]), many.flip(0))
    moves.count(many[:1], torch.tensor([60.0]), torch.tensor([MOST_KINDS - 1]))
    lifts = moves.lifts(many, torch.tensor([60.0, 60.0]), many[:, None])
    assert moves.after.shape == (MOST_KINDS, MOST_KINDS) and bool(lifts.isfinite().all())


def test_state_goes_on() -> None:
    moves, again = counted()[0], Moves(CPU)
    again.load_state(moves.state())
    asked = torch.tensor([3]), torch.tensor([9000.0]), torch.arange(KINDS)[None]
    torch.testing.assert_close(moves.lifts(*asked), again.lifts(*asked))
