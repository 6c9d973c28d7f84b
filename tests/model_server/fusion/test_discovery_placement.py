"""The placement of discoveries keeps its head and its budget."""

import numpy as np
import pytest
import torch
from walkers import ranker_of

from model_server.fusion.chances import foremost
from model_server.fusion.head import merge
from model_server.fusion.placement import FACTORS, LENGTH, Placement
from model_server.fusion_ranker import FusionRanker


def test_head_stays_and_discoveries_rise_below_it() -> None:
    p = torch.tensor([[0.30, 0.20, 0.10, 0.09, 0.08, 0.05, 0.04, 0.03]])
    explore = torch.tensor([[False] * 6 + [False, True]])
    order = Placement(torch.device("cpu"), 0.01).order(p, explore, 3.0)
    assert order.argsort(1, descending=True).tolist() == [[0, 1, 2, 3, 4, 7, 5, 6]]


def test_missing_candidates_stay_last() -> None:
    p = torch.tensor([[0.5, -1.0, 0.2, -1.0, 0.1, 0.05, 0.01]])
    order = Placement(torch.device("cpu"), 0.01).order(p, torch.zeros_like(p, dtype=torch.bool), 4.0)
    assert (order[p < 0] == -1).all() and (order[p >= 0] > 0).all()


def test_factor_is_the_largest_that_the_budget_allows() -> None:
    rng = np.random.default_rng(0)
    p = torch.tensor(np.sort(rng.dirichlet(np.ones(20), 400))[:, ::-1].copy()).float()
    explore = torch.zeros_like(p, dtype=torch.bool)
    explore[:, 10:] = True
    target = torch.zeros_like(p, dtype=torch.bool)
    target[:, 9] = True
    strict, generous = Placement(torch.device("cpu"), 0.0), Placement(torch.device("cpu"), 1.0)
    for _ in range(4):
        strict.learn(p, explore, target)
        generous.learn(p, explore, target)
    assert strict.factor < generous.factor == max(FACTORS)
    hits = strict.hits[FACTORS.index(strict.factor)]
    assert hits == strict.hits[0]


def test_nothing_is_lifted_before_there_is_evidence() -> None:
    assert Placement(torch.device("cpu"), 1.0).factor == 1.0


@pytest.fixture(scope="module")
def walkers() -> FusionRanker:
    """Six people who come back to some of a hundred items."""
    return ranker_of([f"u{n % 6}" for n in range(200)], "")


@pytest.mark.parametrize("factor", FACTORS)
def test_of_the_likeliest_candidates_come_the_same_lists_as_of_all(walkers: FusionRanker, factor: float) -> None:
    scored = walkers.score("refresh", torch.arange(6))
    full, short = (merge(scored, walkers.catalogue.available, most) for most in (None, LENGTH))
    assert short.rows.shape[1] < full.rows.shape[1]
    assert torch.equal(full.rows.gather(1, short.column), short.rows)
    order = Placement(torch.device("cpu"), 0.01).order
    best = [foremost(order(each.probability, each.explore, factor), LENGTH)[1] for each in (full, short)]
    assert torch.equal(full.rows.gather(1, best[0]), short.rows.gather(1, best[1]))
    assert torch.equal(best[0], short.column.gather(1, best[1]))
