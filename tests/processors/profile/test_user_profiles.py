"""User profiles against planted lives and sums by definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.profile import ProfileSettings, UserProfiles
from processors.sequence import NO_STATE

DAY_S = 86_400.0
HOME, OFFICE, CAFE = 11, 12, 13
MONDAY = 4 * DAY_S  # 1970-01-05


def life(days: int, first_day_s: float = MONDAY, user: int = 1) -> dict[str, np.ndarray[Any, Any]]:
    """Home at 22 h, office at 10 h and 15 h and café at 13 h on weekdays; the office lies 5 km north of the home."""
    rows = []
    for day in range(days):
        midnight = first_day_s + day * DAY_S
        if day % 7 < 5:
            rows += [(midnight + hour * 3600, OFFICE, 1, 40.045) for hour in (10, 15)]
            rows.append((midnight + 13 * 3600, CAFE, 2, 40.0))
        rows.append((midnight + 22 * 3600, HOME, 3, 40.0))
    times, items, categories, lat = (np.array(column) for column in zip(*rows, strict=True))
    return {
        "users": np.full(len(rows), user),
        "time_s": times,
        "items": items,
        "categories": categories,
        "lat": lat,
        "lon": np.full(len(rows), -74.0),
    }


def test_planted_home_and_office_are_found() -> None:
    profiles = UserProfiles()
    profiles.update(**life(28))
    profile = profiles.profile(1, MONDAY + 28 * DAY_S)
    assert profile is not None
    assert {anchor.role: anchor.item for anchor in profile.anchors} == {"home": HOME, "work": OFFICE}
    assert sorted(np.argsort(profile.usual_hours)[-4:].tolist()) == [10, 13, 15, 22]
    assert profile.weekend_share == pytest.approx(2 / 22, abs=0.02)


def test_hours_are_local() -> None:
    profiles = UserProfiles()
    shifted = life(28)
    shifted["time_s"] = shifted["time_s"] + 5 * 3600  # the same life, told in UTC five hours behind
    profiles.update(**shifted, utc_offset_s=-5 * 3600.0)
    profile = profiles.profile(1, MONDAY + 29 * DAY_S)
    assert profile is not None and {anchor.item for anchor in profile.anchors} == {HOME, OFFICE}


def test_shares_radius_and_exploring_equal_their_definitions() -> None:
    rng = np.random.default_rng(0)
    n, half_life_s = 500, 10 * DAY_S
    times, items, categories = rng.uniform(0, 40 * DAY_S, n), rng.integers(0, 30, n), rng.integers(0, 4, n)
    weights = rng.choice([1.0, 5.0], n)
    lat, lon = 48 + rng.normal(0, 0.05, n), 11 + rng.normal(0, 0.05, n)
    profiles = UserProfiles(half_life_s=half_life_s, top=30)
    for part in np.array_split(np.arange(n), 7):
        where = {"lat": lat[part], "lon": lon[part]}
        what = {"weights": weights[part], "categories": categories[part]}
        profiles.update(np.full(len(part), 5), times[part], items[part], **what, **where)
    now = float(times.max())
    profile = profiles.profile(5, now)
    assert profile is not None
    decay = 0.5 ** ((now - times) / half_life_s)
    for listed, codes in ((profile.items, items), (profile.categories, categories)):
        for code, share in listed:
            assert share == pytest.approx(float((decay * weights)[codes == code].sum() / (decay * weights).sum()))
    assert profile.support == pytest.approx(float((decay * weights).sum()))
    first = np.array([item not in items[:i] for i, item in enumerate(items)])
    assert profile.explore_share == pytest.approx(float(decay[first].sum() / decay.sum()))
    metres = np.stack([lat * 111_195, lon * 111_195 * np.cos(np.radians(48))], 1)
    centre = (decay[:, None] * metres).sum(0) / decay.sum()
    radius = np.sqrt((decay * ((metres - centre) ** 2).sum(1)).sum() / decay.sum())
    assert profile.radius_of_gyration_m == pytest.approx(float(radius), rel=0.01)


def test_rate_of_a_steady_user_is_that_users_rate_from_the_first_weeks_on() -> None:
    times = np.arange(0, 300 * DAY_S, DAY_S / 4)
    for days in (7, 60, 300):
        profiles = UserProfiles()
        seen = times[times < days * DAY_S]
        profiles.update(np.ones(len(seen), np.int64), seen, np.ones(len(seen), np.int64))
        profile = profiles.profile(1, days * DAY_S)
        assert profile is not None and profile.events_per_day == pytest.approx(4.0, rel=0.05)


def test_profile_is_told_when_it_moved_and_not_at_every_event() -> None:
    profiles = UserProfiles(min_move=0.2, half_life_s=20 * DAY_S)
    told = [profile for event in events_of(life(56)) for profile in profiles.update(**event)]
    assert 1 < len(told) < 20 and [profile.version for profile in told] == list(range(1, len(told) + 1))
    quiet = [profile for event in events_of(life(14, MONDAY + 56 * DAY_S)) for profile in profiles.update(**event)]
    assert quiet == []
    moved = life(42, MONDAY + 70 * DAY_S)
    moved["items"] = moved["items"] + 100
    told = [profile for event in events_of(moved) for profile in profiles.update(**event)]
    assert {anchor.item for anchor in told[-1].anchors} == {HOME + 100, OFFICE + 100}


def events_of(columns: dict[str, np.ndarray[Any, Any]]) -> list[dict[str, np.ndarray[Any, Any]]]:
    return [{name: column[i : i + 1] for name, column in columns.items()} for i in range(len(columns["users"]))]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 200), max_size=10))
def test_profiles_do_not_depend_on_the_batches_nor_on_a_restart(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    columns = {
        "users": rng.integers(0, 6, 200),
        "time_s": np.sort(rng.uniform(0, 90 * DAY_S, 200)),
        "items": rng.integers(0, 9, 200),
        "clusters": np.where(rng.random(200) < 0.5, NO_STATE, rng.integers(0, 3, 200)),
        "lat": np.where(np.arange(200) % 3 == 0, np.nan, rng.uniform(-90, 90, 200)),
        "lon": np.where(np.arange(200) % 3 == 0, np.nan, rng.uniform(-180, 180, 200)),
    }
    bounds = ProfileSettings(max_items=4, top=4)
    at_once, in_parts, by_user = UserProfiles(bounds), UserProfiles(bounds), UserProfiles(bounds)
    at_once.update(**columns)
    for part in np.split(np.arange(200), sorted(cuts)):
        in_parts.update(**{name: column[part] for name, column in columns.items()})
        in_parts = UserProfiles.from_bytes(in_parts.to_bytes())
    now = float(columns["time_s"][-1])
    for user in range(6):
        one, other = at_once.profile(user, now), in_parts.profile(user, now)
        assert one is not None and other is not None
        for name in ("items", "clusters", "anchors", "usual_hours", "radius_of_gyration_m", "explore_share", "events"):
            assert getattr(one, name) == getattr(other, name)
        payload = at_once.user_to_bytes(user)
        assert payload is not None
        by_user.load_user(payload)
        assert by_user.profile(user, now) == one


def test_least_active_users_make_room() -> None:
    profiles = UserProfiles(max_users=16)
    regulars = np.tile(np.arange(4), 50)
    profiles.update(regulars, np.arange(200.0), regulars)
    passers_by = np.arange(100, 400)
    profiles.update(passers_by, 200.0 + np.arange(300), passers_by)
    assert len(profiles) <= 16 and profiles.dropped_users >= 288
    assert all(profiles.profile(user, 500.0) is not None for user in range(4))


def test_unknown_user_has_no_profile() -> None:
    assert UserProfiles().profile(3, 0.0) is None
    assert UserProfiles().user_to_bytes(3) is None


@pytest.mark.parametrize(
    ("error", "named", "wrong"),
    [
        (ValueError, "time_s", {"time_s": [np.nan]}),
        (ValueError, "lat", {"lat": [91.0], "lon": [0.0]}),
        (ValueError, "lat and lon", {"lat": [np.nan], "lon": [0.0]}),
        (ValueError, "weights", {"weights": [-1.0]}),
        (ValueError, "items", {"items": [1, 2]}),
        (ValueError, "users", {"users": [NO_STATE]}),
        (TypeError, "items", {"items": [1.5]}),
        (ValueError, "utc_offset_s", {"utc_offset_s": np.inf}),
    ],
)
def test_bad_input_is_named_and_changes_nothing(error: type[Exception], named: str, wrong: dict[str, Any]) -> None:
    profiles = UserProfiles()
    profiles.update([1], [0.0], [1])
    before = profiles.to_bytes()
    with pytest.raises(error, match=named):
        profiles.update(**({"users": [1], "time_s": [1.0], "items": [1]} | wrong))
    assert profiles.to_bytes() == before


@pytest.mark.parametrize(
    "fields", [{"half_life_s": -1.0}, {"max_users": 1}, {"min_move": 0.0}, {"top": 1}, {"night_hours": (20, 25)}]
)
def test_settings_out_of_range_are_named(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        UserProfiles(**fields)


def test_damaged_payload_is_refused() -> None:
    with pytest.raises(ValueError, match="payload"):
        UserProfiles.from_bytes(b"\x80")
    with pytest.raises(ValueError, match="payload"):
        UserProfiles().load_user(b"junk")
