"""Sessions and recent states against a plain per-user replay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.sequence import NO_STATE, RecentStates, Sessions


def replay(users: Any, states: Any, times: Any, ids: Any, gap_s: float, depth: int) -> list[list[int]]:
    """What a dictionary of lists says preceded each event."""
    past: dict[int, list[tuple[float, int, int]]] = {}
    out = []
    for user, state, time, session in zip(users.tolist(), states.tolist(), times.tolist(), ids.tolist(), strict=True):
        mine = past.setdefault(user, [])
        if mine and time < mine[-1][0]:
            out.append([NO_STATE] * depth)
            continue
        if mine and (time - mine[-1][0] > gap_s or session != mine[-1][2]):
            mine.clear()
        before = [s for _, s, _ in reversed(mine)][:depth]
        out.append(before + [NO_STATE] * (depth - len(before)))
        mine.append((time, state, session))
    return out


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    depth=st.integers(1, 5),
    cuts=st.lists(st.integers(0, 300), max_size=10),
    late=st.booleans(),
    restart=st.booleans(),
)
def test_recent_states_equal_a_replay(seed: int, depth: int, cuts: list[int], late: bool, restart: bool) -> None:
    rng = np.random.default_rng(seed)
    users, states, ids = rng.integers(0, 90, 300), rng.integers(-4, 9, 300), rng.integers(0, 2, 300)
    times = rng.uniform(0, 3000, 300) if late else np.sort(rng.integers(0, 3000, 300)).astype(float)
    recent, parts = RecentStates(depth, gap_s=np.inf if late else 200.0), []
    for part in np.split(np.arange(300), sorted(cuts)):
        parts.append(recent.update(users[part], states[part], times[part], ids[part])[0])
        if restart:
            recent = RecentStates.from_bytes(recent.to_bytes())
    assert np.concatenate(parts).tolist() == replay(users, states, times, ids, recent.gap_s, depth)


def test_transition_never_crosses_a_session() -> None:
    sessions = Sessions(gap_s=30.0)
    columns = sessions.update([1, 1, 1, 1, 2], [7, 8, 9, 7, 8], [0.0, 30.0, 61.0, 62.0, 63.0])
    none = NO_STATE
    assert columns.contexts.tolist() == [[none, none], [none, 7], [none, none], [none, 9], [none, none]]


def test_new_session_id_ends_a_session_without_a_pause() -> None:
    columns = Sessions().update([1, 1, 1], [7, 8, 9], [0.0, 1.0, 2.0], sessions=[5, 5, 6])
    assert columns.contexts[:, 1].tolist() == [NO_STATE, 7, NO_STATE]


def test_positions_travel_with_the_states() -> None:
    recent = RecentStates(depth=2, gap_s=100.0, extras=2)
    _, when, where = recent.update([1, 1, 1], [7, 8, 9], [0.0, 5.0, 9.0], extras=[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert where[2].tolist() == [[3.0, 4.0], [1.0, 2.0]] and when[2].tolist() == [5.0, 0.0]


def test_users_who_left_make_room_and_active_ones_stay() -> None:
    recent = RecentStates(depth=1, gap_s=100.0, max_users=1000)
    for start in range(0, 100_000, 500):
        users = np.r_[0, np.arange(start + 1, start + 500)]
        recent.update(users, users, np.full(500, float(start)))
    assert len(recent) <= 1000 and recent.forgotten_users == 0 and recent.nbytes < 100_000


def test_longest_idle_users_are_forgotten_when_all_are_active() -> None:
    recent = RecentStates(depth=1, gap_s=1e9, max_users=64)
    recent.update(np.arange(100), np.arange(100), np.arange(100.0))
    assert len(recent) <= 64 and recent.forgotten_users == 100 - len(recent)
    assert recent.update([99], [1], [200.0])[0].tolist() == [[99]]
    assert recent.update([0], [1], [200.0])[0].tolist() == [[NO_STATE]]


@pytest.mark.parametrize(
    ("error", "named", "arguments"),
    [
        (ValueError, "time_s", ([1], [2], [np.nan])),
        (ValueError, "states", ([1], [2, 3], [0.0])),
        (ValueError, "sessions", ([1], [2], [0.0], [1, 2])),
        (ValueError, "extras", ([1], [2], [0.0], [1], [[1.0]])),
        (TypeError, "users", ([1.5], [2], [0.0])),
    ],
)
def test_bad_input_is_named_and_changes_nothing(error: type[Exception], named: str, arguments: tuple[Any, ...]) -> None:
    recent = RecentStates(depth=2, gap_s=10.0)
    recent.update([1], [2], [0.0])
    before = recent.to_bytes()
    with pytest.raises(error, match=named):
        recent.update(*arguments)
    assert recent.to_bytes() == before


@pytest.mark.parametrize("fields", [{"depth": 0}, {"gap_s": 0.0}, {"gap_s": np.nan}, {"max_users": 1}])
def test_settings_out_of_range_are_named(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        RecentStates(**({"depth": 1, "gap_s": 1.0} | fields))
