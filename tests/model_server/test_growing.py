"""Tensors that grow where they are."""

import io

import pytest
import torch

from model_server.growing import AHEAD, lengthened, roomy_zeros
from model_server.histories import Histories
from model_server.sequence_model.memory import UserMemory

CPU = torch.device("cpu")


def test_a_tensor_grows_where_it_is_while_there_is_room() -> None:
    tensor = roomy_zeros(3, (2,), torch.float32, CPU)
    tensor += 1
    longer = lengthened(tensor, 3 * AHEAD)
    assert longer.data_ptr() == tensor.data_ptr()
    assert longer[:3].eq(1).all() and longer[3:].eq(0).all()
    assert longer.shape == (3 * AHEAD, 2)


def test_beyond_its_room_it_moves_and_has_room_again() -> None:
    tensor = roomy_zeros(2, (), torch.int64, CPU)
    tensor += 7
    moved = lengthened(tensor, 2 * AHEAD + 1)
    assert moved.data_ptr() != tensor.data_ptr()
    assert moved[:2].tolist() == [7, 7] and not moved[2:].any()
    assert lengthened(moved, 3 * AHEAD).data_ptr() == moved.data_ptr()


def test_a_part_of_a_tensor_does_not_grow_into_its_neighbours() -> None:
    whole = torch.arange(6).view(3, 2)
    assert lengthened(whole[1:2], 2).tolist() == [[2, 3], [0, 0]]
    assert lengthened(whole[:, :1], 4).tolist() == [[0], [2], [4], [0]]


def test_none_can_become_some() -> None:
    assert lengthened(roomy_zeros(0, (4,), torch.float64, CPU), 2).tolist() == [[0.0] * 4] * 2


def test_without_addresses_to_spare_there_is_still_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_server.growing.AHEAD", 1 << 44)  # some hundred times what a processor can address
    tensor = roomy_zeros(100, (8,), torch.float32, CPU)
    assert tensor.shape == (100, 8) and not tensor.any()


def test_what_is_saved_has_no_room_in_it() -> None:
    histories, memory = Histories(CPU, length=16), UserMemory(16)
    histories.slots_of([f"user-{n}" for n in range(500)])
    memory.ensure(500)
    for state in (histories.state(), memory.state()):
        tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
        saved = io.BytesIO()
        torch.save(tensors, saved)
        assert saved.tell() < sum(value.nbytes for value in tensors.values()) + 10_000


def test_a_slot_that_nobody_had_yet_holds_no_rows() -> None:
    histories = Histories(CPU, length=4, capacity=2)
    for n in range(9):
        slot = histories.slots_of([f"user-{n}"])
        assert histories.row[slot].tolist() == [[-1] * 4]
        histories.append(slot, torch.tensor([0]), torch.zeros(1).double(), torch.zeros(1))
    assert histories.row[:9].tolist() == [[-1, -1, -1, 0]] * 9
