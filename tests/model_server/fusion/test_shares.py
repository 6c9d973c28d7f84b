"""On a CPU a kernel gives the experts the shares that the chain of operations does."""

import numpy as np
import pytest
import torch

from model_server.fusion.experts import SHARED
from model_server.fusion.head import merge
from model_server.fusion.settings import FusionSettings
from model_server.fusion.shares import _on_device, expert_shares
from model_server.fusion_ranker import FusionRanker
from schemas.events import BehaviorEvent

USERS = 7


@pytest.fixture(scope="module")
def walkers() -> FusionRanker:
    """People who come back to some of a hundred items, and what was learned of them."""
    rng = np.random.default_rng(2)
    ranker = FusionRanker(FusionSettings(history=64, micro_batch=32, sequence="nano"))
    ranker.observe(
        [
            BehaviorEvent(
                event_id=str(n), user_id=f"u{min(n, n % USERS + n % 3)}", item_id=f"i{int(100 * rng.random() ** 2)}",
                action="checkin", event_time_ms=1_333_238_400_000 + 600_000 * n, lat=40.7 + 0.01 * rng.random(), lon=-74.0,
            )
            for n in range(160)
        ]
    )  # fmt: skip
    return ranker


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
