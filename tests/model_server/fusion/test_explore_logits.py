"""What a kernel says of the candidates is what the weights and the network that are learned say."""

import pytest
import torch
from torch import Tensor

from model_server.fusion.cpu_logits import explore_logits_on_cpu
from model_server.fusion.explore_part import Circumstances, ExplorePart
from model_server.fusion.exploring import NAMES, ExploreNetwork

CPU = torch.device("cpu")


def some_network(seed: int) -> ExploreNetwork:
    """One that has a say: a fresh one gives nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ExploreNetwork()
        torch.nn.init.normal_(network.out.weight)
        torch.nn.init.normal_(network.out.bias)
    return network


def some_features(seed: int, users: int, candidates: int) -> Tensor:
    """Like those of candidates, some of which are far away."""
    random = torch.Generator().manual_seed(seed)
    features = 3 * torch.randn(users, candidates, len(NAMES), generator=random)
    features[:, ::7] *= 20
    return features


@pytest.mark.parametrize("candidates", [0, 1, 15, 700])
@pytest.mark.parametrize("side_by_side", [False, True])
def test_the_kernel_says_what_the_weights_and_the_network_say(candidates: int, side_by_side: bool) -> None:
    features, network = some_features(3, 5, candidates), some_network(1)
    weights = torch.randn(len(NAMES), generator=torch.Generator().manual_seed(2))
    if side_by_side:
        features = features.transpose(1, 2).contiguous().transpose(1, 2)
    found = explore_logits_on_cpu(features, weights, network)
    torch.testing.assert_close(found, (features @ weights + network(features)).detach(), rtol=1e-5, atol=1e-4)


def test_features_that_are_not_numbers_give_logits_that_are_not() -> None:
    features = some_features(0, 2, 40)
    features[1, 30, 4] = float("nan")
    found = explore_logits_on_cpu(features, torch.zeros(len(NAMES)), some_network(0))
    assert found.isnan().nonzero().tolist() == [[1, 30]]


def test_candidates_are_scored_by_what_was_learned_of_them() -> None:
    part = ExplorePart(deep=True, without=("trees",), device=CPU)
    part.network = some_network(5)
    rows, features = torch.arange(30).expand(4, 30), some_features(6, 4, 30)
    circumstances = Circumstances(
        torch.zeros(rows.shape[1] + 1).long(), rows, torch.zeros(4).long(), torch.zeros(4), torch.zeros(4, 0)
    )
    score = part.score(rows, features, torch.full((4,), 0.5), circumstances)
    with torch.no_grad():
        again = part.score(rows, features, torch.full((4,), 0.5), circumstances)
    assert score.log_p.requires_grad
    torch.testing.assert_close(again.log_p, score.log_p.detach(), rtol=1e-5, atol=1e-4)
