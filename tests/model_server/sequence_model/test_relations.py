"""Relations compare a query with remembered events, and a standing query cannot see later times."""

import numpy as np
import pytest
import torch

from model_server.sequence_model import relations as rel
from model_server.sequence_model.cpu_exploring import distance_buckets_on_cpu
from model_server.sequence_model.memory import DAY_S, Events, UserMemory
from model_server.sequence_model.model import OwnItems

MONDAY_NOON_S = 4 * DAY_S + 12 * 3600.0


@pytest.fixture
def memory() -> UserMemory:
    rng = np.random.default_rng(0)
    memory = UserMemory(32)
    lat, lon = 40.7 + 0.1 * rng.random(60), -74 + 0.1 * rng.random(60)
    memory.append(
        Events.of(rng.integers(0, 3, 60), rng.integers(0, 9, 60), np.sort(rng.random(60)) * 30 * DAY_S, lat, lon)
    )
    return memory


def test_every_bucket_lies_within_its_table(memory: UserMemory) -> None:
    users = torch.arange(3)
    history = memory.history(users, memory.count[users], 32)
    own = OwnItems.of(history)
    for time_s in (None, history.time_s[:, -1] + 5.0, history.time_s[:, -1] + 400 * DAY_S):
        sizes = rel.STANDING_RELATIONS | (rel.REQUEST_RELATIONS if time_s is not None else {})
        buckets = rel.relations(history, own.latest, time_s)
        assert buckets.keys() == sizes.keys()
        for name, bucket in buckets.items():
            assert int(bucket.min()) >= 0 and int(bucket.max()) < sizes[name], name


def test_a_missing_place_is_unknown_not_near() -> None:
    nan = torch.tensor(float("nan"))
    assert rel.distance_bucket(nan, nan, torch.tensor(1.0), torch.tensor(1.0)) == rel.UNKNOWN


def test_distance_is_right_within_a_city() -> None:
    a, b = torch.tensor([40.7128, -74.0060]), torch.tensor([40.7812, -73.9665])
    assert abs(rel.distance_km(a[0], a[1], b[0], b[1]).item() - 8.305) < 0.05  # the haversine distance


def test_the_clock_is_circular_and_weekends_differ() -> None:
    late, early = torch.tensor(23.9 * 3600).double(), torch.tensor(DAY_S + 0.1 * 3600).double()
    assert rel.clock_bucket(late, early) == rel.clock_bucket(early, late) <= 3
    monday = torch.tensor(MONDAY_NOON_S).double()
    assert rel.is_weekend(monday - DAY_S) and not rel.is_weekend(monday)
    assert rel.hour_of_week_kind(monday) == 12 and rel.hour_of_week_kind(monday - DAY_S) == 36


def test_own_items_group_the_events_of_each_item() -> None:
    memory = UserMemory(8)
    memory.append(Events.of(np.array([0, 0, 0, 0, 1]), np.array([4, 2, 4, 9, 3]), np.arange(5.0)))
    own = OwnItems.of(memory.history(torch.tensor([0, 1]), torch.tensor([4, 1]), 8))
    assert own.rows[0, :3].tolist() == [2, 4, 9] and own.rows[1].tolist().count(-1) == own.rows.shape[1] - 1
    assert own.rows[0].gather(0, own.column[0]).tolist() == [4, 2, 4, 9]
    assert own.latest[0].tolist() == [False, True, True, True]


def test_the_kernel_finds_the_buckets_of_the_chain_of_operations() -> None:
    random = torch.Generator().manual_seed(0)
    lat, lon = 40 + torch.rand(9, generator=random), -74 + torch.rand(9, generator=random)
    places = (40 + torch.rand(400, generator=random), -74 + torch.rand(400, generator=random))
    lat[1] = places[0][2] = torch.nan
    last, everything = torch.arange(9), torch.arange(400)
    expected = rel.distance_bucket(lat[:, None], lon[:, None], *places)
    expected[last, last] = rel.SAME
    found = distance_buckets_on_cpu(everything, lat, lon, last, places)
    assert torch.equal(found, expected) and len(found.unique()) > 10
    some = torch.randint(0, 400, (9, 30), generator=random)
    assert torch.equal(distance_buckets_on_cpu(some, lat, lon, last, places), expected.gather(1, some))
