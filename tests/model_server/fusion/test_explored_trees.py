"""Trees correct the likeliest of the places that the user does not know yet, and nothing else."""

import pytest
import torch
from torch import Tensor

from model_server.fusion import chances, explore_part, exploring
from model_server.fusion.explore_part import Circumstances, ExplorePart, ExploreScore

USERS, CANDIDATES, CPU = 16, 12, torch.device("cpu")
FEATURES = len(exploring.NAMES)


def part(without: tuple[str, ...] = ()) -> ExplorePart:
    return ExplorePart(deep=False, without=without, device=CPU)


def scored(explores: ExplorePart, seed: int) -> tuple[ExploreScore, Tensor]:
    """What is found is where two signs agree, which no single feature tells; the last candidate of each user is none."""
    random = torch.Generator().manual_seed(seed)
    features = torch.randn((USERS, CANDIDATES, FEATURES), generator=random)
    wish = (
        4.0 * (features[..., 1] * features[..., 2] > 0)
        - torch.empty(features.shape[:2]).exponential_(generator=random).log()
    )
    rows = torch.arange(CANDIDATES).repeat(USERS, 1)
    rows[:, -1] = -1
    nothing = torch.zeros(USERS)
    of_user = torch.zeros((USERS, explore_part.CIRCUMSTANCES))
    circumstances = Circumstances(torch.zeros(1).long(), torch.zeros_like(rows), nothing.long(), nothing, of_user)
    score = explores.score(rows, features, torch.full((USERS,), 0.5), circumstances)
    return score, wish[:, :-1].argmax(1)


def taught(explores: ExplorePart, batches: int = 60, first: int = 0) -> ExplorePart:
    for batch in range(batches):
        score, target = scored(explores, 100 + first + batch)
        explores.learn(score, target, torch.ones(USERS, dtype=torch.bool))
        while explores.grow():
            pass
    return explores


def loss(explores: ExplorePart) -> float:
    """The log loss on choices that were not learned from."""
    score, target = scored(explores, 1)
    return float(-score.log_p.gather(1, target[:, None]).mean())


def test_what_two_features_of_a_candidate_say_together_is_learned() -> None:
    assert loss(taught(part())) < loss(taught(part(("trees",)))) - 0.2


def test_without_trees_the_mixture_is_the_answer() -> None:
    explores = taught(part(("trees",)), 10)
    score, _ = scored(explores, 1)
    assert explores.trees is None and "trees" not in explores.state()
    torch.testing.assert_close(score.log_p, score.mixture)


def test_only_the_likeliest_are_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore_part, "CORRECTED", 4)
    score, _ = scored(taught(part()), 1)
    moved = score.log_p - score.mixture
    rest = torch.ones_like(moved, dtype=torch.bool).scatter(1, score.likely, False) & (score.rows >= 0)
    assert score.said.abs().max() > 0
    for user in range(USERS):
        assert float(moved[user][rest[user]].std()) < 1e-5, "the rest keep their shares among themselves"


def test_what_is_no_candidate_stays_impossible_and_the_rest_are_all_there_is() -> None:
    score, _ = scored(taught(part()), 1)
    assert (score.log_p[:, -1] == chances.NEVER).all()
    torch.testing.assert_close(score.log_p.exp().sum(1), torch.ones(USERS))


def test_users_that_explored_nothing_teach_the_trees_nothing() -> None:
    explores = part()
    score, target = scored(explores, 1)
    explores.learn(score, target, torch.zeros(USERS, dtype=torch.bool))
    assert explores.trees is not None and explores.trees.boosting.groups == 0


def test_trees_grow_faster_than_those_of_returns_for_discoveries_are_rare() -> None:
    batches = -(-explore_part.FIRST_GROUPS // USERS)
    early, later = taught(part(), batches), taught(part(), batches + 3)
    assert early.trees is not None and later.trees is not None
    assert early.trees.boosting.grown == 1
    assert later.trees.boosting.grown == 1 + 3 * USERS // explore_part.EVENTS_PER_TREE


def test_state_goes_on_with_the_same_trees() -> None:
    found, again = taught(part(), 20), part()
    again.load_state(found.state())
    for each in (found, again):
        taught(each, 5, first=50)
    torch.testing.assert_close(scored(found, 1)[0].log_p, scored(again, 1)[0].log_p, rtol=0, atol=0)


def test_a_state_from_before_there_were_trees_is_taken_over() -> None:
    found, again = taught(part(("trees",)), 20), part()
    older = {name: value for name, value in found.state().items() if name not in ("trees", "trust")}
    again.load_state(older)
    torch.testing.assert_close(scored(found, 1)[0].log_p, scored(again, 1)[0].log_p)
    assert loss(taught(again)) < loss(found) - 0.2


def test_how_far_the_candidates_reach_follows_a_catalogue_that_grows() -> None:
    explores = part()
    for batch in range(150):
        score, target = scored(explores, batch)
        reached = target if batch >= 100 else torch.full_like(target, CANDIDATES)
        explores.learn(score, reached, torch.ones(USERS, dtype=torch.bool))
    assert scored(explores, 0)[0].reach.mean() > 0.7
