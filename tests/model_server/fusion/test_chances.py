"""What kernels say of candidates is what the chain of operations says that other devices run."""

import numpy as np
import pytest
import torch
from torch import Tensor

from model_server.fusion import chances
from model_server.fusion.chances import NEVER, append_chances, choosable, expected, log_chances

ROWS = 400


def some_rows(seed: int, users: int, most: int, left: bool) -> Tensor:
    """Distinct ascending rows of users who have unequally many, -1 at the left or the right of them."""
    rng = np.random.default_rng(seed)
    lines = np.full((users, most), -1)
    for line in lines:
        mine = np.sort(rng.choice(ROWS, rng.integers(0, most + 1), replace=False))
        at = slice(most - len(mine), None) if left else slice(0, len(mine))
        line[at] = mine
    return torch.from_numpy(lines)


def some_numbers(seed: int, *shape: int) -> Tensor:
    return 6 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def learned_through(numbers: Tensor) -> Tensor:
    """The same numbers, of which the chain of operations is taken: a kernel gives no gradient."""
    return numbers.clone().requires_grad_()


@pytest.mark.parametrize("most", [0, 1, 60, 300])
def test_those_can_be_chosen_that_are_rankable_and_nobody_has(most: int) -> None:
    candidates, own = some_rows(1, 20, most, left=True), some_rows(2, 20, 80, left=False)
    rankable = torch.from_numpy(np.random.default_rng(3).random(ROWS) < 0.8)
    expected_rows = [
        [row if row >= 0 and rankable[row] and row not in mine else -1 for row in line]
        for line, mine in zip(candidates.tolist(), own.tolist())
    ]
    assert choosable(candidates, own, rankable).tolist() == expected_rows


def test_a_candidate_beyond_the_catalogue_is_refused() -> None:
    with pytest.raises(IndexError, match="not in the catalogue"):
        choosable(torch.tensor([[5]]), torch.tensor([[-1]]), torch.ones(5, dtype=torch.bool))


@pytest.mark.parametrize("most", [1, 7, 300])
def test_chances_are_those_of_the_softmax_that_is_learned_through(most: int) -> None:
    rows, logits = some_rows(4, 9, most, left=True), some_numbers(5, 9, most)
    rows[3], logits[4] = -1, 100.0
    found = log_chances(logits, rows)
    torch.testing.assert_close(found, log_chances(learned_through(logits), rows).detach(), rtol=1e-5, atol=1e-5)
    assert (found[rows < 0] == NEVER).all()
    held = (rows >= 0).any(1)
    torch.testing.assert_close(found.exp().sum(1)[held], torch.ones(int(held.sum())))


def test_a_logit_that_is_not_finite_spoils_its_user_alone_and_only_if_it_can_be_chosen() -> None:
    rows, logits = torch.arange(40).expand(4, 40).clone(), some_numbers(6, 4, 40)
    logits[1, 7], logits[2, 7], logits[3, 7] = float("nan"), float("inf"), float("nan")
    rows[3, 7] = -1
    found = log_chances(logits, rows)
    assert found.isnan().any(1).tolist() == [False, True, True, False]
    assert found[1].isnan().all()
    again = log_chances(learned_through(logits), rows).detach()
    torch.testing.assert_close(found[3], again[3], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side_by_side", [False, True])
def test_what_is_expected_of_features_is_their_mean_by_chances(side_by_side: bool) -> None:
    log_p = log_chances(some_numbers(7, 6, 90), some_rows(8, 6, 90, left=True))
    features = some_numbers(9, 6, 90, 22)
    if side_by_side:
        features = features.transpose(1, 2).contiguous().transpose(1, 2)
    again = expected(learned_through(log_p), features).detach()
    torch.testing.assert_close(expected(log_p, features), again, rtol=1e-4, atol=1e-4)


def test_own_items_and_candidates_stand_side_by_side() -> None:
    own, found = some_rows(10, 8, 12, left=False), some_rows(11, 8, 70, left=True)
    probability, weight = torch.rand(8, 12), torch.rand(8)
    log_p = log_chances(some_numbers(12, 8, 70), found)
    rows, p = append_chances(own, probability, found, log_p, weight)
    expected_rows, expected_p = append_chances(own, probability, found, learned_through(log_p), weight)
    assert torch.equal(rows, expected_rows)
    torch.testing.assert_close(p, expected_p.detach())
    assert (p[rows < 0] == -1).all()


def test_what_is_chosen_is_what_the_mask_of_own_rows_leaves() -> None:
    candidates, own = some_rows(13, 20, 90, left=True), some_rows(14, 20, 30, left=False)
    rankable = torch.from_numpy(np.random.default_rng(15).random(ROWS) < 0.8)
    found = choosable(candidates, own, rankable)
    mine = chances.own_mask(own, candidates)
    assert torch.equal(
        found, torch.where((candidates >= 0) & rankable[candidates.clamp(min=0)] & ~mine, candidates, -1)
    )
