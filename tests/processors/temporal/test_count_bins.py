import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.temporal import CountBins


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.sampled_from([0.0, 30.0, 500.0]))
def test_bins_count_every_event_that_is_not_late(seed, parts, lateness_s):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 300))
    keys, times = rng.integers(0, 5, n), np.sort(rng.uniform(0, 3000, n))
    times = np.maximum(times - rng.exponential(lateness_s / 10 + 1e-9, n), 0.0)
    bins = CountBins(bin_s=60.0, lateness_s=lateness_s)
    closed = []
    for part in np.array_split(np.arange(n), parts):
        closed += bins.update(keys[part], times[part])
    closed += bins.update([99], [1e5 + lateness_s])
    assert sum(one.counts.sum() for one in closed) + bins.late_events == n
    starts = [one.start_s for one in closed]
    assert starts == sorted(set(starts))
    if not bins.late_events:
        for one in closed:
            inside = keys[(times >= one.start_s) & (times < one.start_s + 60)]
            assert dict(zip(one.keys, one.counts)) == {k: int((inside == k).sum()) for k in one.keys}


def test_silent_keys_count_zero_until_they_are_idle():
    bins = CountBins(bin_s=1.0, idle_bins=3)
    closed = bins.update([1, 2], [0.5, 100.5])
    assert [(one.start_s, one.keys.tolist(), one.counts.tolist()) for one in closed] == [
        (0.0, [1], [1]),
        (1.0, [1], [0]),
        (2.0, [1], [0]),
        (3.0, [1], [0]),
    ]


def test_a_long_silence_costs_nothing():
    bins = CountBins(bin_s=1.0, idle_bins=10)
    assert len(bins.update([1, 1], [0.0, 4e9])) == 11


def test_late_events_are_counted_and_ignored():
    bins = CountBins(bin_s=60.0)
    bins.update([1], [500.0])
    bins.update([1, 1], [10.0, 470.0])
    assert bins.late_events == 2


def test_the_longest_silent_keys_go_first():
    bins = CountBins(bin_s=1.0, max_keys=2)
    closed = bins.update([1, 2, 3, 9], [0.5, 1.5, 2.5, 3.5])
    assert closed[-1].keys.tolist() == [2, 3]
    assert bins.evicted_keys == 1


def test_who_is_busiest_is_live_and_whoever_comes_now_and_then_pushes_nobody_out():
    bins, rng = CountBins(bin_s=1.0, max_keys=3, min_events=4, idle_bins=50), np.random.default_rng(2)
    for at in range(200):
        visitors = rng.integers(100, 140, 6)
        bins.update(np.concatenate([[1, 1, 2, 2, 3], visitors]), np.full(11, float(at)))
    (last,) = bins.update([1], [200.0])
    assert last.keys.tolist() == [1, 2, 3] and bins.evicted_keys <= 3
    for at in range(200, 260):
        bins.update([1, 1, 2, 2, 7, 7, 7], np.full(7, float(at)))
    (last,) = bins.update([1], [260.0])
    assert last.keys.tolist() == [1, 2, 7]


def test_a_key_has_to_have_its_events_within_the_time_after_which_it_is_idle():
    bins = CountBins(bin_s=1.0, min_events=3, idle_bins=10)
    assert bins.update([1, 1, 1, 2], [0.0, 6.0, 12.0, 13.0]) == []
    assert [one.start_s for one in bins.update([1, 1, 2], [13.0, 14.0, 15.0])] == [14.0]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.sampled_from([0.0, 90.0]))
def test_it_makes_no_difference_how_the_events_are_cut_into_batches(seed, parts, lateness_s):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(40, 400))
    keys = rng.zipf(1.5, n) % 40
    times = (
        1e5 + np.cumsum(rng.exponential(20.0, n)) + rng.normal(0, 60.0, n) + 3000.0 * (rng.random(n) < 0.01).cumsum()
    )
    one, other = (CountBins(60.0, lateness_s, idle_bins=20, max_keys=5, min_events=3) for _ in range(2))
    whole, pieces = one.update(keys, times), []
    for part in np.array_split(np.arange(n), parts):
        pieces += other.update(keys[part], times[part])
        other = CountBins.from_bytes(other.to_bytes())
    assert [(a.start_s, a.keys.tolist(), a.counts.tolist()) for a in whole] == [
        (a.start_s, a.keys.tolist(), a.counts.tolist()) for a in pieces
    ]
    assert one.to_bytes() == other.to_bytes()


def test_bins_survive_their_bytes():
    rng = np.random.default_rng(1)
    keys, times = rng.integers(0, 9, 500), np.sort(rng.uniform(0, 9000, 500))
    bins = CountBins(bin_s=60.0)
    bins.update(keys[:300], times[:300])
    twin = CountBins.from_bytes(bins.to_bytes())
    one, other = bins.update(keys[300:], times[300:]), twin.update(keys[300:], times[300:])
    assert [(a.start_s, a.keys.tolist(), a.counts.tolist()) for a in one] == [
        (a.start_s, a.keys.tolist(), a.counts.tolist()) for a in other
    ]
    with pytest.raises(ValueError, match="data"):
        CountBins.from_bytes(b"\x00")


@pytest.mark.parametrize("name", ["bin_s", "lateness_s", "idle_bins", "max_keys", "min_events"])
def test_settings_out_of_range_name_themselves(name):
    with pytest.raises(ValueError, match=name):
        CountBins(**{name: -1})


def test_bad_times_are_refused():
    bins = CountBins()
    with pytest.raises(ValueError, match="time_s"):
        bins.update([1], [np.nan])
    assert bins.update([], []) == []
