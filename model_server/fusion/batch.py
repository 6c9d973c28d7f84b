"""What is known at the moment of ranking, for a batch of users, as flat tensors without padding."""

from dataclasses import dataclass

import torch
from torch import Tensor

from model_server.catalogue import Catalogue
from model_server.histories import WEEK_S, Histories

DAY_S = 86400.0
HOUR_S = 3600.0


@dataclass(frozen=True)
class Pairs:
    """Candidate (user, item) pairs: ``user`` indexes the batch, ``row`` the catalogue; both int64[pairs]."""

    user: Tensor
    row: Tensor


@dataclass(frozen=True)
class OwnEvents:
    """Every remembered event of every user of the batch, flat [events], oldest first within a user.

    ``pair`` indexes the own pairs; ``previous_*`` is the event before (row -1 where there is none, and then its times
    are of no meaning); ``age_s`` counts back from the user's last event.
    """

    user: Tensor
    row: Tensor
    pair: Tensor
    time_s: Tensor
    week_s: Tensor
    age_s: Tensor
    previous_row: Tensor
    previous_time_s: Tensor
    previous_week_s: Tensor


@dataclass(frozen=True)
class UserBatch:
    """The context of each user, [users]: the last event, and the moment that is ranked for.

    ``now_s`` and ``now_week_s`` are the moment of the request, or of the last event where no time may be known
    (``timed`` False); ``gap_s`` is the time since the last event, 0 if it may not be known.
    """

    slots: Tensor
    timed: bool
    last_row: Tensor
    last_s: Tensor
    last_week_s: Tensor
    now_s: Tensor
    now_week_s: Tensor
    gap_s: Tensor
    events: OwnEvents
    own: Pairs

    @property
    def users(self) -> int:
        return len(self.slots)


def gather_users(histories: Histories, catalogue: Catalogue, slots: Tensor, now_s: Tensor | None) -> UserBatch:
    """The batch of these users (each with at least one event), as of their last event or as of ``now_s``."""
    held = histories.events[slots].clamp(max=histories.length)
    window = int(held.max())
    rows = histories.row[slots, -window:].long()
    held_mask = torch.arange(window, device=slots.device) >= window - held[:, None]
    times, weeks = histories.time_s[slots, -window:], histories.week_s[slots, -window:]
    user = held_mask.nonzero()[:, 0]

    def earlier(buffer: Tensor, none: float) -> Tensor:
        shifted = torch.cat((torch.full_like(buffer[:, :1], none), buffer[:, :-1]), 1)
        return shifted[held_mask]

    flat_rows = rows[held_mask]
    key, pair = torch.unique(user * len(catalogue) + flat_rows, return_inverse=True)
    own = Pairs(key // len(catalogue), key % len(catalogue))
    last_s, last_week_s = times[:, -1], weeks[:, -1]
    events = OwnEvents(
        user=user,
        row=flat_rows,
        pair=pair,
        time_s=times[held_mask],
        week_s=weeks[held_mask],
        age_s=last_s[user] - times[held_mask],
        previous_row=earlier(rows, -1),
        previous_time_s=earlier(times, 0.0),
        previous_week_s=earlier(weeks, 0.0),
    )
    now = last_s if now_s is None else torch.maximum(now_s, last_s)
    return UserBatch(
        slots=slots,
        timed=now_s is not None,
        last_row=rows[:, -1],
        last_s=last_s,
        last_week_s=last_week_s,
        now_s=now,
        now_week_s=((last_week_s + (now - last_s)) % WEEK_S).float(),
        gap_s=(now - last_s).float(),
        events=events,
        own=own,
    )
