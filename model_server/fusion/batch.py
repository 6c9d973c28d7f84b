"""What is known at the moment of ranking, for a batch of users, as flat tensors without padding."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from model_server.histories import WEEK_S, Histories

DAY_S = 86400.0
HOUR_S = 3600.0
LONG_S = 1e7
NO_ROW = -1
RECENT_PLACES = 24
CONTEXT = 10


@dataclass(frozen=True)
class Pairs:
    """Candidate (user, item) pairs: ``user`` indexes the batch, ``row`` the catalogue; both int64[pairs]."""

    user: Tensor
    row: Tensor


@dataclass(frozen=True)
class OwnEvents:
    """Every remembered event of every user of the batch, flat [events], oldest first within a user.

    ``pair`` indexes the own pairs. ``before_row`` is the event before (``NO_ROW``: none), ``before2_row`` the one before that;
    ``interval_s`` is the time since the event before and ``before_interval_s`` that one's own (``LONG_S``: none or longer).
    ``age_s`` counts back from the user's last event.
    """

    user: Tensor
    row: Tensor
    pair: Tensor
    time_s: Tensor
    week_s: Tensor
    was_new: Tensor
    age_s: Tensor
    before_row: Tensor
    before2_row: Tensor
    before_time_s: Tensor
    before_week_s: Tensor
    interval_s: Tensor
    before_interval_s: Tensor


@dataclass(frozen=True)
class UserBatch:
    """The context of each user, [users]: the last event, and the moment that is ranked for.

    ``now_s`` and ``now_week_s`` are the moment of the request, or of the last event where no time may be known
    (``timed`` False); ``gap_s`` is the time since the last event, 0 if it may not be known. ``known_events`` counts all
    events of the user up to here, remembered or not.
    """

    slots: Tensor
    timed: bool
    known_events: Tensor
    last_row: Tensor
    last_s: Tensor
    last_week_s: Tensor
    last_interval_s: Tensor
    before_row: Tensor
    now_s: Tensor
    now_week_s: Tensor
    gap_s: Tensor
    events: OwnEvents
    own: Pairs

    @cached_property
    def users(self) -> int:
        """How many they are."""
        return len(self.slots)

    @cached_property
    def time_context(self) -> Tensor:
        """The hour, the kind of day, the gap and the pace as float32 [users, CONTEXT]."""
        angle = self.now_week_s / DAY_S * 2 * math.pi
        events = torch.log(self.known_events.float())
        return torch.stack(
            (
                torch.cos(angle), torch.sin(angle), torch.cos(2 * angle), torch.sin(2 * angle),
                (self.now_week_s >= 5 * DAY_S).float(), torch.log(self.gap_s + 600) / 10 - 1,
                torch.log(self.last_interval_s + 600) / 10 - 1, events / 5,
                torch.cos(angle / 7), torch.sin(angle / 7),
            ),
            1,
        )  # fmt: skip

    @cached_property
    def home_row(self) -> Tensor:
        """The most visited row of each user, int64 [users]; of equals the one with the largest row."""
        own = self.own
        count = torch.zeros(len(own.row), device=own.row.device, dtype=torch.float64)
        count.index_add_(0, self.events.pair, torch.ones_like(self.events.time_s))
        top = torch.zeros(self.users, dtype=torch.float64, device=own.row.device)
        top = top.scatter_reduce(0, own.user, count, "amax")
        row = torch.where(count == top[own.user], own.row, 0)
        return torch.zeros(self.users, dtype=torch.long, device=own.row.device).scatter_reduce(0, own.user, row, "amax")

    @cached_property
    def recent_rows(self) -> Tensor:
        """The rows of each user's latest events, latest first, int64 [users, RECENT_PLACES], -1 where there are fewer."""
        e = self.events
        counts = torch.bincount(e.user, minlength=self.users)
        back = torch.arange(RECENT_PLACES, device=e.row.device)
        index = counts.cumsum(0)[:, None] - 1 - back
        return torch.where(back < counts[:, None], e.row[index.clamp(min=0)], NO_ROW)


def gather_users(
    histories: Histories, rows: int, slots: Tensor, before: Tensor | None = None, now_s: Tensor | None = None
) -> UserBatch:
    """The batch of these users as of their first ``before`` events (None: all), for the moment ``now_s`` (None: no time).

    Each must have an event that is still remembered at that point. ``rows`` is the number of catalogue rows. O(events).
    """
    total = histories.events[slots]
    before = total if before is None else before
    end = histories.length - (total - before)
    held = torch.minimum(before, end)
    if bool((held < 1).any()):
        raise ValueError("a user without a remembered event cannot be gathered")
    user = torch.repeat_interleave(torch.arange(len(slots), device=slots.device), held)
    stops = held.cumsum(0)
    index = torch.arange(len(user), device=slots.device) + (end - stops)[user]
    flat = slots[user] * histories.length + index
    row, time_s = histories.row.view(-1), histories.time_s.view(-1)
    week_s, was_new = histories.week_s.view(-1), histories.was_new.view(-1)
    at = (flat - 1).clamp(min=0)
    at2 = (flat - 2).clamp(min=0)
    flat_rows, flat_times = row[flat].long(), time_s[flat]
    before_row = torch.where(index >= 1, row[at].long(), NO_ROW)
    before2_row = torch.where((index >= 2) & (before_row >= 0), row[at2].long(), NO_ROW)
    before_time = time_s[at]
    interval = torch.where(before_row >= 0, flat_times - before_time, LONG_S).clamp(max=LONG_S).float()
    before_interval = torch.where(before2_row >= 0, before_time - time_s[at2], LONG_S).clamp(max=LONG_S).float()
    key, pair = torch.unique(user * rows + flat_rows, return_inverse=True)
    last = stops - 1
    last_s, last_week_s = flat_times[last], week_s[flat][last]
    now = last_s if now_s is None else torch.maximum(now_s, last_s)
    events = OwnEvents(
        user=user, row=flat_rows, pair=pair, time_s=flat_times, week_s=week_s[flat], was_new=was_new[flat],
        age_s=(last_s[user] - flat_times).float(), before_row=before_row, before2_row=before2_row,
        before_time_s=before_time, before_week_s=week_s[at], interval_s=interval, before_interval_s=before_interval,
    )  # fmt: skip
    return UserBatch(
        slots=slots, timed=now_s is not None, known_events=before, last_row=flat_rows[last], last_s=last_s,
        last_week_s=last_week_s, last_interval_s=interval[last], before_row=before_row[last], now_s=now,
        now_week_s=((last_week_s + (now - last_s)) % WEEK_S).float(), gap_s=(now - last_s).float(),
        events=events, own=Pairs(key // rows, key % rows),
    )  # fmt: skip


def padded(pairs: Pairs, users: int, fill: int) -> tuple[Tensor, Tensor]:
    """The rows of each user side by side, int64 [users, most], and the column of each pair; pairs are ordered by user.

    >>> pairs = Pairs(torch.tensor([0, 0, 1]), torch.tensor([7, 8, 9]))
    >>> [each.tolist() for each in padded(pairs, 2, NO_ROW)]
    [[[7, 8], [9, -1]], [0, 1, 0]]
    """
    counts = torch.bincount(pairs.user, minlength=users)
    column = torch.arange(len(pairs.user), device=pairs.user.device) - (counts.cumsum(0) - counts)[pairs.user]
    rows = torch.full((users, int(counts.max())), fill, dtype=torch.long, device=pairs.user.device)
    rows[pairs.user, column] = pairs.row
    return rows, column
