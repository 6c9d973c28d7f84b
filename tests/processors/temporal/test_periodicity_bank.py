import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import DAY_S, MONDAY_S, clock, fed

from processors.temporal import PeriodicityBank, PeriodicitySettings, bank_state, event_rings


def exact_ring(times, merge_gap_s):
    """What a ring must hold, one event at a time, by sorting."""
    ring = []
    for t in times:
        if any(abs(t - other) < merge_gap_s for other in ring) or (len(ring) == 64 and t < ring[0]):
            continue
        ring = sorted([*ring, t])[-64:]
    return ring


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rings_hold_the_latest_distinct_occurrences(data):
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n = data.draw(st.integers(0, 600))
    keys = rng.integers(-3, 3, n) * data.draw(st.sampled_from([1, 2**40, -(2**61)]))
    times = np.floor(rng.uniform(0, data.draw(st.sampled_from([1e4, 1e6, 4e9])), n))
    if data.draw(st.booleans()):
        times = np.sort(times)
    bank = PeriodicityBank()
    for part in np.array_split(np.arange(n), data.draw(st.integers(1, 9))):
        changes = bank.update(keys[part], times[part])
        assert set(changes.touched.tolist()) <= set(keys[part].tolist())
        assert len(set(changes.touched.tolist())) == len(changes.touched)
    for key in set(keys.tolist()):
        assert bank.times_s(key).tolist() == exact_ring(times[keys == key], 900)
    assert len(bank) == len(set(keys.tolist()))


def test_batches_of_any_size_give_the_same_bank():
    rng = np.random.default_rng(1)
    keys, times = rng.integers(0, 3000, 20_000), np.floor(rng.uniform(1e9, 1e9 + 90 * DAY_S, 20_000))
    whole, pieces = PeriodicityBank(), PeriodicityBank()
    whole.update(keys, times)
    for part in np.array_split(np.arange(20_000), 37):
        pieces.update(keys[part], times[part])
    assert all(np.array_equal(whole.times_s(k), pieces.times_s(k)) for k in range(3000))
    one, other = whole._population, pieces._population
    assert np.allclose(one.density_without(np.empty(0), 0), other.density_without(np.empty(0), 0))


@pytest.mark.parametrize(
    ("keys", "times", "error", "word"),
    [
        ([1, 2], [1.0], ValueError, "one length"),
        ([1], [np.nan], ValueError, "time_s"),
        ([1], [np.inf], ValueError, "time_s"),
        ([1], [-1.0], ValueError, "time_s"),
        ([1], [1.7e12], ValueError, "time_s"),
        ([1.5], [1.0], TypeError, "keys"),
        ([1], np.array(["2025-01-01"], "datetime64[D]"), TypeError, "time_s"),
        (np.array([2**63], np.uint64), [1.0], ValueError, "keys"),
        ([[1]], [[1.0]], ValueError, "columns"),
    ],
)
def test_bad_events_are_refused_and_leave_the_bank_as_it_was(keys, times, error, word):
    bank = fed(PeriodicityBank(), {5: MONDAY_S + DAY_S * np.arange(10)})
    before = bank.to_bytes()
    with pytest.raises(error, match=word):
        bank.update(keys, times)
    assert bank.to_bytes() == before


def test_empty_batch_and_unknown_keys_are_fine():
    bank = PeriodicityBank()
    assert len(bank.update([], []).touched) == 0
    assert bank.detect(3) == [] and bank.detect(2**80) == [] and len(bank.times_s(3)) == 0
    assert bank.examine(10, 0.0) == [] and bank.due(0.0, 1e9) == []
    assert 3 not in bank


def test_equal_times_and_a_standing_clock_are_fine():
    bank = PeriodicityBank(PeriodicitySettings(merge_gap_s=0.0))
    bank.update(np.ones(100, np.int64), np.full(100, MONDAY_S))
    assert bank.detect(1) == [] and len(bank.times_s(1)) == 64


def test_least_active_keys_are_evicted_and_counted():
    bank = PeriodicityBank(PeriodicitySettings(max_keys=100))
    active = np.repeat(np.arange(20), 30)
    bank.update(active, MONDAY_S + DAY_S * np.tile(np.arange(30), 20))
    gone = []
    for start in range(0, 2000, 50):
        newcomers = 1000 + start + np.arange(50)
        gone += bank.update(newcomers, MONDAY_S + 29 * DAY_S + 60.0 * start + np.arange(50.0)).evicted.tolist()
    assert len(bank) == 100
    assert bank.evicted_keys == len(gone) == 20 + 2000 - 100
    assert all(key in bank for key in range(20))
    assert not any(key in bank for key in gone if key < 2500)


def test_lookup_survives_many_evictions():
    rng = np.random.default_rng(4)
    bank = PeriodicityBank(PeriodicitySettings(max_keys=64))
    alive = set()
    for step in range(200):
        keys = np.unique(rng.integers(0, 500, 10))
        changes = bank.update(keys, MONDAY_S + 3600.0 * step + np.arange(len(keys)))
        alive |= set(keys.tolist())
        alive -= set(changes.evicted.tolist()) - set(keys.tolist())
        alive = {key for key in alive if key in bank}
        assert len(bank) == len(alive) <= 64


def test_bank_survives_its_bytes():
    rng = np.random.default_rng(5)
    bank = fed(PeriodicityBank(), {k: clock(rng, DAY_S) for k in range(30)})
    bank.examine(30, bank.latest_s)
    twin = PeriodicityBank.from_bytes(bank.to_bytes())
    assert twin.to_bytes() == bank.to_bytes()
    more = MONDAY_S + 95 * DAY_S + np.arange(40.0)
    bank.update(np.arange(40), more)
    twin.update(np.arange(40), more)
    assert [twin.detect(k) for k in range(40)] == [bank.detect(k) for k in range(40)]


def test_bytes_hold_the_times_and_not_the_room_for_more():
    bank, keys = PeriodicityBank(), np.arange(2_000)
    bank.update(np.repeat(keys, 2), np.tile([1e6, 2e6], 2_000))
    assert len(bank.to_bytes()) < 60 * len(keys)


def test_keys_with_few_events_take_little_memory_and_others_what_they_need():
    few, many = PeriodicityBank(), PeriodicityBank()
    keys = np.arange(2_000)
    few.update(np.tile(keys, 8), np.repeat(1e6 * np.arange(1, 9), 2_000))
    many.update(np.tile(keys, 9), np.repeat(1e6 * np.arange(1, 10), 2_000))
    assert few.nbytes < 130 * len(keys) < many.nbytes < 400 * len(keys)


def test_bytes_of_rings_with_their_room_are_read_too():
    bank, rng = PeriodicityBank(), np.random.default_rng(3)
    bank.update(np.append(rng.integers(0, 9, 2_000), [9, 9]), np.sort(rng.uniform(0, 4e6, 2_002)))
    rings, progress = bank._rings, bank_state.Progress(len(bank), bank._hand, bank._batch, bank.evicted_keys)
    held = {name: getattr(rings, name)[: len(bank)].copy() for name in event_rings.ROW_FIELDS}
    held["ring"], held["head"] = np.zeros((10, 64), np.uint32), rng.integers(0, 64, 10).astype(np.uint8)
    for slot in range(10):
        times = event_rings.times_of(rings, slot)
        held["ring"][slot, (held["head"][slot] + np.arange(len(times))) % 64] = times
    rows = {name: column.tobytes() for name, column in held.items()}
    population = bank_state.encode_population(bank._population)
    old = msgspec.msgpack.encode([1, bank.settings, population, rows, progress, {}])
    assert PeriodicityBank.from_bytes(old).to_bytes() == bank.to_bytes()


def test_keys_and_population_survive_a_changelog():
    rng = np.random.default_rng(6)
    bank = fed(PeriodicityBank(), {k: clock(rng, DAY_S) for k in range(30)})
    bank.examine(30, bank.latest_s)
    twin = PeriodicityBank()
    for key in range(30):
        twin.key_from_bytes(key, bank.key_to_bytes(key))
    twin.population_from_bytes(bank.population_to_bytes())
    assert [twin.detect(k) for k in range(30)] == [bank.detect(k) for k in range(30)]
    assert [twin.published(k) for k in range(30)] == [bank.published(k) for k in range(30)]
    with pytest.raises(KeyError):
        bank.key_to_bytes(99)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\x94\xc4\x03abc\x01\x00\xcb\x00\x00\x00\x00\x00\x00\x00\x00"])
def test_foreign_bytes_are_refused(data):
    bank = PeriodicityBank()
    for read in (lambda: bank.key_from_bytes(1, data), lambda: bank.population_from_bytes(data)):
        with pytest.raises(ValueError, match="data"):
            read()
    with pytest.raises(ValueError, match="data"):
        PeriodicityBank.from_bytes(data)
    assert len(bank) == 0


@pytest.mark.parametrize("name", ["min_period_s", "max_p_value", "max_keys", "merge_gap_s", "calendar_prior"])
def test_settings_out_of_range_name_themselves(name):
    with pytest.raises(ValueError, match=name):
        PeriodicitySettings(**{name: -1})
