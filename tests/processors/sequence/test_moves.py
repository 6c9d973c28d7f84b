"""Moves between states against a plain walk through each user's events."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.sequence import moves_between

GAP_MS = 20
Event = tuple[int, int, int, int]


def walked(events: list[Event]) -> list[tuple[int, int, int, int]]:
    """(source, target, times, people) of (user, state, time, turn) rows, one user after another."""
    went = defaultdict[tuple[int, int], list[int]](list)
    for user in {event[0] for event in events}:
        mine = sorted((time, turn, state) for who, state, time, turn in events if who == user)
        for (before, _, left), (after, _, entered) in pairwise(mine):
            if left != entered and after - before <= GAP_MS:
                went[left, entered].append(user)
    return [(*pair, len(users), len(set(users))) for pair, users in sorted(went.items())]


def moves_of(events: list[Event], gap_ms: int = GAP_MS) -> list[tuple[Any, ...]]:
    users, states, times, turns = np.array(events, np.int64).reshape(-1, 4).T
    return list(zip(*(column.tolist() for column in moves_between(users, states, times, turns, gap_ms)), strict=True))


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(-2, 4), st.integers(-3, 3), st.integers(0, 60)), max_size=80))
def test_moves_are_those_of_a_walk_whatever_the_order_of_the_rows(rows: list[tuple[int, int, int]]) -> None:
    events = [(*row, turn) for turn, row in enumerate(rows)]
    assert moves_of(events) == moves_of(events[::-1]) == walked(events)


def test_a_pause_of_exactly_the_gap_is_no_end() -> None:
    assert moves_of([(1, 7, 0, 0), (1, 8, GAP_MS, 0), (1, 9, 2 * GAP_MS + 1, 0)]) == [(7, 8, 1, 1)]


def test_one_person_going_to_and_fro_is_one_person() -> None:
    events = [(1, at % 2, at, 0) for at in range(9)] + [(2, 0, 0, 0), (2, 1, 1, 0)]
    assert moves_of(events) == [(0, 1, 5, 2), (1, 0, 4, 1)]


def test_who_is_first_at_another_place_did_not_come_from_where_the_user_before_was() -> None:
    assert moves_of([(1, 7, 0, 0), (2, 8, 1, 0)]) == []
