"""The memory holds each user's latest events and shows them as they were at any remembered moment."""

import numpy as np
import pytest
import torch

from model_server.sequence_model.memory import Events, UserMemory


def _events(users: list[int], items: list[int], start_s: float = 0.0) -> Events:
    return Events.of(np.array(users), np.array(items), start_s + np.arange(len(users), dtype=float))


def test_a_user_remembers_the_latest_events_in_order() -> None:
    memory = UserMemory(length=4)
    before = memory.append(_events([0, 1, 0, 0, 1, 0, 0], [10, 20, 11, 12, 21, 13, 14]))
    assert before.tolist() == [0, 0, 1, 2, 1, 3, 4]
    history = memory.history(torch.tensor([0, 1]), torch.tensor([5, 2]), length=4)
    assert history.items.tolist() == [[11, 12, 13, 14], [-1, -1, 20, 21]]
    assert history.mask.tolist() == [[True] * 4, [False, False, True, True]]


def test_batches_of_any_size_leave_the_same_memory() -> None:
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 7, 500).tolist(), rng.integers(0, 50, 500).tolist()
    whole, pieces = UserMemory(16), UserMemory(16)
    whole.append(_events(users, items))
    start = 0
    while start < 500:
        size = int(rng.integers(1, 120))
        pieces.append(_events(users[start : start + size], items[start : start + size], start))
        start += size
    for name, value in whole.state().items():
        assert torch.equal(value.nan_to_num(-1), pieces.state()[name].nan_to_num(-1)), name


def test_the_past_is_shown_as_it_was() -> None:
    memory = UserMemory(8)
    memory.append(_events([0] * 6, [1, 2, 3, 4, 5, 6]))
    then = memory.history(torch.tensor([0]), torch.tensor([3]), length=3)
    assert then.items.tolist() == [[1, 2, 3]] and then.prev_items.tolist() == [[-1, 1, 2]]
    assert then.has_prev.tolist() == [[False, True, True]]


def test_what_was_overwritten_is_masked() -> None:
    memory = UserMemory(4)
    memory.append(_events([0] * 6, [1, 2, 3, 4, 5, 6]))
    assert memory.history(torch.tensor([0]), torch.tensor([4]), length=4).items.tolist() == [[-1, -1, 3, 4]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"items": np.array([1])}, "items has shape"),
        ({"users": np.array([-1, 0])}, "users has a negative row"),
        ({"time_s": np.array([0.0, np.nan])}, "time_s is not finite"),
        ({"weights": np.array([1.0, -1.0])}, "weights must be"),
    ],
)
def test_bad_columns_are_named(change: dict[str, np.ndarray], reason: str) -> None:
    columns = {"users": np.array([0, 1]), "items": np.array([0, 1]), "time_s": np.array([0.0, 1.0])} | change
    with pytest.raises(ValueError, match=reason):
        Events.of(**columns)


def test_another_ring_length_is_refused() -> None:
    memory = UserMemory(4)
    memory.append(_events([0], [1]))
    with pytest.raises(ValueError, match="4 events per user, expected 8"):
        UserMemory(8).load_state(memory.state())
