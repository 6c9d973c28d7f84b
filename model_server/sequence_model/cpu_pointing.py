"""The kernel behind ``cpu_answering``: one pass over each user's events, and one over the items that they name."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from model_server.cpu_math import dot
from model_server.sequence_model import relations as rel
from model_server.sequence_model.cpu_relations import (
    FOLLOW_HIGH_S,
    FOLLOW_LOW_S,
    age_bucket,
    clock_bucket,
    distance_bucket,
    distance_km,
    is_weekend,
    local_solar_s,
    log_bucket,
    shrink_of,
    wait_bucket,
    week_bucket,
)
from model_server.sequence_model.memory import DAY_S

Array = npt.NDArray[Any]
F = np.float32

# Every constant is float32: one float64 among them would turn the whole expression into float64.
ZERO, HALF, ONE, THREE, FOUR, FIVE = F(0), F(0.5), F(1), F(3), F(4), F(5)
NEVER, RARE, TINY, FEW, STREET_KM, LONG_AGO = F(-1e9), F(0.01), F(1e-6), F(0.3), F(0.3), F(0.9)
MOST_CERTAIN, ALL_BUT_HALF = F(0.99), F(1.5)
CIRCLE, GAP_OFFSET_S, WAIT_OFFSET_H = 2 * math.pi / DAY_S, 600.0, 0.2
DIRECT = ("age", "distance", "count", "age_at_request", "distance_by_wait")
OTHER_FEATURES = 6  # of an own item, beside one per pointer


class Heads(NamedTuple):
    """The weights of one mode's heads, as arrays; tables by bucket, in the order of ``relations`` and of ``DIRECT``.

    Of heads that know no time the tables that ask for one are empty.
    """

    standing: tuple[Array, ...]
    requested: tuple[Array, ...]
    direct: tuple[Array, ...]
    shared: Array
    mix: tuple[Array, ...]  # weight and bias of the hidden layer, then of the other
    near: Array
    popularity: Array
    gate: Array
    gate_bias: Array
    gate_mix: tuple[Array, ...]


class Asked(NamedTuple):
    """Who is asked about, [B]: their events before which, query vectors [B, d], and the times (nothing if they are unknown)."""

    users: Array
    before: Array
    query: Array
    time_s: Array


class _Visits(NamedTuple):
    """Room for one user's events, oldest first, [n], and own items, [m]."""

    slot: Array
    column: Array
    distance: Array
    distance_by_wait: Array
    score: Array
    first: Array
    last: Array
    times: Array
    share: Array


@njit(cache=True, nogil=True, error_model="numpy")
def answer_all(
    asked: Any, memory: Any, items: Any, heads: Any, personal: Array, rows: Array, returns: Array, gates: Array
) -> int:
    """Write the own ``rows`` [B, n], ascending and -1 behind them, the logits of returning to them, ``NEVER`` behind, and the
    logits of exploring, 0 of whom nothing is remembered; how many own items one has at most. The width n is the most events that
    count.
    """
    most, pointers, widest = rows.shape[1], heads.standing[0].shape[1], 0
    visits = _Visits(
        np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64),
        np.empty((most, pointers), np.float32), np.empty(most, np.int64), np.empty(most, np.int64),
        np.empty(most, np.float32), np.empty((most, pointers), np.float32),
    )  # fmt: skip
    features = np.empty(pointers + OTHER_FEATURES, np.float32)
    for b in range(len(rows)):
        user, length = asked.users[b], memory.items.shape[1]
        if user >= len(personal):
            raise IndexError("a user is not in the user table")
        oldest = max(memory.events[user] - length, 0)
        start = max(asked.before[b] - most, oldest)
        n = max(asked.before[b] - start, 0)
        for i in range(n):
            visits.slot[i] = (start + i) % length
        rows[b], returns[b], gates[b] = -1, NEVER, ZERO
        own = _group(memory.items[user], n, visits, rows[b])
        if n:
            query_s = asked.time_s[b] if len(asked.time_s) else 0.0
            _relate(user, n, start > oldest, query_s, memory, heads, visits)
            _share(n, own, visits)
            _weigh(
                user, n, own, query_s, asked.query[b], memory, items, heads, personal[user], visits, rows[b], features,
                returns[b],
            )  # fmt: skip
            gates[b] = _explore(user, n, own, query_s, memory, heads, visits, returns[b])
        widest = max(widest, own)
    return widest


@njit(cache=True, error_model="numpy")
def _group(items: Array, n: int, visits: Any, rows: Array) -> int:
    """Write the distinct items of the events, ascending, and where each comes first, last and how often; how many."""
    own = 0
    for i in range(n):
        row = items[visits.slot[i]]
        at = np.searchsorted(rows[:own], row)
        if at == own or rows[at] != row:
            for k in range(own, at, -1):
                rows[k] = rows[k - 1]
            rows[at] = row
            own += 1
    visits.times[:own] = ZERO
    for i in range(n):
        at = np.searchsorted(rows[:own], items[visits.slot[i]])
        if visits.times[at] == ZERO:
            visits.first[at] = i
        visits.column[i], visits.last[at] = at, i
        visits.times[at] += ONE
    return own


@njit(cache=True, error_model="numpy")
def _relate(user: int, n: int, led: bool, query_s: Any, memory: Any, heads: Any, visits: Any) -> None:
    """Write each event's score by each pointer; ``led`` says whether the event before the first one is known."""
    items, time_s, lat, lon = memory.items[user], memory.time_s[user], memory.lat[user], memory.lon[user]
    length, end = len(items), visits.slot[n - 1]
    last_s, last_item, last_lat, last_lon = time_s[end], items[end], lat[end], lon[end]
    last_local, shrink = local_solar_s(last_s, last_lon), shrink_of(last_lat)
    timed = len(heads.requested[0]) > 0
    for i in range(n):
        at, score = visits.slot[i], visits.score[i]
        prev, has_prev = (at - 1) % length, i > 0 or led
        latest = rel.AGE_BUCKETS if visits.last[visits.column[i]] == i else 0
        distance, context_distance = rel.SAME, rel.UNKNOWN
        if items[at] != last_item:
            distance = distance_bucket(last_lat, last_lon, shrink, lat[at], lon[at])
        visits.distance[i] = distance
        clock, week = 2 * rel.CLOCK_BUCKETS, len(rel.WEEK_EDGES_S) + 1
        follows, gap_s = rel.FOLLOW_BUCKETS - 1, time_s[at] - time_s[prev]
        if has_prev:
            clock = clock_bucket(last_local, local_solar_s(time_s[prev], lon[prev]))
            week = week_bucket(last_s, time_s[prev])
            follows = log_bucket(gap_s, FOLLOW_LOW_S, FOLLOW_HIGH_S, rel.FOLLOW_BUCKETS - 1)
            follows += rel.FOLLOW_BUCKETS if items[prev] == last_item else 0
            context_distance = distance_bucket(last_lat, last_lon, shrink, lat[prev], lon[prev])
        age = age_bucket(last_s - time_s[at]) + latest
        of_age, of_clock, of_week, of_follows, of_context, of_distance = heads.standing
        for k in range(len(score)):
            score[k] = of_age[age, k] + of_clock[clock, k] + of_week[week, k] + of_follows[follows, k]
            score[k] += of_context[context_distance, k] + of_distance[distance, k]
        if timed:
            wait_s = max(query_s - last_s, 0.0)
            wait, local_s = wait_bucket(wait_s), local_solar_s(time_s[at], lon[at])
            clock = clock_bucket(query_s + (last_local - last_s), local_s)
            week = week_bucket(query_s, time_s[at])
            gap = rel.GAP_BUCKETS - 1
            if has_prev:
                apart = F(abs(math.log(max(gap_s, 0.0) + GAP_OFFSET_S) - math.log(wait_s + GAP_OFFSET_S)))
                gap = min(int(FOUR * apart), rel.GAP_BUCKETS - 2)
            age, gap = age_bucket(query_s - time_s[at]) + latest, gap * rel.WAIT_BUCKETS + wait
            by_wait = visits.distance_by_wait[i] = distance * rel.WAIT_BUCKETS + wait
            of_clock, of_week, of_gap, of_age, of_distance = heads.requested
            for k in range(len(score)):
                score[k] += of_clock[clock, k] + of_week[week, k] + of_gap[gap, k]
                score[k] += of_age[age, k] + of_distance[by_wait, k]


@njit(cache=True, error_model="numpy")
def _share(n: int, own: int, visits: Any) -> None:
    """Write what part of each pointer's attention the visits of each item collect."""
    score, share = visits.score, visits.share
    for k in range(score.shape[1]):
        most, total = score[0, k], ZERO
        for i in range(1, n):
            most = max(most, score[i, k])
        share[:own, k] = ZERO
        for i in range(n):
            part = math.exp(score[i, k] - most)
            total += part
            share[visits.column[i], k] += part
        for m in range(own):
            share[m, k] /= total


@njit(cache=True, error_model="numpy")
def _weigh(
    user: int, n: int, own: int, query_s: Any, query: Array, memory: Any, items: Any, heads: Any, personal: Array,
    visits: Any, rows: Array, features: Array, logits: Array,
) -> None:  # fmt: skip
    """Write the logits of the own items."""
    time_s, lat, lon = memory.time_s[user], memory.lat[user], memory.lon[user]
    end, timed = visits.slot[n - 1], len(heads.requested[0]) > 0
    shrink, wait_s = shrink_of(lat[end]), max(query_s - time_s[end], 0.0)
    wait = wait_bucket(wait_s) if timed else 0
    pointers = len(features) - OTHER_FEATURES
    for m in range(own):
        row, count, at = rows[m], visits.times[m], visits.slot[visits.last[m]]
        if row >= len(items.slot_of):
            raise IndexError("an event's item is not in the item table")
        base = count / F(n)
        for k in range(pointers):
            features[k] = math.log(visits.share[m, k] + RARE * base + TINY)
        bucket = rel.SAME
        if row != memory.items[user, end]:
            bucket = distance_bucket(lat[end], lon[end], shrink, items.lat[row], items.lon[row])
        fame = heads.popularity[0] * math.log(items.touches[row] + FEW)
        prior = heads.near[bucket, wait] + items.bias[items.slot_of[row], 0] + fame
        km = distance_km(lat[end], lon[end], shrink, lat[at], lon[at])
        age_s = max(time_s[end] - time_s[at], 0.0)
        features[pointers] = math.log1p(items.touches[row]) / FIVE
        features[pointers + 1] = math.log1p(count) / THREE
        features[pointers + 2] = ZERO if math.isnan(km) else math.log1p(km / STREET_KM) / THREE
        features[pointers + 3] = F(math.log1p(age_s / DAY_S)) / FOUR
        features[pointers + 4] = ONE if row == memory.items[user, end] else ZERO
        features[pointers + 5] = dot(items.vectors[items.slot_of[row]], query) + prior
        total = mixed(heads.mix, features, THREE)
        for k in range(len(features)):
            total += features[k] * (heads.shared[k] + personal[k])
        distance = visits.distance[visits.last[m]]
        total += heads.direct[0][age_bucket(age_s), 0] + heads.direct[1][distance, 0]
        total += heads.direct[2][log_bucket(count, 1.0, 200.0, rel.COUNT_BUCKETS), 0]
        if timed:
            age = age_bucket(query_s - time_s[at]) * rel.WAIT_BUCKETS + wait
            total += heads.direct[3][age, 0] + heads.direct[4][visits.distance_by_wait[visits.last[m]], 0]
        logits[m] = total


@njit(cache=True, error_model="numpy")
def _explore(
    user: int, n: int, own: int, query_s: Any, memory: Any, heads: Any, visits: Any, logits: Array
) -> Any:  # fmt: skip
    """The logit of exploring."""
    features = np.empty(len(heads.gate), np.float32)
    most, total, new, weight, all_weight = NEVER, ZERO, ZERO, ONE, ZERO
    for m in range(own):
        most = max(most, logits[m])
    for m in range(own):
        total += math.exp(logits[m] - most)
    for i in range(n - 1, -1, -1):
        new += weight if visits.first[visits.column[i]] == i else ZERO
        all_weight += weight
        weight *= LONG_AGO
    share = min(max((new + FEW) / (all_weight + ONE), RARE), MOST_CERTAIN)
    features[0] = math.log((F(own) + HALF) / (F(n) - F(own) + ALL_BUT_HALF))
    features[1], features[2] = math.log(F(n)) / THREE, -math.log(total)
    features[3] = ONE if visits.first[visits.column[n - 1]] == n - 1 else ZERO
    features[4], features[5] = math.log(share / (ONE - share)), (most + math.log(total)) / FIVE
    if len(heads.requested[0]) > 0:
        end = visits.slot[n - 1]
        last_s = memory.time_s[user, end]
        local_s = query_s + local_solar_s(last_s, memory.lon[user, end]) - last_s
        angle = F((local_s % DAY_S) * CIRCLE)
        features[6], features[7] = math.cos(angle), math.sin(angle)
        features[8] = ONE if is_weekend(local_s) else ZERO
        features[9] = F(math.log(max(query_s - last_s, 0.0) / rel.HOUR_S + WAIT_OFFSET_H)) / THREE
    return mixed(heads.gate_mix, features, ONE) + dot(heads.gate, features) + heads.gate_bias[0]


@njit(cache=True, error_model="numpy")
def mixed(layers: Any, features: Array, divisor: Any) -> Any:
    """The one number that a hidden layer of SiLU units and a linear one give of ``features`` / ``divisor``."""
    hidden, hidden_bias, out, out_bias = layers
    total = out_bias[0]
    for unit in range(len(hidden_bias)):
        x = dot(hidden[unit], features) / divisor + hidden_bias[unit]
        total += out[0, unit] * x / (ONE + math.exp(-x))
    return total
