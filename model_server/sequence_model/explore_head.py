"""The explore head: which item of the catalogue that is new to the user comes next, if one of them.

Letters in the shape comments: B queries, M own items, N catalogue rows, d model width.
"""

import math

import torch
from torch import Tensor, nn

from model_server.sequence_model import relations as rel
from model_server.sequence_model.cpu_exploring import distance_buckets_on_cpu
from model_server.sequence_model.item_table import ItemTable
from model_server.sequence_model.lookup import lookup
from model_server.sequence_model.memory import History
from model_server.sequence_model.settings import ModelSettings


class ExploreHead(nn.Module):
    """Scores catalogue items: state . item + bias + popularity + distance from the last place (by wait, if that is known)."""

    def __init__(self, settings: ModelSettings, mode: str) -> None:
        super().__init__()
        d = settings.dim
        self.timed = mode == "request"
        near = [-0.6 * math.log1p(km / 0.3) for km in (0.0, *rel.DISTANCE_EDGES_KM)] + [
            -5.0,
            -2.0,
        ]  # same item, unknown
        copies = rel.WAIT_BUCKETS if self.timed else 1
        self.distance = nn.Parameter(torch.tensor(near).repeat_interleave(copies)[:, None])
        self.popularity = nn.Parameter(torch.tensor(0.6))
        self.query = nn.Sequential(nn.Linear(d, d), nn.SiLU(), nn.Linear(d, d))
        if self.timed:
            self.hour = nn.Embedding(48, d)
            self.wait = nn.Embedding(rel.AGE_BUCKETS, d)
            nn.init.normal_(self.hour.weight, std=0.02)
            nn.init.normal_(self.wait.weight, std=0.02)

    def query_vector(self, state: Tensor, history: History, query_time_s: Tensor | None) -> Tensor:
        """[B, d]: the state and, if it is known, the time that is asked about."""
        if query_time_s is not None:
            offset = history.local_s[:, -1] - history.time_s[:, -1]
            wait = rel.log_bucket(query_time_s - history.time_s[:, -1])
            state = state + self.hour(rel.hour_of_week_kind(query_time_s + offset)) + self.wait(wait)
        out: Tensor = self.query(state) + state
        return out

    def prior(self, history: History, query_time_s: Tensor | None, items: ItemTable, rows: Tensor) -> Tensor:
        """Bias + popularity + distance logits of catalogue rows ([N] or [B, M], -1: none); [B, N] or [B, M]."""
        return self.near(history, query_time_s, items, rows) + self.bias(items, rows) + self.fame(items, rows)

    def near(self, history: History, query_time_s: Tensor | None, items: ItemTable, rows: Tensor) -> Tensor:
        """The logits of the distance from the last place."""
        lat, lon, last = history.lat[:, -1:], history.lon[:, -1:], history.items[:, -1:]
        if rows.device.type == "cpu":
            bucket = distance_buckets_on_cpu(rows, lat[:, 0], lon[:, 0], last[:, 0], (items.lat, items.lon))
        else:
            safe = rows.clamp(min=0)
            bucket = rel.distance_bucket(lat, lon, items.lat[safe], items.lon[safe])
            bucket = torch.where(rows == last, rel.SAME, bucket)
        if query_time_s is not None:
            bucket = bucket * rel.WAIT_BUCKETS + self.column(history, query_time_s)[:, None]
        return lookup(bucket, self.distance).squeeze(-1)

    def distance_table(self) -> Tensor:
        """The logits by bucket of the distance and by ``column``, [DISTANCE_BUCKETS, columns]."""
        return self.distance.view(rel.DISTANCE_BUCKETS, -1)

    def column(self, history: History, query_time_s: Tensor | None) -> Tensor:
        """Which column of ``distance_table`` speaks of each query, int64 [B]: by the wait, if the time is known."""
        if query_time_s is None:
            return torch.zeros_like(history.items[:, -1])
        return rel.wait_bucket((query_time_s - history.time_s[:, -1]).clamp(min=0))

    def bias(self, items: ItemTable, rows: Tensor) -> Tensor:
        """The items' own logits, same shape as ``rows``."""
        out: Tensor = items.bias(torch.where(rows >= 0, items.slot_of[rows.clamp(min=0)], 0)).squeeze(-1)
        return out

    def fame(self, items: ItemTable, rows: Tensor) -> Tensor:
        """The logits of popularity, same shape as ``rows``."""
        return self.popularity * torch.log(items.touches[rows.clamp(min=0)] + 0.3)
