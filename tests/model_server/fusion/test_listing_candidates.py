"""On a CPU a kernel looks up the candidates and what kinds a user likes; it finds what the chains of operations find."""

import numpy as np
import pytest
import torch

from model_server.catalogue import Catalogue
from model_server.fusion.batch import HOUR_S, UserBatch, gather_users
from model_server.fusion.candidates import Shortlist
from model_server.fusion.cpu_liking import category_lifts_on_cpu
from model_server.fusion.cpu_rows import LINE
from model_server.fusion.exploring import category_lifts
from model_server.histories import WEEK_S, Histories
from model_server.neighbours import ItemNeighbours
from model_server.patterns import PatternStore
from model_server.visits import DAY_PARTS, VisitCounts
from schemas.events import Item

CPU = torch.device("cpu")
USERS, ITEMS = 12, 1500


def a_town(seed: int) -> tuple[UserBatch, Catalogue, VisitCounts, Shortlist]:
    """Visits at some of many places, a few of which nobody has told, with what leads from one to another."""
    rng = np.random.default_rng(seed)
    catalogue, histories, visits = Catalogue(CPU), Histories(CPU, length=20), VisitCounts(CPU)
    catalogue.upsert([Item(item_id=f"i{n}", categories=[f"c{n % 70}"] if n % 9 else []) for n in range(ITEMS)])
    patterns, neighbours = PatternStore(catalogue, CPU), ItemNeighbours(CPU)
    patterns.reserve()
    neighbours.lists.reserve(ITEMS)
    shortlist = Shortlist(catalogue, visits, patterns, neighbours)
    placed = np.flatnonzero(np.arange(ITEMS) % 7)
    shortlist.place(placed, 40.6 + rng.random(len(placed)) / 5, -74.1 + rng.random(len(placed)) / 5)
    slots = histories.slots_of([f"u{n}" for n in range(USERS)])
    for event in range(6):
        rows = torch.tensor(rng.integers(0, ITEMS, USERS))
        some = torch.tensor(rng.random(USERS) < (0.5 if event else 1.0))
        time_s = torch.full((USERS,), 1.3e9 + 7000.0 * event, dtype=torch.float64)[some]
        week_s = (time_s % WEEK_S).float()
        histories.append(slots[some], rows[some], time_s, week_s)
        new = torch.ones(len(time_s), dtype=torch.bool)
        visits.add(rows[some], catalogue.category[rows[some]], new, time_s, week_s / HOUR_S % 24)
        for row in rows.tolist():
            patterns.covisits.put(row, rng.integers(0, ITEMS, 3).tolist(), [0.5, 0.4, 0.3])
            patterns.transitions.put(row, rng.integers(0, ITEMS, 2).tolist(), [0.5, 0.4])
    return gather_users(histories, ITEMS, slots), catalogue, visits, shortlist


@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_lists_the_candidates_of_the_chain_of_operations(seed: int) -> None:
    batch, _, _, shortlist = a_town(seed)
    further = torch.tensor(np.random.default_rng(seed).integers(-1, ITEMS, (USERS, 9)))
    linked = batch.recent_rows[:, :3]
    for more in (None, further):
        found, expected = shortlist.of(batch, more), shortlist._on_device(batch, linked, more)
        padding = found.shape[1] - expected.shape[1]
        assert found[:, padding:].tolist() == expected.tolist()
        assert 0 <= padding < LINE and found.shape[1] % LINE == 0 and bool((found[:, :padding] == -1).all())


def test_a_row_beyond_the_catalogue_is_not_listed() -> None:
    batch, _, _, shortlist = a_town(0)
    with pytest.raises(IndexError, match="not in the catalogue"):
        shortlist.of(batch, torch.full((USERS, 1), ITEMS))


@pytest.mark.parametrize("users", [1, USERS])
def test_the_kernel_knows_the_tastes_of_the_chain_of_operations(users: int) -> None:
    batch, catalogue, visits, _ = a_town(users)
    hour = (batch.now_week_s / HOUR_S).long() % DAY_PARTS
    found = torch.from_numpy(category_lifts_on_cpu(batch, catalogue, visits, hour.numpy()))
    expected = torch.stack(category_lifts(batch, catalogue, visits, hour), 2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_kind_that_the_catalogue_does_not_name_is_refused() -> None:
    batch, catalogue, visits, _ = a_town(0)
    del catalogue.category_names[3:]
    with pytest.raises(IndexError, match="category is not in the catalogue"):
        category_lifts_on_cpu(batch, catalogue, visits, np.zeros(USERS, np.int64))
