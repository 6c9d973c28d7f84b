"""The largest of each line are those that sorting finds, however they are distributed."""

import pytest
import torch

from model_server.fusion.chances import foremost, likeliest


def assert_largest(lines: torch.Tensor, values: torch.Tensor, columns: torch.Tensor, most: int) -> None:
    """These are the ``most`` largest of each line in order, with columns that differ."""
    assert torch.equal(values, lines.sort(1, descending=True).values[:, :most])
    assert torch.equal(lines.gather(1, columns), values)
    assert all(len(set(line)) == len(line) for line in columns.tolist())


@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 8.0, 500.0, 1e9])
@pytest.mark.parametrize("most", [0, 1, 100, 400])
def test_the_largest_come_in_order_with_their_columns(spread: float, most: int) -> None:
    random = torch.Generator().manual_seed(int(spread) + most)
    lines = -spread * torch.rand(20, 300, generator=random)
    lines[:, ::5] = -1e9
    lines[3], lines[4, 1:] = -1e9, -1e9
    values, columns = likeliest(lines, most)
    assert_largest(lines, values, columns, most)


def test_of_equals_the_first_comes_first() -> None:
    assert likeliest(torch.tensor([[0.0, 1.0, 1.0, 0.0, 1.0]]), 4)[1].tolist() == [[1, 2, 4, 0]]


def test_lines_that_are_not_numbers_keep_to_themselves() -> None:
    lines = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    lines[1] = float("nan")
    values, columns = likeliest(lines, 10)
    assert values[1].isnan().all() and sorted(columns[1].tolist()) == list(range(10))
    assert torch.equal(values[::2], lines[::2].topk(10, 1).values)


def test_what_is_learned_through_stays_so() -> None:
    lines = torch.randn(2, 9, requires_grad=True)
    assert likeliest(lines, 3)[0].requires_grad


@pytest.mark.parametrize("most", [0, 1, 10, 32, 33, 400])
def test_the_foremost_are_those_of_a_sorted_list(most: int) -> None:
    scores = torch.rand(30, 300, generator=torch.Generator().manual_seed(most))
    scores[:, ::3], scores[5], scores[6, 1:] = -1.0, -1.0, -torch.inf
    values, columns = foremost(scores, most)
    assert_largest(scores, values, columns, most)


def test_of_equal_scores_the_first_is_foremost() -> None:
    assert foremost(torch.tensor([[0.0, 1.0, 1.0, 0.0, 1.0]]), 4)[1].tolist() == [[1, 2, 4, 0]]


def test_what_is_no_number_comes_before_all_scores() -> None:
    scores = torch.tensor([[0.5, torch.nan, 0.75, torch.nan, 0.25, 1.0], [torch.nan] * 6])
    values, columns = foremost(scores, 4)
    assert columns.tolist() == [[1, 3, 5, 2], [0, 1, 2, 3]]
    assert values.isnan().sum(1).tolist() == [2, 4]
