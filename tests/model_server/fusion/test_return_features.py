"""On a CPU the features of the own items come of kernels; they are those of the chain of operations."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from model_server.catalogue import Catalogue
from model_server.fusion.batch import UserBatch, gather_users
from model_server.fusion.cpu_returning import return_features_on_cpu
from model_server.fusion.network import ReturnNetwork, vote
from model_server.fusion.returning import ReturnFeatures, return_features
from model_server.histories import WEEK_S, Histories
from schemas.events import Item

CPU = torch.device("cpu")
USERS, ITEMS, DAY_S = 9, 12, 86400.0


def visited_town(seed: int, events: int) -> tuple[UserBatch, UserBatch, Catalogue]:
    """Users with up to so many events, some within minutes and some weeks apart; standing and for a known time."""
    rng = np.random.default_rng(seed)
    catalogue, histories = Catalogue(CPU), Histories(CPU, length=40)
    catalogue.upsert(
        [
            Item(
                item_id=f"i{n}",
                categories=[f"c{n % 3}"] if n % 5 else [],
                lat=40.7 + 0.01 * n if n % 4 else None,
                lon=-74.0 if n % 4 else None,
            )
            for n in range(ITEMS)
        ]
    )
    slots = histories.slots_of([f"u{n}" for n in range(USERS)])
    time_s = torch.full((USERS,), 1.3e9, dtype=torch.float64)
    for event in range(events):
        time_s = time_s + torch.tensor(30 * DAY_S * rng.random(USERS) ** 6)
        some = torch.tensor(rng.random(USERS) < (0.7 if event else 1.0))
        rows = torch.tensor(rng.integers(0, ITEMS, USERS))
        histories.append(slots[some], rows[some], time_s[some], (time_s[some] % WEEK_S).float())
    asked_s = time_s + torch.tensor(3 * DAY_S * rng.random(USERS))
    standing, timed = (gather_users(histories, ITEMS, slots, now_s=now_s) for now_s in (None, asked_s))
    return standing, timed, catalogue


def assert_same(found: ReturnFeatures, expected: ReturnFeatures) -> None:
    for each in fields(ReturnFeatures):
        torch.testing.assert_close(getattr(found, each.name), getattr(expected, each.name), rtol=5e-6, atol=5e-6)


@pytest.mark.parametrize("events", [1, 2, 60], ids=["one event", "two events", "more than is remembered"])
@pytest.mark.parametrize("seed", range(3))
def test_the_kernels_give_the_features_of_the_chain_of_operations(seed: int, events: int) -> None:
    standing, timed, catalogue = visited_town(seed, events)
    for batch in (standing, timed):
        assert_same(return_features_on_cpu(batch, catalogue), return_features(batch, catalogue))


def test_an_item_that_is_not_in_the_catalogue_is_refused() -> None:
    batch, _, _ = visited_town(0, 5)
    with pytest.raises(IndexError, match="not in the catalogue"):
        return_features_on_cpu(batch, Catalogue(CPU))


@pytest.mark.parametrize("deep", [True, False])
def test_networks_that_vote_side_by_side_say_and_learn_what_each_does_alone(deep: bool) -> None:
    torch.manual_seed(0)
    _, batch, catalogue = visited_town(1, 30)
    networks = [ReturnNetwork(timed=True, deep=deep) for _ in range(3)]
    own_weights = torch.randn(USERS, 3, len(networks[0].weights))
    for network in networks:
        torch.nn.init.normal_(network.out.weight)
        for table in network.tables():
            table.ensure(ITEMS)
    # In double precision: the gradients are sums in which large terms cancel, in another order here and there.
    for network in networks:
        network.double()
    single = return_features_on_cpu(batch, catalogue)
    columns = {each.name: getattr(single, each.name) for each in fields(ReturnFeatures)}
    known = ReturnFeatures(**{name: c.double() if c.is_floating_point() else c for name, c in columns.items()})
    own_weights = own_weights.double()
    together = vote(networks, batch, known, catalogue, own_weights.flatten(1))
    together.square().sum().backward()
    learned = [[parameter.grad for parameter in network.parameters()] for network in networks]
    for number, network in enumerate(networks):
        network.zero_grad()
        alone = vote([network], batch, known, catalogue, own_weights[:, number])
        alone.square().sum().backward()
        torch.testing.assert_close(together[number], alone[0])
        gradients = [parameter.grad for parameter in network.parameters()]
        torch.testing.assert_close(learned[number], gradients)
