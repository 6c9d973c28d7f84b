"""Who goes from one state to another, counted anew over events whose states are known only now."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from processors.code_index import ranks

Ints = NDArray[np.int64]


class Moves(NamedTuple):
    """One row for each pair of states that anybody went between, ordered by source and target: int64[n] each.

    ``times`` is how often, ``people`` how many different ones did.
    """

    sources: Ints
    targets: Ints
    times: Ints
    people: Ints


def moves_between(users: Any, states: Any, time_ms: Any, turns: Any, gap_ms: int) -> Moves:
    """How often users went from a state to another one: consecutive events of one user in different states.

    For states that change afterwards (the crowd that an event belongs to, when crowds merge and split), where counting as events
    come would be of states that are no more: the same events and states give the same moves, whatever they were before.

    Args:
        users, states, time_ms: int64[n], in any order.
        turns: integers[n], which tell the order of a user's events of the same time.
        gap_ms: the longest pause within which one event follows another.

    O(n log n).

    >>> ann, bob, home, station, office = 1, 2, 10, 11, 12
    >>> moves = moves_between(
    ...     [ann, ann, ann, bob, bob, bob], [home, station, office, home, home, station], [0, 5, 9, 2, 4, 90], [0] * 6, gap_ms=20
    ... )
    >>> list(zip(*(column.tolist() for column in moves)))
    [(10, 11, 1, 1), (11, 12, 1, 1)]
    """
    user, state, time = (np.ascontiguousarray(column, np.int64) for column in (users, states, time_ms))
    turn = np.ascontiguousarray(turns, np.int64)
    who, people = ranks(user)
    where, places = ranks(state)
    order = _order(who, len(people), time)
    pairs, goers = _went(order, who, where, time, turn, gap_ms)
    pair = np.sort((pairs[:, 0] * len(places) + pairs[:, 1]) * len(people) + goers)
    between = pair // max(len(people), 1)
    starts = np.flatnonzero(_is_first(between))
    times = np.diff(np.append(starts, len(between)))
    different = np.add.reduceat(_is_first(pair), starts, dtype=np.int64) if len(starts) else times
    sources, targets = np.divmod(between[starts], max(len(places), 1))
    return Moves(places[sources], places[targets], times, different)


def _order(who: Ints, people: int, time: Ints) -> Ints:
    """By person, then by time."""
    if not len(time):
        return who
    first, span = int(time.min()), int(time.max()) - int(time.min()) + 1
    if people * span < 1 << 62:
        return np.argsort(who * span + (time - first))  # one key is sorted in vectors
    return np.lexsort((time, who))


def _is_first(column: Ints) -> NDArray[np.bool_]:
    """Where a value differs from the one before."""
    return np.append([True], column[1:] != column[:-1])[: len(column)]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _went(order: Ints, who: Ints, where: Ints, time: Ints, turn: Ints, gap_ms: int) -> tuple[Ints, Ints]:
    """(left and entered int64[m, 2], who went int64[m]) of events in ``order`` of users and times."""
    pairs, goers = np.empty((len(order), 2), np.int64), np.empty(len(order), np.int64)
    _put_in_turn(order, who, time, turn)
    found = 0
    for at in range(1, len(order)):
        before, after = order[at - 1], order[at]
        if who[before] == who[after] and where[before] != where[after] and time[after] - time[before] <= gap_ms:
            pairs[found, 0], pairs[found, 1], goers[found] = where[before], where[after], who[before]
            found += 1
    return pairs[:found], goers[:found]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _put_in_turn(order: Ints, who: Ints, time: Ints, turn: Ints) -> None:
    """Put a user's events of the same time in order of their turns."""
    begin = 0
    for at in range(1, len(order) + 1):
        if at < len(order) and who[order[at]] == who[order[begin]] and time[order[at]] == time[order[begin]]:
            continue
        if at - begin > 1:
            same = order[begin:at].copy()
            order[begin:at] = same[np.argsort(turn[same])]
        begin = at
