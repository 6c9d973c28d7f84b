"""Experts on the user's own items: attention over the user's own events, with fixed and with learned kernels.

A kernel weighs every remembered event by how much its circumstances resemble the present ones; the weights of an item's
events, as a share of all, are compared with the item's usual share. A feature is the logarithm of that lift.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model_server.catalogue import Catalogue
from model_server.fusion.batch import DAY_S, HOUR_S, UserBatch
from model_server.histories import WEEK_S

KERNELS = (
    "recency", "hour", "hour", "transition", "transition", "transition", "transition", "hour", "weekday", "interval",
    "weekday",
)  # fmt: skip
EFFECTS = (
    "repeat", "interval", "interval", "interval", "interval", "distance", "distance", "distance", "distance", "habit",
    "category", "category", "today", "today",
)  # fmt: skip
NAMES = ("habit", *KERNELS, *EFFECTS)
FEATURES = len(NAMES)
CIRCUMSTANCES = (
    "recency", "recency", "recency", "recency", "transition", "transition", "transition", "transition", "category",
    "distance", "distance", "hour", "hour", "hour", "weekday", "weekday", "interval", "interval", "interval", "interval",
    "repeat", "transition",
)  # fmt: skip
TIMED_CIRCUMSTANCES = (
    *CIRCUMSTANCES, "hour", "hour", "hour", "weekday", "weekday", "hour", "interval", "interval", "interval",
)  # fmt: skip
USER_FEATURES = 8


@dataclass(frozen=True)
class ReturnFeatures:
    """What the return experts say of a batch.

    ``values`` float32 [pairs, len(NAMES)] are features of every own pair, ``base`` [pairs] the item's usual share,
    ``circumstances`` [events, ...] compare each remembered event with the present for the learned kernels, and
    ``of_user`` [users, USER_FEATURES] describes how regular the user is.
    """

    values: Tensor
    base: Tensor
    circumstances: Tensor
    of_user: Tensor


def circumstances(timed: bool) -> tuple[str, ...]:
    """Which expert each comparison of an event with the present belongs to."""
    return TIMED_CIRCUMSTANCES if timed else CIRCUMSTANCES


def _gauss(distance: Tensor, sigma: float) -> Tensor:
    return torch.exp(-0.5 * (distance / sigma) ** 2)


def _circular(a: Tensor, b: Tensor, period: float) -> Tensor:
    distance = (a - b).abs() % period
    return torch.minimum(distance, period - distance)


def _log_gap(seconds: Tensor) -> Tensor:
    return torch.log(seconds + 600.0)


def return_features(batch: UserBatch, catalogue: Catalogue) -> ReturnFeatures:
    """Features of all own pairs of a batch. O(events + pairs)."""
    e, own = batch.events, batch.own
    pairs, users, device = len(own.row), batch.users, e.age_s.device
    age = e.age_s / DAY_S
    now_h, last_h = (batch.now_week_s / HOUR_S)[e.user], (batch.last_week_s / HOUR_S)[e.user]
    hour, before_h = e.week_s / HOUR_S, e.before_week_s / HOUR_S
    led = (e.before_row >= 0).float()
    weekend, now_weekend = (hour >= 120).float(), (now_h >= 120).float()
    same_kind = (weekend == now_weekend).float()
    before_same_kind = ((before_h >= 120) == (last_h >= 120)).float()
    same_day = (torch.floor(hour / 24) == torch.floor(now_h / 24)).float()
    hour_gap = _circular(now_h, hour, 24)
    before_hour_gap = _circular(last_h, before_h, 24)
    from_here = (e.before_row == batch.last_row[e.user]).float()
    km = catalogue.distance_km(batch.last_row[e.user], e.before_row.clamp(min=0))
    gap = batch.gap_s[e.user]

    fading = torch.exp(-age / 60)
    by_before_hour = _gauss(before_hour_gap, 1.5) * (0.4 + 0.6 * before_same_kind) * led
    by_hour = _gauss(hour_gap, 2.5)
    kind = 0.4 + 0.6 * same_kind
    clock = (batch.now_s[e.user] - (e.time_s if batch.timed else e.before_time_s)).float()
    zero = torch.zeros_like(clock)
    day_clock = _gauss(_circular(clock, zero, DAY_S), 0.75 * HOUR_S)
    week_clock = _gauss(_circular(clock, zero, WEEK_S), HOUR_S)
    like_gap = _gauss(_log_gap(e.interval_s) - _log_gap(gap), 0.8) if batch.timed else torch.exp(-e.interval_s / DAY_S)
    context = by_hour if batch.timed else by_before_hour
    led_here = from_here * fading
    nearby = torch.exp(-km / 2) * led
    kernels = torch.stack(
        (
            torch.ones_like(age), fading, torch.exp(-age / 3), by_hour * kind * fading, by_before_hour * fading,
            led_here, led_here * context, led_here * day_clock, nearby * context * (like_gap if batch.timed else 1.0),
            day_clock * kind * fading, week_clock, like_gap * context * fading, by_hour * same_day,
        ),
        1,
    )  # fmt: skip
    shares = torch.zeros((pairs, kernels.shape[1]), device=device).index_add_(0, e.pair, kernels)
    totals = torch.zeros((users, kernels.shape[1]), device=device).index_add_(0, e.user, kernels)
    of_pair = totals[own.user]
    count, faded = shares[:, :1], shares[:, 1:2]
    base = 0.7 * faded / of_pair[:, 1:2].clamp(min=1e-30) + 0.3 * count / of_pair[:, :1]
    lifts = torch.log((shares[:, 2:] + base) / (of_pair[:, 2:] + 1) / base)

    today = ((torch.floor((last_h - hour) / 24) == 0) & (age < 1)).float()
    visits_today = torch.zeros(pairs, device=device).index_add_(0, e.pair, today)
    last_visit = torch.full((pairs,), -torch.inf, dtype=torch.float64, device=device)
    last_visit = last_visit.scatter_reduce(0, e.pair, e.time_s, "amax")
    idle_h = ((batch.now_s[own.user] - last_visit) / HOUR_S).float()
    away = catalogue.distance_km(batch.last_row[own.user], own.row)
    log_km, close = torch.log1p(away / 0.3), torch.exp(-away / 0.4)
    moving = torch.exp(-batch.gap_s[own.user] / HOUR_S) if batch.timed else torch.zeros_like(away)
    repeat = (own.row == batch.last_row[own.user]).float()
    same_category = (catalogue.category[own.row] == catalogue.category[batch.last_row[own.user]]).float()
    values = torch.stack(
        (
            torch.log(base[:, 0] + 1e-3), *lifts.unbind(1), repeat, torch.exp(-idle_h / 2), torch.exp(-idle_h / 30),
            torch.exp(-idle_h / 96), torch.log1p(idle_h / 24), log_km, close, moving * log_km, moving * close,
            torch.log(count[:, 0]), same_category, same_category * (1 - repeat), torch.log1p(visits_today),
            (visits_today > 0).float(),
        ),
        1,
    )  # fmt: skip

    last_interval, has2 = batch.last_interval_s[e.user], (e.before2_row >= 0).float()
    same_before2 = (e.before2_row == batch.before_row[e.user]).float() * led
    compared = [
        torch.log1p(age), torch.exp(-age), torch.exp(-age / 7), torch.exp(-age / 40), led, from_here,
        from_here * same_before2, same_before2,
        (catalogue.category[e.before_row.clamp(min=0)] == catalogue.category[batch.last_row[e.user]]).float() * led,
        torch.exp(-km / 0.3) * led, nearby, _gauss(before_hour_gap, 0.75) * led, _gauss(before_hour_gap, 2.0) * led,
        _gauss(before_hour_gap, 5.0) * led, before_same_kind * led,
        (torch.floor(last_h / 24) == torch.floor(before_h / 24)).float() * led,
        _gauss(_log_gap(e.before_interval_s) - _log_gap(last_interval), 0.8) * has2,
        _log_gap(e.interval_s) / 10 - 1, torch.exp(-e.interval_s / DAY_S), torch.exp(-e.interval_s / (3 * HOUR_S)),
        (e.row == batch.last_row[e.user]).float(), (e.row == batch.before_row[e.user]).float(),
    ]  # fmt: skip
    if batch.timed:
        gap_difference = _log_gap(e.interval_s) - _log_gap(gap)
        compared += [
            _gauss(hour_gap, 0.5), _gauss(hour_gap, 1.5), _gauss(hour_gap, 4.0), same_kind, same_day,
            _gauss(_circular(now_h, hour, 168), 1.0), _gauss(gap_difference, 0.3), _gauss(gap_difference, 1.0),
            _log_gap(gap) / 10 - 1,
        ]  # fmt: skip

    share = faded[:, 0] / of_pair[:, 1].clamp(min=1e-30)
    top = torch.zeros(users, device=device).scatter_reduce(0, own.user, share, "amax")
    new = e.was_new.float()
    recently = torch.exp(-age / 3)
    of_event = torch.stack((torch.ones_like(new), new, recently, recently * new, today), 1)
    of_user = torch.zeros((users, 5), device=device).index_add_(0, e.user, of_event)
    stops = torch.cumsum(of_user[:, 0], 0).long() - 1
    found = torch.log((of_user[:, 1] + 0.5) / (of_user[:, 0] - of_user[:, 1] + 1.5))
    described = torch.stack(
        (
            found, torch.log((of_user[:, 3] + 0.5) / (of_user[:, 2] - of_user[:, 3] + 1.0)), new[stops], 2 * top,
            torch.log(totals[:, 11] + 0.1) / 2, torch.log(of_user[:, 0]) / 5, torch.log1p(of_user[:, 1]) / 3,
            torch.log1p(of_user[:, 4]) / 2,
        ),
        1,
    )  # fmt: skip
    return ReturnFeatures(values, base[:, 0], torch.stack(compared, 1), described)
