"""People who come back to some of a hundred items, and what a ranker has learned of them."""

from collections.abc import Iterable

import numpy as np

from model_server.fusion.settings import FusionSettings
from model_server.fusion_ranker import FusionRanker
from schemas.events import BehaviorEvent


def ranker_of(user_ids: Iterable[str], sequence: str) -> FusionRanker:
    """A ranker that has learned one visit of each of these users, ten minutes after the one before."""
    rng = np.random.default_rng(2)
    ranker = FusionRanker(FusionSettings(history=64, micro_batch=32, sequence=sequence))
    ranker.observe(
        [
            BehaviorEvent(
                event_id=str(n), user_id=user_id, item_id=f"i{int(100 * rng.random() ** 2)}", action="checkin",
                event_time_ms=1_333_238_400_000 + 600_000 * n, lat=40.7 + 0.01 * rng.random(), lon=-74.0,
            )
            for n, user_id in enumerate(user_ids)
        ]
    )  # fmt: skip
    return ranker
