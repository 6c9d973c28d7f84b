"""On a CPU a kernel gives the experts the shares that the chain of operations does."""

import pytest
import torch
from walkers import ranker_of

from model_server.fusion.experts import SHARED
from model_server.fusion.head import merge
from model_server.fusion.shares import _on_device, expert_shares
from model_server.fusion_ranker import FusionRanker

USERS = 7


@pytest.fixture(scope="module")
def walkers() -> FusionRanker:
    """People who come back to some of a hundred items, and what was learned of them."""
    return ranker_of([f"u{min(n, n % USERS + n % 3)}" for n in range(160)], "nano")


@pytest.mark.parametrize("mode", ["refresh", "request"])
def test_the_kernel_gives_the_shares_of_the_chain_of_operations(walkers: FusionRanker, mode: str) -> None:
    now_s = torch.full((USERS,), 1.3339e9, dtype=torch.float64) if mode == "request" else None
    scored = walkers.score(mode, torch.arange(USERS), None, now_s)  # type: ignore[arg-type]
    head = walkers._heads[mode]  # type: ignore[index]
    merged = merge(scored, walkers.catalogue.available)
    columns = merged.probability.topk(30, 1).indices
    assert bool(merged.explore.gather(1, columns).any()) and not bool(merged.explore.gather(1, columns).all())
    found, expected = expert_shares(head, scored, columns), _on_device(head, scored, columns)
    assert found.shape == (USERS, 30, len(SHARED))
    there = merged.rows.gather(1, columns) >= 0
    torch.testing.assert_close(found[there], expected[there], rtol=1e-4, atol=2e-5)
    assert bool((found[there].abs().sum(1) > 0.1).all())
