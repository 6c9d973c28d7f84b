import numpy as np
import pytest
from planted import DAY_S, HOUR_S, MONDAY_S, WEEK_S

from processors.temporal import HourProfiles, HourProfileSettings, nautical_offset_s


def weekly(hour, n, start_s=MONDAY_S):
    return start_s + hour * HOUR_S + WEEK_S * np.arange(n)


def test_profile_sums_to_one_and_peaks_at_the_habit():
    profiles = HourProfiles()
    profiles.update(np.ones(20, np.int64), weekly(4 * 24 + 18, 20))
    profile = profiles.profile(1)
    assert profile.sum() == pytest.approx(1.0) and np.all(profile > 0)
    assert profile.argmax() == 4 * 24 + 18
    assert profile[4 * 24 + 17] > profile[3 * 24 + 18] > profile[3 * 24 + 6]


def test_profile_lives_in_local_time():
    profiles = HourProfiles()
    # 18:00 in New York is 23:00 UTC in winter.
    profiles.update(np.ones(20, np.int64), weekly(23, 20), nautical_offset_s(-74.0))
    assert profiles.profile(1).argmax() == 18
    assert profiles.lift(1, MONDAY_S + 23 * HOUR_S, -5 * HOUR_S) > 5.0 > 1.0 > profiles.lift(1, MONDAY_S)


def test_unknown_key_has_everybodys_profile_and_few_events_stay_near_it():
    profiles = HourProfiles()
    profiles.update(np.arange(500) % 50, weekly(30, 500, MONDAY_S) % (20 * WEEK_S) + MONDAY_S // WEEK_S * WEEK_S)
    everybody = profiles.everybody()
    assert np.array_equal(profiles.profile(999), everybody)
    profiles.update([999], [MONDAY_S + 100 * HOUR_S])
    assert abs(profiles.profile(999) - everybody).sum() < 0.2


def test_old_habits_fade():
    profiles = HourProfiles(HourProfileSettings(half_life_s=14 * DAY_S))
    profiles.update(np.ones(30, np.int64), weekly(10, 30))
    profiles.update(np.ones(8, np.int64), weekly(100, 8, MONDAY_S + 30 * WEEK_S))
    assert profiles.profile(1).argmax() == 100


def test_batches_and_order_do_not_matter():
    rng = np.random.default_rng(1)
    keys, times = rng.integers(0, 20, 3000), rng.uniform(1e9, 1e9 + 4000 * DAY_S, 3000)
    whole, pieces = HourProfiles(), HourProfiles()
    whole.update(keys, times)
    for part in np.array_split(rng.permutation(3000), 17):
        pieces.update(keys[part], times[part])
    assert all(np.allclose(whole.profile(k), pieces.profile(k), atol=1e-9) for k in range(20))


def test_least_active_keys_go_and_are_counted():
    profiles = HourProfiles(HourProfileSettings(max_keys=300))
    keys = np.repeat(np.arange(400), np.arange(1, 401))
    gone = profiles.update(keys, np.full(len(keys), MONDAY_S)).evicted
    assert gone.tolist() == list(range(100))
    assert len(profiles) == 300 and profiles.evicted_keys == 100


def test_profiles_survive_their_bytes():
    rng = np.random.default_rng(2)
    profiles = HourProfiles()
    profiles.update(rng.integers(0, 300, 2000), rng.uniform(1e9, 1e9 + 90 * DAY_S, 2000))
    twin = HourProfiles.from_bytes(profiles.to_bytes())
    for one in (profiles, twin):
        one.update([5, 1000], [1.1e9, 1.1e9])
    assert twin.to_bytes() == profiles.to_bytes()
    with pytest.raises(ValueError, match="data"):
        HourProfiles.from_bytes(b"")


def test_bad_input_is_refused():
    profiles = HourProfiles()
    with pytest.raises(ValueError, match="utc_offset_s"):
        profiles.update([1], [1.0], [1e6])
    with pytest.raises(ValueError, match="lon"):
        nautical_offset_s([200.0])
    assert len(profiles) == 0
    for name in ("half_life_s", "smoothing_h", "prior_events", "max_keys"):
        with pytest.raises(ValueError, match=name):
            HourProfileSettings(**{name: -1})
