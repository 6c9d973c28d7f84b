"""Entering events into right-aligned buffers on a CPU: one after the other, each moved along in place."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit

Array = npt.NDArray[Any]


def append_on_cpu(
    buffers: tuple[Array, ...], events: Array, slots: Array, rows: Array, time_s: Array, week_s: Array
) -> None:
    """Enter events [n] at the right end of the lines ``slots`` of ``buffers``, and count them in ``events``. O(length) per event.

    The buffers are those of ``Histories``, [slots, length]: row, time_s, week_s and was_new.
    """
    _append(*buffers, events, slots, rows, time_s, week_s)


def warm_up() -> None:
    """Compile the kernel, or read it from numba's cache, so that no user's batch waits for it."""
    columns = (torch.zeros(2, dtype=dtype) for dtype in (torch.int32, torch.float64, torch.float32, torch.bool))
    one = np.zeros(1, np.int64)
    append_on_cpu(
        tuple(column[None].numpy() for column in columns), one.copy(), one, one, np.zeros(1), np.zeros(1, np.float32)
    )


@njit(cache=True, error_model="numpy")
def _append(
    held_rows: Array, held_s: Array, held_week_s: Array, was_new: Array, events: Array, slots: Array, rows: Array,
    time_s: Array, week_s: Array,
) -> None:  # fmt: skip
    last = held_rows.shape[1] - 1
    for n in range(len(slots)):
        slot, row, known = slots[n], rows[n], False
        for k in range(last + 1):
            known |= held_rows[slot, k] == row
        for k in range(last):
            held_rows[slot, k], held_s[slot, k] = held_rows[slot, k + 1], held_s[slot, k + 1]
            held_week_s[slot, k], was_new[slot, k] = held_week_s[slot, k + 1], was_new[slot, k + 1]
        held_rows[slot, last], held_s[slot, last] = row, time_s[n]
        held_week_s[slot, last], was_new[slot, last] = week_s[n], not known
        events[slot] += 1
