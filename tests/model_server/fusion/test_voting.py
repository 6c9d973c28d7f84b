"""On a CPU kernels ask the networks of returning and weigh what is in a group; they say what the chains of operations say."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from model_server.catalogue import Catalogue
from model_server.fusion.batch import UserBatch, gather_users
from model_server.fusion.cpu_grouping import grouped_log_softmax_on_cpu
from model_server.fusion.linear import grouped_log_softmax
from model_server.fusion.return_part import ReturnPart
from model_server.histories import WEEK_S, Histories
from schemas.events import Item

CPU = torch.device("cpu")
USERS, ITEMS, DAY_S = 9, 12, 86400.0


def a_town(seed: int, events: int, timed: bool) -> tuple[UserBatch, Catalogue]:
    rng = np.random.default_rng(seed)
    catalogue, histories = Catalogue(CPU), Histories(CPU, length=40)
    catalogue.upsert([Item(item_id=f"i{n}", categories=[f"c{n % 3}"] if n % 5 else []) for n in range(ITEMS)])
    slots = histories.slots_of([f"u{n}" for n in range(USERS)])
    time_s = torch.full((USERS,), 1.3e9, dtype=torch.float64)
    for event in range(events):
        time_s = time_s + torch.tensor(30 * DAY_S * rng.random(USERS) ** 6)
        some = torch.tensor(rng.random(USERS) < (0.7 if event else 1.0))
        rows = torch.tensor(rng.integers(0, ITEMS, USERS))
        histories.append(slots[some], rows[some], time_s[some], (time_s[some] % WEEK_S).float())
    return gather_users(histories, ITEMS, slots.flip(0), now_s=time_s.flip(0) + 5000.0 if timed else None), catalogue


def a_part(seed: int, timed: bool, deep: bool = True) -> ReturnPart:
    """Networks and weights of users that say something, for the town."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        part = ReturnPart(timed, deep, (), CPU)
        part.reserve(ITEMS, 4, USERS)
        with torch.no_grad():
            for parameter in part.networks.parameters():
                parameter += 0.2 * torch.randn(parameter.shape)
        part.user_weights.weights += 0.2 * torch.randn(part.user_weights.weights.shape)
    return part


def chain(part: ReturnPart, batch: UserBatch, catalogue: Catalogue) -> Tensor:
    known, own = part.features(batch, catalogue), part.user_weights.weights[batch.slots]
    with torch.no_grad():
        votes = part._log_p(batch, known, catalogue, own)
    return torch.logsumexp(votes, 0) - math.log(len(votes))


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("events", [1, 2, 60], ids=["one event", "two events", "more than is remembered"])
def test_the_kernels_vote_as_the_chain_of_operations(events: int, timed: bool, deep: bool) -> None:
    batch, catalogue = a_town(events, events, timed)
    part = a_part(1, timed, deep)
    found = part._voted(batch, part.features(batch, catalogue), catalogue)
    torch.testing.assert_close(found, chain(part, batch, catalogue), rtol=1e-5, atol=1e-5)


def test_what_the_networks_learn_is_heard_at_once() -> None:
    batch, catalogue = a_town(3, 20, False)
    part = a_part(2, False)
    known = part.features(batch, catalogue)
    before = part._voted(batch, known, catalogue)
    part.learn_network(batch, known, catalogue, batch.last_row)
    after = part._voted(batch, known, catalogue)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, chain(part, batch, catalogue), rtol=1e-5, atol=1e-5)
    other = a_part(9, False)
    other._voted(batch, known, catalogue)
    other.load_state(part.state())
    torch.testing.assert_close(other._voted(batch, known, catalogue), after)


def test_a_row_without_room_in_a_table_is_refused() -> None:
    batch, catalogue = a_town(3, 20, False)
    part = a_part(2, False)
    part._members()[0].item.weight = torch.nn.Parameter(torch.zeros(2, 8))
    with pytest.raises(IndexError, match="no room"):
        part._voted(batch, part.features(batch, catalogue), catalogue)


@pytest.mark.parametrize("n", [0, 1, 200])
def test_within_groups_the_kernel_gives_the_softmax_of_the_chain(n: int) -> None:
    rng = np.random.default_rng(n)
    logits, group = torch.tensor(40 * rng.normal(size=n), dtype=torch.float32), torch.tensor(rng.integers(0, 30, n))
    expected = grouped_log_softmax(logits.clone().requires_grad_(), group, 40).detach()
    torch.testing.assert_close(grouped_log_softmax_on_cpu(logits, group, 40), expected, rtol=1e-5, atol=1e-5)


def test_what_is_no_number_spoils_its_group_alone() -> None:
    found = grouped_log_softmax(torch.tensor([0.0, float("nan"), 1.0]), torch.tensor([0, 0, 1]), 2)
    assert found.isnan().tolist() == [True, True, False] and found[2] == 0.0


def test_a_group_that_does_not_exist_is_refused() -> None:
    with pytest.raises(IndexError, match="no such group"):
        grouped_log_softmax(torch.zeros(1), torch.tensor([3]), 3)
