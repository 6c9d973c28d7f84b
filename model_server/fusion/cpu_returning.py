"""The return features on a CPU: one pass over the events and one over the pairs in place of a chain of some 340 operations.

``model_server.fusion.returning`` says what the features are; these are the same to the rounding of float32. A batch of a
few users with short histories, which is what a server ranks, spends in the chain little but the cost of calling it.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numba import njit

from model_server.catalogue import EARTH_RADIUS_KM, Catalogue
from model_server.fusion.batch import DAY_S, HOUR_S, UserBatch, gather_users
from model_server.fusion.one_visit import one_visit
from model_server.fusion.returning import FEATURES, KERNELS, USER_FEATURES, ReturnFeatures, circumstances
from model_server.histories import WEEK_S

Array = npt.NDArray[Any]
F = np.float32

# Every constant is float32: one float64 among them would turn the whole expression into float64.
ZERO, HALF, ONE, TWO = F(0), F(0.5), F(1), F(2)
HOURS, DAYS, WEEKS, DAY_H, WEEK_H, WEEKEND_H = F(HOUR_S), F(DAY_S), F(WEEK_S), F(24), F(168), F(120)
OTHER_KIND, SAME_KIND = F(0.4), F(0.4 + 0.6)
LOG_OFFSET_S, LOG_SCALE = F(600), F(10)
DIAMETER_KM, STREET_KM, BLOCK_KM = F(2 * EARTH_RADIUS_KM), F(0.3), F(0.4)
TINY, RARE = F(1e-30), F(1e-3)
OF_EVENTS = 5  # columns of what is counted per user: events, first visits, both lately, events today
EVENTS, NEW, LATELY, NEW_LATELY, TODAY = range(OF_EVENTS)


class _Users(NamedTuple):
    """The context of each user, as arrays."""

    last_row: Array
    before_row: Array
    last_week_s: Array
    last_interval_s: Array
    now_s: Array
    now_week_s: Array
    gap_s: Array


class _Events(NamedTuple):
    """The own events, as arrays."""

    user: Array
    row: Array
    pair: Array
    time_s: Array
    week_s: Array
    was_new: Array
    age_s: Array
    before_row: Array
    before2_row: Array
    before_time_s: Array
    before_week_s: Array
    interval_s: Array
    before_interval_s: Array


class _Rows(NamedTuple):
    """Where the catalogue's rows are and of which kind, as arrays."""

    position: Array
    has_place: Array
    category: Array


def return_features_on_cpu(batch: UserBatch, catalogue: Catalogue) -> ReturnFeatures:
    """What ``return_features`` gives, of tensors on the CPU. O(events + pairs).

    Raises IndexError for a row that is not in the catalogue.
    """
    own, users, rows = batch.own, batch.users, len(catalogue)
    for named in (batch.last_row, own.row, batch.events.row):
        if int(named.max()) >= rows:
            raise IndexError("an event's item is not in the catalogue")
    context = _Users(*(getattr(batch, name).numpy() for name in _Users._fields))
    events = _Events(*(getattr(batch.events, name).numpy() for name in _Events._fields))
    places = _Rows(catalogue.position.numpy(), catalogue.has_place.numpy(), catalogue.category.numpy())
    pairs = len(own.row)
    compared = np.zeros((len(events.user), len(circumstances(batch.timed))), F)
    shares, totals = np.zeros((pairs, 2 + len(KERNELS)), F), np.zeros((users, 2 + len(KERNELS)), F)
    counts, last_visit_s, today = np.zeros((users, OF_EVENTS), F), np.full(pairs, -np.inf), np.zeros(pairs, F)
    _of_events(events, context, places, batch.timed, compared, shares, totals, counts, last_visit_s, today)
    values, base, of_user = np.empty((pairs, FEATURES), F), np.empty(pairs, F), np.zeros((users, USER_FEATURES), F)
    _of_pairs(
        own.user.numpy(), own.row.numpy(), context, places, batch.timed, shares, totals, last_visit_s, today, values,
        base, of_user,
    )  # fmt: skip
    _of_users(events.user, events.was_new, counts, totals, of_user)
    return ReturnFeatures(*map(torch.from_numpy, (values, base, compared, of_user)))


def warm_up() -> None:
    """Compile the kernels, or read them from numba's cache, so that no user's batch waits for it."""
    catalogue, histories, slots = one_visit()
    for now_s in (None, torch.zeros(1).double()):
        return_features_on_cpu(gather_users(histories, 1, slots, now_s=now_s), catalogue)


@njit(cache=True, error_model="numpy", inline="always")
def _gauss(distance: Any, sigma: Any) -> Any:
    z = distance / F(sigma)
    return math.exp(-HALF * (z * z))


@njit(cache=True, error_model="numpy", inline="always")
def _circular(a: Any, b: Any, period: Any) -> Any:
    distance = abs(a - b) % period
    return min(distance, period - distance)


@njit(cache=True, error_model="numpy", inline="always")
def _log_gap(seconds: Any) -> Any:
    return math.log(seconds + LOG_OFFSET_S)


@njit(cache=True, error_model="numpy", inline="always")
def _km(places: Any, a: Any, b: Any) -> Any:
    """The great-circle distance of two rows, 0 where a place is unknown."""
    if not (places.has_place[a] and places.has_place[b]):
        return ZERO
    x = places.position[a, 0] - places.position[b, 0]
    y = places.position[a, 1] - places.position[b, 1]
    z = places.position[a, 2] - places.position[b, 2]
    return DIAMETER_KM * math.asin(min(math.sqrt(x * x + y * y + z * z) / TWO, ONE))


@njit(cache=True, error_model="numpy")
def _of_events(
    events: Any, users: Any, places: Any, timed: bool, compared: Array, shares: Array, totals: Array, counts: Array,
    last_visit_s: Array, today: Array,
) -> None:  # fmt: skip
    """Compare every event with the present, and add up what the kernels weigh it by pair and by user."""
    weight = np.empty(shares.shape[1], np.float32)
    for n in range(len(events.user)):
        u, pair, out = events.user[n], events.pair[n], compared[n]
        age, interval_s = events.age_s[n] / DAYS, events.interval_s[n]
        hour, last_h, now_h = events.week_s[n] / HOURS, users.last_week_s[u] / HOURS, users.now_week_s[u] / HOURS
        fading, lately = math.exp(-age / F(60)), math.exp(-age / F(3))
        same_kind = (hour >= WEEKEND_H) == (now_h >= WEEKEND_H)
        same_day = math.floor(hour / DAY_H) == math.floor(now_h / DAY_H)
        hour_gap = _circular(now_h, hour, DAY_H)
        by_hour, kind = _gauss(hour_gap, 2.5), SAME_KIND if same_kind else OTHER_KIND
        clock = F(abs(users.now_s[u] - (events.time_s[n] if timed else events.before_time_s[n])))
        day_clock = _gauss(_circular(clock, ZERO, DAYS), 0.75 * HOUR_S)
        week_clock = _gauss(_circular(clock, ZERO, WEEKS), HOUR_S)
        by_before_hour, from_here = ZERO, ZERO
        nearby: Any = ZERO
        before, last = events.before_row[n], users.last_row[u]
        if before >= 0:
            before_h = events.before_week_s[n] / HOURS
            before_same_kind = (before_h >= WEEKEND_H) == (last_h >= WEEKEND_H)
            before_hour_gap = _circular(last_h, before_h, DAY_H)
            by_before_hour = _gauss(before_hour_gap, 1.5) * (SAME_KIND if before_same_kind else OTHER_KIND)
            km, from_here = _km(places, last, before), F(before == last)
            nearby = math.exp(-km / TWO)
            same_before2 = F(events.before2_row[n] == users.before_row[u])
            out[4], out[5], out[6], out[7] = ONE, from_here, from_here * same_before2, same_before2
            out[8] = F(places.category[before] == places.category[last])
            out[9], out[10] = math.exp(-km / STREET_KM), nearby
            out[11], out[12] = _gauss(before_hour_gap, 0.75), _gauss(before_hour_gap, 2.0)
            out[13], out[14] = _gauss(before_hour_gap, 5.0), F(before_same_kind)
            out[15] = F(math.floor(last_h / DAY_H) == math.floor(before_h / DAY_H))
        log_interval, log_gap = _log_gap(interval_s), _log_gap(users.gap_s[u])
        within_a_day = math.exp(-interval_s / DAYS)
        like_gap = _gauss(log_interval - log_gap, 0.8) if timed else within_a_day
        context = by_hour if timed else by_before_hour
        led_here = from_here * fading

        weight[0], weight[1], weight[2] = ONE, fading, lately
        weight[3], weight[4] = by_hour * kind * fading, by_before_hour * fading
        weight[5], weight[6], weight[7] = led_here, led_here * context, led_here * day_clock
        weight[8] = nearby * context * (like_gap if timed else ONE)
        weight[9], weight[10] = day_clock * kind * fading, week_clock
        weight[11], weight[12] = like_gap * context * fading, by_hour * F(same_day)
        for k in range(len(weight)):
            shares[pair, k] += weight[k]
            totals[u, k] += weight[k]

        out[0], out[1] = math.log1p(age), math.exp(-age)
        out[2], out[3] = math.exp(-age / F(7)), math.exp(-age / F(40))
        if events.before2_row[n] >= 0:
            out[16] = _gauss(_log_gap(events.before_interval_s[n]) - _log_gap(users.last_interval_s[u]), 0.8)
        out[17], out[18] = log_interval / LOG_SCALE - ONE, within_a_day
        out[19] = math.exp(-interval_s / (F(3) * HOURS))
        out[20], out[21] = F(events.row[n] == last), F(events.row[n] == users.before_row[u])
        if timed:
            out[22], out[23], out[24] = _gauss(hour_gap, 0.5), _gauss(hour_gap, 1.5), _gauss(hour_gap, 4.0)
            out[25], out[26] = F(same_kind), F(same_day)
            out[27] = _gauss(_circular(now_h, hour, WEEK_H), 1.0)
            out[28], out[29] = _gauss(log_interval - log_gap, 0.3), _gauss(log_interval - log_gap, 1.0)
            out[30] = log_gap / LOG_SCALE - ONE

        new = F(events.was_new[n])
        counts[u, EVENTS] += ONE
        counts[u, NEW] += new
        counts[u, LATELY] += lately
        counts[u, NEW_LATELY] += lately * new
        if age < ONE and math.floor((last_h - hour) / DAY_H) == ZERO:
            counts[u, TODAY] += ONE
            today[pair] += ONE
        last_visit_s[pair] = max(last_visit_s[pair], events.time_s[n])


@njit(cache=True, error_model="numpy")
def _of_pairs(
    own_user: Array, own_row: Array, users: Any, places: Any, timed: bool, shares: Array, totals: Array,
    last_visit_s: Array, today: Array, values: Array, base: Array, of_user: Array,
) -> None:  # fmt: skip
    """Write the features of every pair, and per user twice the greatest share (column 3 of ``of_user``)."""
    for p in range(len(own_user)):
        u, row, out = own_user[p], own_row[p], values[p]
        last = users.last_row[u]
        count, share = shares[p, 0], shares[p, 1] / max(totals[u, 1], TINY)
        usual = base[p] = F(0.7) * shares[p, 1] / max(totals[u, 1], TINY) + F(0.3) * count / totals[u, 0]
        of_user[u, 3] = max(of_user[u, 3], TWO * share)
        out[0] = math.log(usual + RARE)
        for k in range(2, shares.shape[1]):
            out[k - 1] = math.log((shares[p, k] + usual) / (totals[u, k] + ONE) / usual)
        idle_h = F((users.now_s[u] - last_visit_s[p]) / HOUR_S)
        km = _km(places, last, row)
        log_km, close = math.log1p(km / STREET_KM), math.exp(-km / BLOCK_KM)
        moving = math.exp(-users.gap_s[u] / HOURS) if timed else ZERO
        repeat, same_category = F(row == last), F(places.category[row] == places.category[last])
        first = shares.shape[1] - 1
        out[first], out[first + 1] = repeat, math.exp(-idle_h / TWO)
        out[first + 2], out[first + 3] = math.exp(-idle_h / F(30)), math.exp(-idle_h / F(96))
        out[first + 4], out[first + 5], out[first + 6] = math.log1p(idle_h / DAY_H), log_km, close
        out[first + 7], out[first + 8], out[first + 9] = moving * log_km, moving * close, math.log(count)
        out[first + 10], out[first + 11] = same_category, same_category * (ONE - repeat)
        out[first + 12], out[first + 13] = math.log1p(today[p]), F(today[p] > ZERO)


@njit(cache=True, error_model="numpy")
def _of_users(user: Array, was_new: Array, counts: Array, totals: Array, of_user: Array) -> None:
    """Write how regular each user is; column 3 is filled already."""
    for n in range(len(user)):
        of_user[user[n], 2] = F(was_new[n])  # the last event's stays
    for u in range(len(counts)):
        events, new, lately, new_lately = counts[u, EVENTS], counts[u, NEW], counts[u, LATELY], counts[u, NEW_LATELY]
        of_user[u, 0] = math.log((new + HALF) / (events - new + F(1.5)))
        of_user[u, 1] = math.log((new_lately + HALF) / (lately - new_lately + ONE))
        of_user[u, 4] = math.log(totals[u, 11] + F(0.1)) / TWO
        of_user[u, 5] = math.log(events) / F(5)
        of_user[u, 6], of_user[u, 7] = math.log1p(new) / F(3), math.log1p(counts[u, TODAY]) / TWO
