"""The gate: will the user return to an own item or explore a new one?"""

import math

import torch
from torch import Tensor

from model_server.fusion.batch import UserBatch
from model_server.histories import Histories

FEATURES = 12


def gate_features(
    batch: UserBatch, histories: Histories, top_share: Tensor, evidence: Tensor, certainty: Tensor, base_rate: float
) -> Tensor:
    """Features float32 [users, FEATURES] of the logistic gate; ``base_rate`` is everybody's share of discoveries."""
    events, found = histories.events[batch.slots].float(), histories.discoveries[batch.slots].float()
    angle = batch.now_week_s / 86400 * 2 * math.pi
    one = torch.ones_like(events)
    return torch.stack(
        (
            one, torch.log((found + 0.5) / (events - found + 1.5)), torch.log(events) / 3, 2 * top_share,
            histories.last_was_new[batch.slots].float(), one * math.log(base_rate / (1 - base_rate)),
            torch.log(evidence + 0.1) / 2, torch.log(certainty), torch.cos(angle), torch.sin(angle),
            (batch.now_week_s >= 5 * 86400).float(), torch.log((batch.gap_s + 600) / 3600) / 3,
        ),
        1,
    )  # fmt: skip
