"""Experts on the user's own items: fixed-kernel attention over the user's own events.

Each kernel weighs every remembered event by how much its circumstances resemble the present ones; the weights of an item's
events, as a share of all, are compared with the item's usual share. A feature is the logarithm of that lift.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model_server.catalogue import Catalogue
from model_server.fusion.batch import DAY_S, HOUR_S, UserBatch
from model_server.histories import WEEK_S

NAMES = (
    "habit", "recency", "hour", "hour", "transition", "transition", "transition", "transition", "hour", "weekday",
    "interval", "weekday", "repeat", "interval", "interval", "interval", "interval", "distance", "distance", "distance",
    "distance", "popularity", "popularity", "habit",
)  # fmt: skip


@dataclass(frozen=True)
class ReturnFeatures:
    """Features of every own pair, float32 [pairs, len(NAMES)], and what the gate wants to know of them, [users]."""

    values: Tensor
    top_share: Tensor
    evidence: Tensor


def _gauss(distance: Tensor, sigma: float) -> Tensor:
    return torch.exp(-0.5 * (distance / sigma) ** 2)


def _circular(a: Tensor, b: Tensor, period: float) -> Tensor:
    distance = (a - b).abs() % period
    return torch.minimum(distance, period - distance)


def return_features(batch: UserBatch, catalogue: Catalogue) -> ReturnFeatures:
    """The prototype's features, for a whole batch. O(events + pairs)."""
    e, own = batch.events, batch.own
    pairs, users = len(own.row), batch.users
    age = (e.age_s / DAY_S).float()
    now_hour, last_hour = batch.now_week_s[e.user] / HOUR_S, batch.last_week_s[e.user] / HOUR_S
    hour, previous_hour = e.week_s / HOUR_S, e.previous_week_s / HOUR_S
    has_previous = e.previous_row >= 0

    def same_kind_of_day(a: Tensor, b: Tensor) -> Tensor:
        return torch.where((a >= 120) == (b >= 120), 1.0, 0.4)

    fading = torch.exp(-age / 60)
    by_previous_hour = _gauss(_circular(last_hour, previous_hour, 24), 1.5) * same_kind_of_day(previous_hour, last_hour)
    by_previous_hour = by_previous_hour * has_previous
    by_hour = _gauss(_circular(now_hour, hour, 24), 2.5)
    day_kind = same_kind_of_day(hour, now_hour)
    anchor = e.time_s if batch.timed else e.previous_time_s
    clock = (batch.now_s[e.user] - anchor).float()
    day_clock = _gauss(_circular(clock, torch.zeros_like(clock), DAY_S), 0.75 * HOUR_S)
    week_clock = _gauss(_circular(clock, torch.zeros_like(clock), WEEK_S), HOUR_S)
    interval = torch.where(has_previous, e.time_s - e.previous_time_s, 1e12).float()
    if batch.timed:
        like_gap = _gauss(torch.log(interval + 600) - torch.log(batch.gap_s[e.user] + 600), 0.8)
    else:
        like_gap = torch.exp(-interval / DAY_S)
    from_here = (e.previous_row == batch.last_row[e.user]) * fading
    context = by_hour if batch.timed else by_previous_hour
    nearby = torch.exp(-catalogue.distance_km(batch.last_row[e.user], e.previous_row.clamp(min=0)) / 2) * has_previous
    same_weekday = (hour / 24).floor() == (now_hour / 24).floor()
    kernels = torch.stack(
        (
            torch.ones_like(age), fading, torch.exp(-age / 3), by_hour * day_kind * fading, by_previous_hour * fading,
            from_here, from_here * context, from_here * day_clock, nearby * context * (like_gap if batch.timed else 1.0),
            day_clock * day_kind * fading, week_clock, like_gap * context * fading, by_hour * same_weekday,
        ),
        1,
    )  # fmt: skip
    shares = torch.zeros((pairs, kernels.shape[1]), device=age.device).index_add_(0, e.pair, kernels)
    totals = torch.zeros((users, kernels.shape[1]), device=age.device).index_add_(0, own.user, shares)[own.user]
    count, faded = shares[:, :1], shares[:, 1:2]
    base = 0.7 * faded / totals[:, 1:2] + 0.3 * count / totals[:, :1]
    lifts = torch.log((shares[:, 2:] + base) / (totals[:, 2:] + 1) / base)

    last_visit = torch.full((pairs,), -torch.inf, dtype=torch.float64, device=age.device)
    last_visit = last_visit.scatter_reduce(0, e.pair, e.time_s, "amax")
    idle_h = ((batch.now_s[own.user] - last_visit) / HOUR_S).float()
    km = catalogue.distance_km(batch.last_row[own.user], own.row)
    log_km, close = torch.log1p(km / 0.3), torch.exp(-km / 0.4)
    moving = torch.exp(-batch.gap_s[own.user] / HOUR_S) if batch.timed else torch.zeros_like(km)
    touches = catalogue.touches[own.row]
    now_bin = (batch.now_week_s[own.user] / HOUR_S).long() % 24
    at_hour = catalogue.hour_touches[own.row, now_bin]
    effects = (
        torch.log(base[:, 0] + 1e-3), *lifts.unbind(1), (own.row == batch.last_row[own.user]).float(),
        torch.exp(-idle_h / 2), torch.exp(-idle_h / 30), torch.exp(-idle_h / 96), torch.log1p(idle_h / 24),
        log_km, close, moving * log_km, moving * close, torch.log(touches + 1),
        torch.log((at_hour + 0.125) / (touches + 3) * 24), torch.log(count[:, 0]),
    )  # fmt: skip
    share = faded[:, 0] / totals[:, 1]
    top = torch.zeros(users, device=age.device).scatter_reduce(0, own.user, share, "amax")
    evidence = torch.zeros(users, device=age.device).index_add_(0, own.user, shares[:, 11])
    return ReturnFeatures(torch.stack(effects, 1), top, evidence)
