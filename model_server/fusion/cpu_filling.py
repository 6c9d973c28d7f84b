"""The kernel behind ``cpu_features``: one pass over each user's candidates, feature by feature where it can be of vectors."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from model_server.catalogue import EARTH_RADIUS_KM
from model_server.cpu_math import exp_of, largest_of, log_of
from model_server.fusion.exploring import CROWD, TOUCHES
from model_server.visits import DAY_PARTS

Array = npt.NDArray[Any]
F = np.float32

# Every constant is float32: one float64 among them would turn the whole expression into float64.
ZERO, ONE, HALF = F(0), F(1), F(0.5)
DIAMETER_KM = F(2 * EARTH_RADIUS_KM)
STRAIGHT = F(0.05)  # up to this sine two terms of the series give the angle to a billionth
SIXTH, FORTIETHS = F(1 / 6), F(3 / 40)
STREET_KM, BLOCK_KM = F(0.3), F(0.4)
FAR, QUARTER, LINKED, FEW, HALF_A_DOZEN = F(0.01), F(0.25), F(1e-3), F(3), F(6)
PARTS = F(DAY_PARTS)
# Columns that the kernel needs beside the public features.
USUAL, LOG_USUAL, COSINE = CROWD + 1, CROWD + 2, CROWD + 3
COLUMNS = COSINE + 1


class Users(NamedTuple):
    """The context of each user, as arrays [users, ...]."""

    last_row: Array
    home: Array
    recent: Array
    moving: Array
    hour: Array
    likes: Array


class Places(NamedTuple):
    """What is known of the catalogue's rows, as arrays [rows, ...]."""

    position: Array
    has_place: Array
    category: Array
    hours: Array
    visitors: Array


class Links(NamedTuple):
    """Which rows each row leads to and how strongly, as arrays [rows, width]."""

    transitions: Array
    transition_weights: Array
    covisits: Array
    covisit_weights: Array
    alike: Array
    alike_weights: Array


@njit(cache=True, nogil=True, error_model="numpy")
def fill_features(
    features: Array, candidates: Array, sequence: Array, column_of_row: Array, of_rows: Array, users: Any, places: Any,
    links: Any,
) -> None:  # fmt: skip
    """Write the features of every candidate; ``column_of_row`` is -1 for every row of the catalogue, before and after."""
    most = candidates.shape[1]
    from_last, from_home, cosine = np.empty(most, np.float32), np.empty(most, np.float32), np.empty(most, np.float32)
    linked, touched = np.zeros(most, np.float32), np.empty(_most_links(users, links), np.int64)
    for u in range(len(candidates)):
        out, named = features[u], candidates[u]
        missing = _gather(u, named, users, places, of_rows, column_of_row, out, from_last, from_home, cosine)
        _link_last(users.last_row[u], named, of_rows, links, column_of_row, linked, touched, out)
        _link_recent(users.recent[u], places, links, column_of_row, cosine, linked, touched, out[19])
        _of_distance(from_last, users.moving[u], out)
        _of_home(from_home, out)
        _take_logs(out[15])
        out[20] = sequence[u]
        for c in range(most):
            if named[c] >= 0:
                column_of_row[named[c]] = -1
        if missing:
            _clear_missing(named, out)


@njit(cache=True, error_model="numpy")
def _gather(
    u: int, candidates: Array, users: Any, places: Any, of_rows: Array, column_of_row: Array, out: Array,
    from_last: Array, from_home: Array, cosine: Array,
) -> bool:  # fmt: skip
    """Write what is looked up of each candidate, and the squared chords; whether there are columns without a row."""
    last, at_home, hour, missing = users.last_row[u], users.home[u], users.hour[u], False
    last_placed, home_placed = places.has_place[last], places.has_place[at_home]
    last_kind = places.category[last]
    for c in range(len(candidates)):
        row = candidates[c]
        if row < 0:
            row, missing = last, True  # anything that is known: it is cleared in the end
        else:
            column_of_row[row] = c
        for each in range(TOUCHES):
            out[each, c] = of_rows[row, each]
        placed, kind = places.has_place[row], places.category[row]
        from_last[c] = _square(places.position, row, last) if placed and last_placed else ZERO
        from_home[c] = _square(places.position, row, at_home) if placed and home_placed else ZERO
        out[12, c], out[13, c], out[16, c] = users.likes[u, kind, 0], users.likes[u, kind, 1], users.likes[u, kind, 2]
        out[14, c] = ONE if kind == last_kind else ZERO
        out[15, c] = (places.hours[row, hour] + QUARTER) / (of_rows[row, TOUCHES] + HALF_A_DOZEN) * PARTS
        out[17, c] = of_rows[row, LOG_USUAL]
        out[21, c], cosine[c] = of_rows[row, CROWD], of_rows[row, COSINE]
    return missing


@njit(cache=True, error_model="numpy", inline="always")
def _square(position: Array, a: int, b: int) -> Any:
    x, y, z = position[a, 0] - position[b, 0], position[a, 1] - position[b, 1], position[a, 2] - position[b, 2]
    return x * x + y * y + z * z


@njit(cache=True, error_model="numpy")
def _most_links(users: Any, links: Any) -> int:
    """How many columns can be linked at once."""
    return max(links.transitions.shape[1], links.covisits.shape[1], users.recent.shape[1] * links.alike.shape[1])


@njit(cache=True, error_model="numpy")
def _link_last(
    last: int, candidates: Array, of_rows: Array, links: Any, column_of_row: Array, linked: Array, touched: Array,
    out: Array,
) -> None:  # fmt: skip
    """Write what leads from the last place: of most candidates nothing, and its logarithm is known already."""
    count = _link(links.transitions, links.transition_weights, last, ONE, column_of_row, linked, touched, 0)
    for n in range(count):
        column = touched[n]
        out[17, column] = log_of(of_rows[candidates[column], USUAL] + linked[column])
    linked[touched[:count]] = ZERO
    out[18] = log_of(LINKED)
    count = _link(links.covisits, links.covisit_weights, last, ONE, column_of_row, linked, touched, 0)
    for n in range(count):
        out[18, touched[n]] = log_of(LINKED + linked[touched[n]])
    linked[touched[:count]] = ZERO


@njit(cache=True, error_model="numpy")
def _link_recent(
    recent: Array, places: Any, links: Any, column_of_row: Array, cosine: Array, linked: Array, touched: Array, out: Array
) -> None:  # fmt: skip
    """Write how near the recent places are: of most candidates nothing, as above."""
    held, count = ZERO, 0
    for place in range(len(recent)):
        source = recent[place]
        if source >= 0:
            held += ONE
            times = ONE / math.sqrt(places.visitors[source] + FEW)
            count = _link(links.alike, links.alike_weights, source, times, column_of_row, linked, touched, count)
    out[:] = log_of(LINKED)
    for n in range(count):
        column = touched[n]
        out[column] = log_of(linked[column] * cosine[column] / held + LINKED)
    linked[touched[:count]] = ZERO


@njit(cache=True, error_model="numpy")
def _link(
    neighbours: Array, weights: Array, source: int, times: Any, column_of_row: Array, linked: Array, touched: Array,
    count: int,
) -> int:  # fmt: skip
    """Add the weights of a row's list, so many times, to the columns of the rows that it names, which are ``touched`` after
    the ``count`` that are already; how many are now. ``linked`` begins at 0.
    """
    for place in range(neighbours.shape[1]):
        row = neighbours[source, place]
        if 0 <= row < len(column_of_row) and column_of_row[row] >= 0:
            column = column_of_row[row]
            if linked[column] == ZERO:
                touched[count] = column
                count += 1
            linked[column] += weights[source, place] * times
    return count


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _take_km(squares: Array) -> None:
    """Great-circle distances in place of the squares of their chords."""
    if HALF * math.sqrt(max(largest_of(squares), ZERO)) < STRAIGHT:
        for c in range(len(squares)):
            square = HALF * HALF * squares[c]
            squares[c] = DIAMETER_KM * (math.sqrt(square) * (ONE + square * (SIXTH + FORTIETHS * square)))
    else:
        for c in range(len(squares)):
            squares[c] = DIAMETER_KM * math.asin(min(HALF * math.sqrt(squares[c]), ONE))


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _take_logs(values: Array) -> None:
    for c in range(len(values)):
        values[c] = log_of(values[c])


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _write_log(km: Array, out: Array) -> None:
    for c in range(len(km)):
        out[c] = log_of(ONE + km[c] / STREET_KM)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _write_exp(km: Array, times: Any, out: Array) -> None:
    for c in range(len(km)):
        out[c] = exp_of(times * km[c])


@njit(cache=True, error_model="numpy")
def _of_distance(squares: Array, moving: Any, out: Array) -> None:
    """The five features of the distance from the last place."""
    _take_km(squares)
    _write_log(squares, out[5])
    _write_exp(squares, -ONE / BLOCK_KM, out[6])
    _write_exp(squares, -HALF, out[7])
    for c in range(len(squares)):
        out[8, c] = moving * out[5, c]
    for c in range(len(squares)):
        out[9, c] = moving * out[6, c]


@njit(cache=True, error_model="numpy")
def _of_home(squares: Array, out: Array) -> None:
    """The two features of the distance from home."""
    _take_km(squares)
    _write_log(squares, out[10])
    _write_exp(squares, -HALF, out[11])
    for c in range(len(squares)):
        out[11, c] += FAR
    _take_logs(out[11])


@njit(cache=True, error_model="numpy")
def _clear_missing(candidates: Array, out: Array) -> None:
    for c in range(len(candidates)):
        if candidates[c] < 0:
            for feature in range(len(out)):
                out[feature, c] = ZERO
