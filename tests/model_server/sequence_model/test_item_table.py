"""Items are admitted, forgotten and kept apart while the table grows under a running model."""

import pytest
import torch

from model_server.sequence_model.item_table import SPARSE_FROM_ROWS, ItemTable, RowTable

NOWHERE = torch.tensor(float("nan"))


def _touch(table: ItemTable, rows: list[int], time_s: float = 0.0) -> bool:
    n = len(rows)
    return table.touch(torch.tensor(rows), torch.full((n,), time_s).double(), NOWHERE.expand(n), NOWHERE.expand(n))


def test_an_item_gets_its_own_vector_after_enough_touches() -> None:
    table = ItemTable(8, admit_after=2)
    assert not _touch(table, [5])
    assert torch.equal(table(torch.tensor([5])), table(torch.tensor([3])))
    assert _touch(table, [5])
    assert not torch.equal(table(torch.tensor([5])), table(torch.tensor([3])))


def test_growth_keeps_every_vector_and_its_learning_rate() -> None:
    table = ItemTable(8)
    _touch(table, list(range(10)))
    table.vectors.square[table.slot_of[:10]] = 7.0
    before = table(torch.arange(10)).detach().clone()
    _touch(table, list(range(10, 5000)))
    assert torch.equal(table(torch.arange(10)), before) and bool(
        (table.vectors.square[table.slot_of[:10]] == 7.0).all()
    )
    assert len(torch.unique(table.slot_of[:5000])) == 5000


def test_the_dead_give_their_slots_to_the_living() -> None:
    table = ItemTable(8, expire_after_s=100.0)
    _touch(table, [0, 1, 2], 0.0)
    _touch(table, [2], 150.0)
    assert table.expire(160.0) == 2
    assert torch.equal(table(torch.tensor([0])), table(torch.tensor([1]))) and table.known[:3].all()
    slots = table.slots
    _touch(table, [7, 8], 170.0)
    assert table.slots == slots and len({int(table.slot_of[row]) for row in (2, 7, 8)}) == 3


def test_content_speaks_for_an_item_nobody_touched() -> None:
    table = ItemTable(8, content_dim=3)
    table.announce(torch.tensor([0, 1]), torch.eye(3)[:2], None, None)
    a, b = table(torch.tensor([0, 1]))
    assert not torch.allclose(a, b)


def test_content_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="content has shape"):
        ItemTable(8, content_dim=3).announce(torch.tensor([0]), torch.ones(1, 4), None, None)


def test_sparse_and_dense_steps_move_rows_alike() -> None:
    small, large = RowTable(64, 4, std=0.1), RowTable(SPARSE_FROM_ROWS, 4, std=0.1)
    with torch.no_grad():
        large.weight[:64] = small.weight
    for table in (small, large):
        for _ in range(3):
            (table(torch.tensor([3, 3, 9])) ** 2).sum().backward()
            table.step(0.1, scale=2.0)
    assert large.weight.grad is None and torch.allclose(large.weight[:64], small.weight, atol=1e-6)


def test_a_table_comes_back_whatever_its_size() -> None:
    table = ItemTable(8, content_dim=2)
    _touch(table, list(range(300)))
    other = ItemTable(8, content_dim=2)
    other.load_state_dict(table.state_dict())
    assert torch.equal(other.catalogue(), table.catalogue()) and other.rows == 300
    _touch(table, [400]), _touch(other, [400])
    assert torch.equal(other.catalogue(), table.catalogue())
