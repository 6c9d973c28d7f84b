"""A user memory and an item table as the kernels on a CPU read them: arrays that share the tensors' memory."""

from typing import Any, NamedTuple

import numpy.typing as npt
from torch import Tensor

from model_server.sequence_model.item_table import ItemTable
from model_server.sequence_model.memory import UserMemory

Array = npt.NDArray[Any]


class Memory(NamedTuple):
    """The users' latest events, as arrays [users, ring], and how many each has had, [users]."""

    events: Array
    items: Array
    time_s: Array
    lat: Array
    lon: Array


class Items(NamedTuple):
    """The item table, as arrays [rows] and [slots, ...]."""

    slot_of: Array
    touches: Array
    lat: Array
    lon: Array
    vectors: Array
    bias: Array


def memory_of(memory: UserMemory) -> Memory:
    """A user memory as arrays, until it grows."""
    return Memory(*arrays_of(memory.count, memory.items, memory.time_s, memory.lat, memory.lon))


def items_of(items: ItemTable) -> Items:
    """An item table as arrays, until it grows; of the content it says nothing."""
    columns = (items.slot_of, items.touches, items.lat, items.lon, items.vectors.weight, items.bias.weight)
    return Items(*arrays_of(*columns))


def arrays_of(*tensors: Tensor) -> tuple[Array, ...]:
    """Tensors on the CPU as arrays that share their memory."""
    return tuple(tensor.detach().numpy() for tensor in tensors)
