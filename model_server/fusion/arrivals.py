"""Blocks of events on their way into the fusion: remembered, but not learned yet."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from model_server.histories import Histories
from model_server.sequence_model.memory import Events

LINKED = 32


@dataclass(frozen=True)
class Arrivals:
    """A block of events as tensors, with the number of events that each one's user had before it."""

    slots: Tensor
    rows: Tensor
    before: Tensor
    time_s: Tensor
    week_s: Tensor
    sequence: Events


def joined(blocks: Sequence[Arrivals]) -> Arrivals:
    """Blocks of events, one after the other, as one."""
    if len(blocks) == 1:
        return blocks[0]
    columns = {
        name: torch.cat([getattr(block, name) for block in blocks])
        for name in ("slots", "rows", "before", "time_s", "week_s")
    }
    sequence = Events(*(torch.cat([getattr(block.sequence, each.name) for block in blocks]) for each in fields(Events)))
    return Arrivals(sequence=sequence, **columns)


def testable(arrivals: Arrivals, histories: Histories) -> Tensor:
    """Positions of the arrivals whose user had an event before that is still remembered."""
    forgotten = histories.events[arrivals.slots] - histories.length
    return ((arrivals.before > 0) & (arrivals.before > forgotten)).nonzero()[:, 0]


def earlier_rows(arrivals: Arrivals, new: Tensor, histories: Histories) -> Tensor:
    """The rows of the events before each of the arrivals that ``new`` picks, [n, LINKED], -1 where there are fewer."""
    slots = arrivals.slots[new]
    at = histories.length - (histories.events[slots] - arrivals.before[new])
    index = at[:, None] - 1 - torch.arange(LINKED, device=slots.device)
    rows = histories.row[slots[:, None], index.clamp(min=0)].long()
    return torch.where(index >= 0, rows, -1)


def was_new(arrivals: Arrivals, histories: Histories) -> Tensor:
    """Which items their users had not had, bool [n]."""
    at = histories.length - (histories.events[arrivals.slots] - arrivals.before)
    return histories.was_new[arrivals.slots, at.clamp(min=0)]
