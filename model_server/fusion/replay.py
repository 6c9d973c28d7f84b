"""Replay: which past events to learn from again."""

from typing import Any

import torch
from torch import Tensor

from model_server.histories import Histories


class ReplayLog:
    """The latest ``capacity`` events as (user slot, number of the user's events before it), drawn uniformly.

    An event can be replayed as long as the user's window still holds it and the one before; of a slot that was given to somebody
    else an entry speaks of the new user's event of that number, once there is one.
    """

    def __init__(self, device: torch.device, capacity: int = 1 << 18, seed: int = 0) -> None:
        self.slots = torch.zeros(capacity, dtype=torch.int32, device=device)
        self.before = torch.zeros(capacity, dtype=torch.int32, device=device)
        self.written = 0
        self._generator = torch.Generator().manual_seed(seed)

    def add(self, slots: Tensor, before: Tensor) -> None:
        """Enter events [n] in order; the oldest make room."""
        at = (torch.arange(len(slots), device=slots.device) + self.written) % len(self.slots)
        self.slots[at], self.before[at] = slots.int(), before.int()
        self.written += len(slots)

    def draw(self, histories: Histories, most: int) -> tuple[Tensor, Tensor]:
        """Up to ``most`` events: slots and numbers of events before, int64."""
        held = min(self.written, len(self.slots))
        at = torch.randint(held, (most,), generator=self._generator).to(self.slots.device)
        slots, before = self.slots[at].long(), self.before[at].long()
        since = histories.events[slots] - before
        usable = (since > 0) & (since < histories.length)
        return slots[usable], before[usable]

    def state(self) -> dict[str, object]:
        """The events held and the state of the draw."""
        held = min(self.written, len(self.slots))
        return {
            "slots": self.slots[:held].cpu().clone(),
            "before": self.before[:held].cpu().clone(),
            "written": self.written,
            "generator": self._generator.get_state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave; ValueError if it holds more than there is room for."""
        held = len(state["slots"])
        if held > len(self.slots):
            raise ValueError(f"the state holds {held} events to replay, there is room for {len(self.slots)}")
        self.slots[:held], self.before[:held] = state["slots"].to(self.slots), state["before"].to(self.before)
        self.written = int(state["written"])
        self._generator.set_state(state["generator"].cpu())
