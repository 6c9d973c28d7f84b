"""The flat batch of users holds exactly what a plain reading of their histories gives."""

import numpy as np
import pytest
import torch

from model_server.fusion.batch import LONG_S, gather_users
from model_server.histories import Histories, occurrence

ROWS = 12


def filled(length: int, events: int = 200, users: int = 5) -> tuple[Histories, list[list[tuple[int, float, float]]]]:
    rng = np.random.default_rng(3)
    histories = Histories(torch.device("cpu"), length, capacity=2)
    slots = histories.slots_of([f"u{n}" for n in rng.integers(0, users, events)])
    rows, week = rng.integers(0, ROWS, events), rng.uniform(0, 604800, events)
    times = np.cumsum(rng.uniform(1, 5000, events))
    plain: list[list[tuple[int, float, float]]] = [[] for _ in range(users)]
    for slot, row, time_s, week_s in zip(slots.tolist(), rows.tolist(), times.tolist(), week.tolist()):
        plain[slot].append((row, time_s, week_s))
    for start in range(0, events, 37):
        part = slice(start, start + 37)
        histories.append(
            slots[part], torch.tensor(rows[part]), torch.tensor(times[part]), torch.tensor(week[part]).float()
        )
    return histories, plain


@pytest.mark.parametrize("length", [8, 64])
@pytest.mark.parametrize("back", [0, 3])
def test_batch_holds_each_users_remembered_events_in_order(length: int, back: int) -> None:
    histories, plain = filled(length)
    slots = torch.tensor([2, 0, 4])
    before = histories.events[slots] - back
    batch = gather_users(histories, ROWS, slots, before)
    for index, slot in enumerate(slots.tolist()):
        held = plain[slot][: len(plain[slot]) - back][-(length - back) :]
        mine = batch.events.user == index
        assert batch.events.row[mine].tolist() == [row for row, _, _ in held]
        assert batch.events.time_s[mine].tolist() == pytest.approx([time_s for _, time_s, _ in held])
        assert batch.last_row[index] == held[-1][0]
        own = batch.own.user == index
        assert batch.own.row[own].tolist() == sorted({row for row, _, _ in held})
        assert (batch.own.row[batch.events.pair[mine]] == batch.events.row[mine]).all()


def test_predecessors_are_the_events_before_and_missing_at_the_edge() -> None:
    histories, plain = filled(64)
    batch = gather_users(histories, ROWS, torch.tensor([1]))
    rows = [row for row, _, _ in plain[1]]
    times = [time_s for _, time_s, _ in plain[1]]
    assert batch.events.before_row.tolist() == [-1, *rows[:-1]]
    assert batch.events.before2_row.tolist() == [-1, -1, *rows[:-2]]
    assert batch.events.interval_s[1:].tolist() == pytest.approx(np.diff(times).tolist(), rel=1e-4)
    assert batch.events.interval_s[0] == LONG_S


def test_known_time_sets_the_gap_and_the_local_hour() -> None:
    histories, plain = filled(64)
    _, last_s, last_week_s = plain[3][-1]
    batch = gather_users(histories, ROWS, torch.tensor([3]), None, torch.tensor([last_s + 7200.0], dtype=torch.float64))
    assert batch.gap_s.item() == pytest.approx(7200, abs=0.1)
    assert batch.now_week_s.item() == pytest.approx((last_week_s + 7200) % 604800, abs=0.2)


def test_without_a_time_the_batch_is_as_of_the_last_event() -> None:
    histories, plain = filled(64)
    batch = gather_users(histories, ROWS, torch.tensor([3]))
    assert batch.gap_s.item() == 0 and batch.now_s.item() == plain[3][-1][1] and not batch.timed


def test_user_without_a_remembered_event_is_refused() -> None:
    histories, _ = filled(8)
    with pytest.raises(ValueError, match="remembered event"):
        gather_users(histories, ROWS, torch.tensor([0]), torch.tensor([0]))


def test_newness_is_relative_to_the_users_window() -> None:
    histories = Histories(torch.device("cpu"), length=3)
    slots = histories.slots_of(["u"] * 5)
    histories.append(slots, torch.tensor([1, 1, 2, 3, 1]), torch.arange(5).double(), torch.zeros(5))
    assert histories.was_new[slots[0]].tolist() == [True, True, False]
    histories.append(slots[:1], torch.tensor([2]), torch.tensor([9.0]).double(), torch.zeros(1))
    assert histories.row[slots[0]].tolist() == [3, 1, 2]


def test_occurrence_counts_earlier_equals() -> None:
    slots = torch.tensor([4, 4, 1, 4, 1])
    assert occurrence(slots).tolist() == [0, 1, 0, 2, 1]


def test_state_of_histories_survives_and_wrong_states_are_refused() -> None:
    histories, _ = filled(8)
    other = Histories(torch.device("cpu"), 8, capacity=2)
    other.load_state(histories.state())
    assert other.user_ids == histories.user_ids
    assert torch.equal(other.row[: len(other)], histories.row[: len(histories)])
    with pytest.raises(ValueError, match="shape"):
        Histories(torch.device("cpu"), 9).load_state(histories.state())
