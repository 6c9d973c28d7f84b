"""Which categories a user likes, on a CPU: one pass over each user's events in place of a chain over everybody's.

``model_server.fusion.exploring.category_lifts`` says what the lifts are; these are the same to the rounding of float32.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from model_server.catalogue import Catalogue
from model_server.fusion.batch import HOUR_S, UserBatch, gather_users
from model_server.fusion.one_visit import one_visit
from model_server.visits import DAY_PARTS, VisitCounts

Array = npt.NDArray[Any]
F = np.float32

# Every constant is float32: one float64 among them would turn the whole expression into float64.
ZERO, HALF, ONE, THREE, FIVE, DAY_H, WIDTH_H, HOURS = F(0), F(0.5), F(1), F(3), F(5), F(24), F(2.5), F(HOUR_S)


class _Events(NamedTuple):
    """The own events, in the order of their users, as arrays: whose, of which category, when in the week."""

    user: Array
    kind: Array
    week_s: Array


def category_lifts_on_cpu(batch: UserBatch, catalogue: Catalogue, visits: VisitCounts, hour: Array) -> Array:
    """``category_lifts`` side by side, float32 [users, categories, 3]; ``hour`` int64 [users]. O(events + users x categories).

    Raises IndexError for a category that is not in the catalogue.
    """
    kinds, e = len(catalogue.category_names), batch.events
    visits.reserve(0, kinds)
    lifts = np.empty((batch.users, kinds, 3), F)
    events = _Events(e.user.numpy(), catalogue.category.numpy()[e.row.numpy()], e.week_s.numpy())
    counts = visits.category_visitors[:kinds].numpy(), visits.category_hours[:kinds].numpy()
    _fill(events, batch.now_week_s.numpy(), hour, *counts, lifts)
    return lifts


def warm_up() -> None:
    """Compile the kernel, or read it from numba's cache, so that no user's batch waits for it."""
    catalogue, histories, slots = one_visit()
    category_lifts_on_cpu(
        gather_users(histories, 1, slots), catalogue, VisitCounts(slots.device), np.zeros(1, np.int64)
    )


@njit(cache=True, error_model="numpy")
def _fill(events: Any, now_week_s: Array, hours: Array, visitors: Array, by_hour: Array, lifts: Array) -> None:
    kinds, n = len(visitors), 0
    share, usual, at_hour = (
        np.empty(kinds, np.float32),
        np.empty(kinds, np.float32),
        np.empty((DAY_PARTS, kinds), np.float32),
    )
    made = np.zeros(DAY_PARTS, np.bool_)
    _take_shares(visitors, by_hour, share, usual)
    own, now = np.empty(kinds, np.float32), np.empty(kinds, np.float32)
    for u in range(len(lifts)):
        own[:], now[:] = ZERO, ZERO
        events_own, events_now = ZERO, ZERO
        while n < len(events.user) and events.user[n] == u:
            if events.kind[n] >= kinds:
                raise IndexError("an event's category is not in the catalogue")
            gap_h = abs(events.week_s[n] / HOURS - now_week_s[u] / HOURS) % DAY_H
            z = min(gap_h, DAY_H - gap_h) / WIDTH_H
            near = math.exp(-HALF * (z * z))
            own[events.kind[n]] += ONE
            now[events.kind[n]] += near
            events_own += ONE
            events_now += near
            n += 1
        if not made[hours[u]]:
            made[hours[u]] = True
            _lift_hour(by_hour[:, hours[u]], usual, at_hour[hours[u]])
        for k in range(kinds):
            taste = (own[k] + FIVE * share[k]) / (events_own + FIVE) / share[k]
            lifts[u, k, 0] = math.log(taste)
            lifts[u, k, 1] = math.log((now[k] + THREE * taste * share[k]) / (events_now + THREE) / share[k])
            lifts[u, k, 2] = at_hour[hours[u], k]


@njit(cache=True, error_model="numpy")
def _take_shares(visitors: Array, by_hour: Array, share: Array, usual: Array) -> None:
    """Write each category's part of all first visits, and of all visits."""
    for k in range(len(share)):
        share[k], usual[k] = visitors[k] + HALF, by_hour[k].sum() + HALF
    share /= share.sum()
    usual /= usual.sum()


@njit(cache=True, error_model="numpy")
def _lift_hour(here: Array, usual: Array, out: Array) -> None:
    total = here.sum()
    for k in range(len(out)):
        out[k] = math.log((here[k] + FIVE * usual[k]) / (total + FIVE) / usual[k])
