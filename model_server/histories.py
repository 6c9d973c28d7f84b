"""What each user did lately: right-aligned event buffers on the device, one slot per user."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from model_server.cpu_appending import append_on_cpu
from model_server.growing import lengthened, roomy_zeros

WEEK_S = 7 * 86400.0


class Histories:
    """The latest ``length`` events of every user as tensors [slot, length], the newest at the right end.

    ``row`` is the item's catalogue row (-1: none), ``time_s`` Unix seconds, ``week_s`` local seconds into the week (Monday
    0:00), ``was_new`` whether the user's window did not hold the item before. Memory: 17 bytes per event that fits.

    Of at most ``max_users`` users; a new one beyond takes the slot of the one who has been idle for longest, and
    ``take_recycled`` says so: whatever else is kept by slot must be forgotten then.

    >>> histories = Histories(torch.device("cpu"), length=4)
    >>> slots = histories.slots_of(["ann", "bob", "ann", "ann"])
    >>> histories.append(slots, torch.tensor([7, 7, 8, 7]), torch.arange(4).double(), torch.zeros(4))
    >>> histories.row[slots[0]].tolist(), histories.was_new[slots[0]].tolist(), histories.events[slots].tolist()
    ([-1, 7, 8, 7], [False, True, True, False], [3, 1, 3, 3])
    """

    _TENSORS = ("row", "time_s", "week_s", "was_new", "events")

    def __init__(
        self, device: torch.device, length: int = 512, capacity: int = 256, max_users: int = 1_000_000
    ) -> None:
        if length < 2 or max_users < 1:
            raise ValueError("length must be at least 2 and max_users at least 1")
        self.device, self.length, self.max_users = device, length, max_users
        self.user_ids: list[str] = []
        self._slot: OrderedDict[str, int] = OrderedDict()  # the longest idle first
        self._recycled: list[int] = []
        # Of slots that nobody has yet nothing is to be read: the memory behind them may not have been touched at all.
        self.row = roomy_zeros(capacity, (length,), torch.int32, device)
        self.time_s = roomy_zeros(capacity, (length,), torch.float64, device)
        self.week_s = roomy_zeros(capacity, (length,), torch.float32, device)
        self.was_new = roomy_zeros(capacity, (length,), torch.bool, device)
        self.events = roomy_zeros(capacity, (), torch.long, device)

    def __len__(self) -> int:
        return len(self.user_ids)

    def slot(self, user_id: str) -> int | None:
        """The slot of a user that has one. O(1)."""
        return self._slot.get(user_id)

    def slots_of(self, user_ids: Sequence[str]) -> Tensor:
        """Slots of these users, int64, who count as active now; a user never heard of is given one. Amortised O(users).

        Raises ValueError for more different users than ``max_users``; nothing has changed then.
        """
        if len(user_ids) > self.max_users and len(set(user_ids)) > self.max_users:
            raise ValueError(f"{len(set(user_ids))} users at once, at most {self.max_users} are remembered")
        slots, known = [], len(self)
        for user_id in user_ids:
            slot = self._slot.get(user_id)
            if slot is None:
                slot = self._slot[user_id] = self._free_slot(user_id)
            else:
                self._slot.move_to_end(user_id)
            slots.append(slot)
        self._grow(len(self))
        self.row[known : len(self)] = -1
        return torch.tensor(slots, dtype=torch.long, device=self.device)

    def take_recycled(self) -> Tensor:
        """The slots that were given to other users since the last call, int64."""
        recycled, self._recycled = self._recycled, []
        return torch.tensor(recycled, dtype=torch.long, device=self.device)

    def _free_slot(self, user_id: str) -> int:
        if len(self.user_ids) < self.max_users:
            self.user_ids.append(user_id)
            return len(self.user_ids) - 1
        _, slot = self._slot.popitem(last=False)
        self.user_ids[slot] = user_id
        self.row[slot] = -1
        self.events[slot] = 0
        self._recycled.append(slot)
        return slot

    def append(self, slots: Tensor, rows: Tensor, time_s: Tensor, week_s: Tensor) -> None:
        """Remember these events in order; a user may come several times. O(length) per event, batched over users."""
        if self.device.type == "cpu":
            columns = (each.contiguous().numpy() for each in (slots, rows, time_s, week_s))
            buffers = tuple(each.numpy() for each in (self.row, self.time_s, self.week_s, self.was_new))
            append_on_cpu(buffers, self.events.numpy(), *columns)
            return
        for part in turns(slots):
            self._append_distinct(slots[part], rows[part], time_s[part], week_s[part])

    def state(self) -> dict[str, object]:
        """Everything, as tensors and plain lists."""
        users = len(self)
        held = {name: getattr(self, name)[:users].cpu().clone() for name in self._TENSORS}
        return {"user_ids": list(self.user_ids), "idle_first": list(self._slot.values())} | held

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
        idle_first = state.get("idle_first", range(len(user_ids)))
        if not isinstance(idle_first, Sequence) or sorted(idle_first) != list(range(len(user_ids))):
            raise ValueError("state of histories does not tell the order of its users")
        self.user_ids = list(user_ids)
        self._slot = OrderedDict((user_ids[slot], slot) for slot in idle_first)
        self._grow(len(user_ids))
        for name, column in columns.items():
            getattr(self, name)[: len(user_ids)] = column

    def _append_distinct(self, slots: Tensor, rows: Tensor, time_s: Tensor, week_s: Tensor) -> None:
        new = ~(self.row[slots] == rows[:, None]).any(1)
        for buffer, newest in (
            (self.row, rows),
            (self.time_s, time_s),
            (self.week_s, week_s),
            (self.was_new, new),
        ):
            buffer[slots] = torch.cat((buffer[slots, 1:], newest[:, None].to(buffer.dtype)), 1)
        self.events[slots] += 1

    def _grow(self, users: int) -> None:
        capacity = len(self.events)
        if users <= capacity:
            return
        capacity = max(2 * capacity, users)
        for name in self._TENSORS:
            setattr(self, name, lengthened(getattr(self, name), capacity))


def turns(slots: Tensor) -> list[Tensor]:
    """Positions int64 of the first event of every slot, of the second, and so on: within a turn slots are distinct.

    >>> [part.tolist() for part in turns(torch.tensor([5, 6, 5]))]
    [[0, 1], [2]]
    """
    if len(slots) == 0:
        return []
    turn = occurrence(slots)
    return [(turn == number).nonzero()[:, 0] for number in range(int(turn.max()) + 1)]


def occurrence(slots: Tensor) -> Tensor:
    """How often the same slot came before, for each position, int64.

    >>> occurrence(torch.tensor([5, 6, 5, 5])).tolist()
    [0, 0, 1, 2]
    """
    order = torch.argsort(slots, stable=True)
    ordered = slots[order]
    position = torch.arange(len(slots), device=slots.device)
    starts = torch.ones_like(position, dtype=torch.bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    first = torch.cummax(torch.where(starts, position, torch.zeros_like(position)), 0).values
    result = torch.empty_like(position)
    result[order] = position - first
    return result
