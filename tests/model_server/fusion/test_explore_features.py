"""The features of a candidate are its own, whatever else is among the candidates."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from model_server.catalogue import Catalogue
from model_server.fusion.batch import gather_users
from model_server.fusion.candidates import Shortlist
from model_server.fusion.cpu_features import CpuExploring, PublicRows
from model_server.fusion.crowds import Crowds
from model_server.fusion.exploring import NAMES, explore_features
from model_server.fusion.head import Head, World
from model_server.fusion.settings import FusionSettings
from model_server.histories import Histories
from model_server.neighbours import ItemNeighbours
from model_server.patterns import PatternStore
from model_server.visits import VisitCounts
from schemas.events import Item
from schemas.patterns import ClusterUpdate

CPU = torch.device("cpu")
USERS = 7
COVISIT = NAMES.index("covisit")


@dataclass
class Town:
    """Items, some without a place or a category, what is known of them, and users with a few events each."""

    catalogue: Catalogue
    visits: VisitCounts
    patterns: PatternStore
    neighbours: ItemNeighbours
    crowds: Crowds
    public: PublicRows
    histories: Histories

    def features(self, candidates: Tensor, sequence: Tensor, now_s: float | None) -> tuple[Tensor, Tensor]:
        """By the kernel, and by the chain of operations that says what they are."""
        now = None if now_s is None else torch.full((USERS,), now_s, dtype=torch.float64)
        batch = gather_users(self.histories, len(self.catalogue), torch.arange(USERS), now_s=now)
        known = (batch, self.catalogue, self.visits, self.patterns, self.neighbours)
        found = CpuExploring(*known, self.public).features(candidates, sequence)
        return found, explore_features(*known, self.crowds, candidates, sequence, ascending=False)


def town(seed: int, items: int = 60) -> Town:
    rng = np.random.default_rng(seed)
    catalogue = Catalogue(CPU)
    catalogue.upsert(
        [
            Item(
                item_id=f"i{n}",
                categories=[f"c{rng.integers(0, 5)}"] if rng.random() < 0.8 else [],
                lat=40.7 + 0.1 * rng.random() - 60 * (n % 7 == 0) if n % 4 else None,
                lon=-74.0 + 0.1 * rng.random() if n % 4 else None,
            )
            for n in range(items)
        ]
    )
    patterns, neighbours, crowds = PatternStore(catalogue, CPU), ItemNeighbours(CPU), Crowds(CPU)
    for row in range(0, items, 2):
        for lists in (patterns.transitions, patterns.covisits):
            lists.put(row, rng.permutation(items)[:9].tolist(), rng.random(9).tolist())
    visited, time_s = torch.tensor(rng.integers(0, items, 400)), torch.tensor(np.sort(rng.uniform(1e9, 1.01e9, 400)))
    neighbours.add(visited, torch.tensor(rng.integers(-1, items, (400, 4))))
    crowds.around[:items] = torch.tensor(rng.poisson(2, items)).float()
    visits, hours = VisitCounts(CPU), torch.tensor(rng.uniform(0, 24, 400)).float()
    visits.add(visited, catalogue.category[visited], torch.tensor(rng.random(400) < 0.5), time_s, hours)
    histories = Histories(CPU, length=32)
    users = histories.slots_of([f"u{n}" for n in (*range(USERS), *rng.integers(0, USERS, 393))])
    histories.append(users, visited, time_s, time_s.remainder(604800).float())
    return Town(catalogue, visits, patterns, neighbours, crowds, PublicRows(visits, crowds), histories)


@pytest.mark.parametrize("now_s", [None, 1.02e9])
@pytest.mark.parametrize("items", [60, 900], ids=["more candidates than rows", "more rows than candidates"])
@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_gives_the_features_of_the_chain_of_operations(seed: int, items: int, now_s: float | None) -> None:
    random = torch.Generator().manual_seed(seed)
    candidates = torch.rand((USERS, items), generator=random).argsort(1)[:, :50]
    candidates[torch.rand(candidates.shape, generator=random) < 0.2] = -1
    candidates[USERS - 1] = -1
    found, expected = town(seed, items).features(candidates, torch.randn(candidates.shape, generator=random), now_s)
    usable = candidates >= 0
    torch.testing.assert_close(found[usable], expected[usable], rtol=2e-6, atol=2e-6)
    assert not bool(found[~usable].any())


def test_no_candidates_have_no_features() -> None:
    nobody = torch.zeros((USERS, 0))
    place = town(0)
    batch = gather_users(place.histories, len(place.catalogue), torch.arange(USERS))
    known = (batch, place.catalogue, place.visits, place.patterns, place.neighbours, place.public)
    assert CpuExploring(*known).features(nobody.long(), nobody).shape == (USERS, 0, len(NAMES))


def test_what_is_kept_of_the_rows_is_made_again_when_visits_and_crowds_change() -> None:
    place, candidates = town(0), torch.arange(60).expand(USERS, 60)
    silence = torch.zeros(candidates.shape)
    before, _ = place.features(candidates, silence, None)
    row, now_s = torch.tensor([3]), torch.tensor([1.011e9], dtype=torch.float64)
    place.visits.add(row, place.catalogue.category[row], torch.tensor([True]), now_s, torch.tensor([9.0]))
    visited, expected = place.features(candidates, silence, None)
    torch.testing.assert_close(visited, expected, rtol=2e-6, atol=2e-6)
    crowd = ClusterUpdate(
        cluster_id="c", version=1, change="born", event_time_ms=1, born_at_ms=1, lat=40.7, lon=-74.0, radius_m=5e4,
        count=9, distinct_users=9, top_items=[],
    )  # fmt: skip
    place.crowds.update(crowd, row, place.catalogue)
    crowded, expected = place.features(candidates, silence, None)
    torch.testing.assert_close(crowded, expected, rtol=2e-6, atol=2e-6)
    assert not torch.equal(before, visited) and not torch.equal(visited, crowded)


@pytest.mark.parametrize("items", [60, 900])
def test_what_could_not_be_made_of_the_rows_is_made_the_next_time(items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(public: PublicRows, rows: Tensor) -> Tensor:
        raise MemoryError

    place, candidates = town(0, items), torch.arange(60).expand(USERS, 60)
    silence = torch.zeros(candidates.shape)
    with monkeypatch.context() as patched:
        patched.setattr(PublicRows, "of", out_of_memory)
        with pytest.raises(MemoryError):
            place.features(candidates[:1], silence, None)
    found, expected = place.features(candidates, silence, None)
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=2e-6)


def test_what_is_not_in_the_catalogue_is_refused() -> None:
    place = town(0)
    beyond = torch.full((USERS, 2), len(place.catalogue))
    with pytest.raises(IndexError, match="not in the catalogue"):
        place.features(beyond, torch.zeros(beyond.shape), None)
    place.neighbours.lists.weights = place.neighbours.lists.weights[:10]
    with pytest.raises(IndexError, match="fewer rows"):
        place.features(beyond * 0, torch.zeros(beyond.shape), None)


def test_a_user_has_the_same_features_alone_and_beside_others_with_more_candidates() -> None:
    place = town(1, items=900)
    for row in range(900):
        place.patterns.covisits.put(row, [0], [0.5])
    shortlist = Shortlist(place.catalogue, place.visits, place.patterns, place.neighbours)
    rows = np.arange(0, 900, 3)
    shortlist.place(rows, 40.7 + rows / 9000, np.full(len(rows), -74.0))
    world = World(
        place.catalogue, place.histories, place.visits, place.patterns, place.neighbours, place.crowds, place.public,
        shortlist,
    )  # fmt: skip
    head = Head("refresh", FusionSettings(sequence=""), CPU)
    together = head.score(world, torch.arange(USERS), None, None, None).exploring
    assert bool((together.rows == 0).any()) and bool((together.rows[:, 0] < 0).any())
    for user in range(USERS):
        alone = head.score(world, torch.tensor([user]), None, None, None).exploring
        mine = together.rows[user] >= 0
        assert together.rows[user, mine].tolist() == alone.rows[alone.rows >= 0].tolist()
        torch.testing.assert_close(together.features[user, mine], alone.features[alone.rows >= 0])
        at_first = together.features[user, together.rows[user] == 0]
        torch.testing.assert_close(at_first[:, COVISIT], torch.full((len(at_first),), 0.501).log())
