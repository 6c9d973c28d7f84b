"""Experts on the items that the user has not touched yet: features of [users, candidates]."""

import torch
from torch import Tensor

from model_server.catalogue import Catalogue
from model_server.fusion.batch import HOUR_S, UserBatch

NAMES = (
    "popularity", "trend", "distance", "distance", "covisit", "category", "transition", "hour", "distance", "distance",
)  # fmt: skip


def explore_features(
    batch: UserBatch, catalogue: Catalogue, candidates: Tensor, covisit: Tensor, transition: Tensor, category: Tensor
) -> Tensor:
    """Features float32 [users, candidates, len(NAMES)] of catalogue rows ``candidates`` int64[candidates]."""
    here = batch.last_row[:, None]
    km = catalogue.distance_km(here, candidates[None])
    log_km, close = torch.log1p(km / 0.3), torch.exp(-km / 0.4)
    moving = torch.exp(-batch.gap_s / HOUR_S)[:, None] if batch.timed else torch.zeros_like(km[:, :1])
    visitors, touches = catalogue.visitors[candidates], catalogue.touches[candidates]
    now_bin = (batch.now_week_s / HOUR_S).long() % 24
    at_hour = catalogue.hour_touches[candidates].T[now_bin]
    columns = (
        torch.log(visitors + 0.3).expand_as(km), torch.log(catalogue.recent_visitors[candidates] + 0.1).expand_as(km),
        log_km, close, covisit, category, transition, torch.log((at_hour + 0.25) / (touches + 6) * 24),
        moving * log_km, moving * close,
    )  # fmt: skip
    return torch.stack(columns, -1)
