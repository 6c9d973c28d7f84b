"""What each user did lately: right-aligned event buffers on the device, one slot per user."""

from collections.abc import Sequence

import torch
from torch import Tensor

WEEK_S = 7 * 86400.0


class Histories:
    """The latest ``length`` events of every user as tensors [slot, length], the newest at the right end.

    ``row`` is the item's catalogue row (-1: none), ``time_s`` Unix seconds, ``week_s`` local seconds into the week (Monday
    0:00). An append costs O(length) per user and is done for many distinct users at once.

    >>> histories = Histories(torch.device("cpu"), length=4)
    >>> slots = histories.slots_of(["ann", "bob"])
    >>> for item in (7, 8, 7):
    ...     new = histories.append(slots, torch.tensor([item, item]), torch.tensor([1.0, 2.0]).double(), torch.zeros(2))
    >>> histories.row[slots[0]].tolist(), new.tolist()
    ([-1, 7, 8, 7], [False, False])
    """

    _TENSORS = ("row", "time_s", "week_s", "events", "discoveries", "last_was_new", "utc_offset_s")

    def __init__(self, device: torch.device, length: int = 512, capacity: int = 256) -> None:
        if length < 2:
            raise ValueError("length must be at least 2")
        self.device, self.length = device, length
        self.user_ids: list[str] = []
        self._slot: dict[str, int] = {}
        self.row = torch.full((capacity, length), -1, dtype=torch.int32, device=device)
        self.time_s = torch.zeros((capacity, length), dtype=torch.float64, device=device)
        self.week_s = torch.zeros((capacity, length), device=device)
        self.events = torch.zeros(capacity, dtype=torch.long, device=device)
        self.discoveries = torch.zeros(capacity, dtype=torch.long, device=device)
        self.last_was_new = torch.zeros(capacity, dtype=torch.bool, device=device)
        self.utc_offset_s = torch.zeros(capacity, device=device)

    def __len__(self) -> int:
        return len(self.user_ids)

    def slot(self, user_id: str) -> int | None:
        """The slot of a user that has one. O(1)."""
        return self._slot.get(user_id)

    def slots_of(self, user_ids: Sequence[str]) -> Tensor:
        """Slots of these users, int64; a user never heard of is given the next slot. Amortised O(users)."""
        slots = []
        for user_id in user_ids:
            slot = self._slot.get(user_id)
            if slot is None:
                slot = self._slot[user_id] = len(self.user_ids)
                self.user_ids.append(user_id)
            slots.append(slot)
        self._grow(len(self.user_ids))
        return torch.tensor(slots, dtype=torch.long, device=self.device)

    def append(self, slots: Tensor, rows: Tensor, time_s: Tensor, week_s: Tensor) -> Tensor:
        """Remember one event of each of these distinct users; bool[users]: was the item new to the user's window?"""
        row = self.row[slots]
        new = ~(row == rows[:, None]).any(1)

        def shift(buffer: Tensor, newest: Tensor) -> Tensor:
            return torch.cat((buffer[:, 1:], newest[:, None].to(buffer.dtype)), 1)

        self.row[slots] = shift(row, rows)
        self.time_s[slots] = shift(self.time_s[slots], time_s)
        self.week_s[slots] = shift(self.week_s[slots], week_s)
        self.discoveries[slots] += new & (self.events[slots] > 0)
        self.last_was_new[slots] = new
        self.events[slots] += 1
        return new

    def seen(self, slots: Tensor, rows: Tensor) -> Tensor:
        """bool[users]: has the user touched the item within the window?"""
        return (self.row[slots] == rows[:, None]).any(1)

    def state(self) -> dict[str, object]:
        """Everything, as tensors and plain lists."""
        users = len(self)
        return {"user_ids": list(self.user_ids)} | {n: getattr(self, n)[:users].cpu().clone() for n in self._TENSORS}

    def load_state(self, state: dict[str, object]) -> None:
        """Take over what ``state`` gave; ValueError if a column is missing or does not fit ``length``."""
        user_ids = state.get("user_ids")
        if not isinstance(user_ids, list):
            raise ValueError("state of histories has no user_ids")
        columns = {name: state.get(name) for name in self._TENSORS}
        for name, column in columns.items():
            expected = (len(user_ids), *getattr(self, name).shape[1:])
            if not isinstance(column, Tensor) or tuple(column.shape) != expected:
                raise ValueError(f"history column {name} does not have the shape {expected}")
        self.user_ids = list(user_ids)
        self._slot = {user_id: slot for slot, user_id in enumerate(user_ids)}
        self._grow(len(user_ids))
        for name, column in columns.items():
            getattr(self, name)[: len(user_ids)] = column

    def _grow(self, users: int) -> None:
        capacity = len(self.events)
        if users <= capacity:
            return
        capacity = max(2 * capacity, users)
        for name in self._TENSORS:
            old: Tensor = getattr(self, name)
            new = torch.zeros((capacity, *old.shape[1:]), dtype=old.dtype, device=self.device)
            if name == "row":
                new.fill_(-1)
            new[: len(old)] = old
            setattr(self, name, new)
