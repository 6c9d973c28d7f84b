"""User states from cached keys and values: a user's next event costs one token instead of a whole window.

Windows are anchored: they begin at multiples of half the window, so the window of a user grows token by token and is
encoded afresh only once per half window. Within one anchor the cached path gives the same states as the full one.
"""

import torch
from torch import Tensor

from model_server.sequence_model.cpu_encoding import encode_on_cpu
from model_server.sequence_model.memory import History, UserMemory
from model_server.sequence_model.model import SequenceModel, pairwise

CATCH_UP = 4  # a user further behind is encoded afresh


class CachedEncoder:
    """States of users, with the keys and values of up to ``users`` of them (direct-mapped by row) kept between calls.

    ``forget`` must be called after any change of the weights or of the item table, ``forget_provisional`` when an item got a
    vector of its own.
    Memory: users x layers x 2 x window x dim floats.
    """

    def __init__(self, model: SequenceModel, memory: UserMemory, users: int = 4096) -> None:
        self.model, self.memory = model, memory
        settings, device = model.settings, memory.device
        shape = (users, settings.layers, settings.heads, settings.window, settings.dim // settings.heads)
        self._shape = shape
        self._keys = torch.zeros(0)
        self._values = torch.zeros(0)
        self._state = torch.zeros(users, settings.dim, device=device)
        self._owner = torch.full((users,), -1, device=device)
        self._count = torch.zeros(users, dtype=torch.int64, device=device)
        self._provisional = torch.zeros(
            users, dtype=torch.bool, device=device
        )  # holds an item without a vector of its own
        self.full_encodings = 0
        self.cached_encodings = 0

    def forget(self) -> None:
        """Drop everything cached. O(users)."""
        self._owner.fill_(-1)

    def forget_users(self, rows: Tensor) -> None:
        """Drop what is cached of these users."""
        slot = rows % len(self._owner)
        self._owner[slot] = torch.where(self._owner[slot] == rows, -1, self._owner[slot])

    def forget_provisional(self) -> None:
        """Drop what was computed while an item of the window had no vector of its own yet. O(users)."""
        self._owner.masked_fill_(self._provisional, -1)

    def anchor(self, count: Tensor) -> Tensor:
        """The number of the first event in the window of a user with ``count`` >= 1 events."""
        half = self.model.settings.window // 2
        return ((torch.div(count - 1, half, rounding_mode="floor") - 1) * half).clamp(min=0)

    def full(self, users: Tensor, before: Tensor) -> Tensor:
        """States [B, d] right after the first ``before`` events, without the cache."""
        history = self.memory.history(users, before, self.model.settings.window, self.anchor(before))
        return self.model.encode(history)[:, -1]

    def states(self, users: Tensor) -> Tensor:
        """States [B, d] of distinct users with at least one event, as of now, from the cache where it can help."""
        if not len(self._keys):
            self._keys = torch.zeros(self._shape, device=self.memory.device)
            self._values = torch.zeros_like(self._keys)
        count, slot = self.memory.count[users], users % len(self._owner)
        cached = self._owner[slot] == users
        behind = torch.where(cached, count - self._count[slot], CATCH_UP + 1)
        usable = cached & (behind <= CATCH_UP) & (self.anchor(count) == self.anchor(self._count[slot].clamp(min=1)))
        self.cached_encodings += int(usable.sum())
        self.full_encodings += int((~usable).sum())
        by_kernels = self.memory.device.type == "cpu" and self.model.items.project is None
        return (self._states_on_cpu if by_kernels else self._states_on_device)(users, count, usable)

    def _states_on_device(self, users: Tensor, count: Tensor, usable: Tensor) -> Tensor:
        """``states``, which may begin with what is cached of the ``usable`` ones."""
        slot = users % len(self._owner)
        out = torch.empty(len(users), self._state.shape[1], device=self.memory.device)
        fresh, known = torch.nonzero(~usable).flatten(), torch.nonzero(usable).flatten()
        if len(known):
            most = int((count - self._count[slot])[known].max())
            if most:
                self._catch_up(users[known], most)
            out[known] = self._state[slot[known]]
        if len(fresh):
            out[fresh] = self._encode(users[fresh], count[fresh])
        return out

    def _states_on_cpu(self, users: Tensor, count: Tensor, usable: Tensor) -> Tensor:
        """The same by kernels: of ``usable`` users as of others what is new is one list."""
        slot = users % len(self._owner)
        out = self._state[slot]
        first = torch.where(usable, self._count[slot], self.anchor(count))
        some, behind = torch.nonzero(first < count).flatten(), torch.nonzero(usable & (first < count)).flatten()
        while len(some):
            winner = torch.full_like(self._owner, -1)
            winner[slot[some]] = some
            winner[slot[behind]] = behind  # before anybody takes the line that they go on from
            now = winner[slot[some]] == some  # of users that share a line one after the other
            self._encode_on_cpu(users, count, some[now], first, out)
            some, behind = some[~now], behind[:0]
        return out

    def _encode_on_cpu(self, users: Tensor, count: Tensor, some: Tensor, first: Tensor, out: Tensor) -> None:
        """Encode the events of ``some`` of the users from the ``first`` on, into the cache and ``out``."""
        users, count, first = users[some], count[some], first[some]
        slot, anchor = users % len(self._owner), self.anchor(count)
        lines, cache = (anchor, first, slot), (self._keys, self._values)
        state, provisional = encode_on_cpu(self.model, self.memory, users, lines, cache)
        out[some] = state
        self._provisional[slot] = provisional | (self._provisional[slot] & (first > anchor))
        self._owner[slot], self._count[slot], self._state[slot] = users, count, state

    def _encode(self, users: Tensor, count: Tensor) -> Tensor:
        history = self.memory.history(users, count, self.model.settings.window, self.anchor(count))
        states, keys, values = self.model.transducer.latest(self.model.tokens(history), history)
        slot = users % len(self._owner)
        winner = torch.empty_like(self._owner).scatter_(0, slot, torch.arange(len(users), device=slot.device))
        keep = winner[slot] == torch.arange(len(users), device=slot.device)  # of users that share a slot, one
        users, slot, count = users[keep], slot[keep], count[keep]
        column = self._columns(history.items.shape[1], count)
        at = (slot[:, None], column)
        self._keys.transpose(1, 3)[at] = keys[keep].transpose(1, 3)  # [kept, L, H, layers, d / H]
        self._values.transpose(1, 3)[at] = values[keep].transpose(1, 3)
        self._owner[slot], self._count[slot], self._state[slot] = users, count, states[keep]
        self._provisional[slot] = self._unadmitted(history)[keep]
        return states

    def _unadmitted(self, history: History) -> Tensor:
        """bool [B]: is there an item without a vector of its own?"""
        return ((self.model.items.slot_of[history.items.clamp(min=0)] == 0) & history.mask).any(1)

    def _columns(self, n: int, count: Tensor) -> Tensor:
        """The cache column of each token of right-aligned windows of n <= window tokens; masked ones fall beyond the others."""
        number = count[:, None] - n + torch.arange(n, device=count.device)
        return (number - self.anchor(count)[:, None]) % self.model.settings.window

    def _catch_up(self, users: Tensor, most: int) -> None:
        """Encode the latest ``most`` events of each user; where fewer are new, known ones once more, which changes nothing."""
        model, slot, count = self.model, users % len(self._owner), self.memory.count[users]
        history = self.memory.history(users, count, model.settings.window, self.anchor(count))
        column = self._columns(history.items.shape[1], count)
        last, new = history.tail(most), (slot[:, None], column[:, -most:])
        x, pairs = model.tokens(last), pairwise(last, history)
        for number, layer in enumerate(model.transducer.stack()):
            u, v, q, k = layer.project(x)
            self._keys[:, number].transpose(1, 2)[new] = k.transpose(1, 2)  # [B, most, H, d / H]
            self._values[:, number].transpose(1, 2)[new] = v.transpose(1, 2)
            keys = self._keys[slot[:, None], number, :, column].transpose(1, 2)  # [B, H, n, d / H]
            values = self._values[slot[:, None], number, :, column].transpose(1, 2)
            x = layer.attend(x, u, q, keys, values, *pairs)
        self._count[slot] = count
        self._provisional[slot] |= self._unadmitted(last)
        self._state[slot] = model.transducer.norm(x)[:, -1]
