"""Who goes from one state to another, counted anew over events whose states are known only now."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    user, state, time = (np.asarray(column, np.int64) for column in (users, states, time_ms))
    order = np.lexsort((np.asarray(turns), time, user))
    user, state, time = user[order], state[order], time[order]
    moved = (user[1:] == user[:-1]) & (state[1:] != state[:-1]) & (time[1:] - time[:-1] <= gap_ms)
    went = np.flatnonzero(moved)
    source, target, user = state[went], state[went + 1], user[went]
    order = np.lexsort((user, target, source))
    source, target, user = source[order], target[order], user[order]
    other_pair = _is_first(source) | _is_first(target)
    starts = np.flatnonzero(other_pair)
    ends = np.append(starts[1:], len(source))[: len(starts)]
    person = np.cumsum(_is_first(user))
    people = person[ends - 1] - person[starts] + 1
    return Moves(source[starts], target[starts], ends - starts, people)


def _is_first(column: Ints) -> NDArray[np.bool_]:
    """Where a value differs from the one before."""
    return np.append([True], column[1:] != column[:-1])[: len(column)]
