"""The transducer: event tokens in, one state per event out, by HSTU layers (Zhai et al., ICML 2024, arXiv 2402.17152).

Letters in the shape comments: S sequences, L tokens, d model width, H attention heads.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_server.sequence_model import relations as rel
from model_server.sequence_model.lookup import lookup
from model_server.sequence_model.memory import History
from model_server.sequence_model.settings import ModelSettings


class HSTULayer(nn.Module):
    """Pointwise (SiLU, not softmax) attention with relative time and distance bias, gated by its own input."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        d, self.heads, self.scale = settings.dim, settings.heads, settings.window
        self.norm = nn.LayerNorm(d)
        self.uvqk = nn.Linear(d, 4 * d)
        self.out_norm = nn.LayerNorm(d)
        self.out = nn.Linear(d, d)
        self.time_bias = nn.Parameter(torch.zeros(rel.AGE_BUCKETS, self.heads))
        self.distance_bias = nn.Parameter(torch.zeros(rel.DISTANCE_BUCKETS, self.heads))
        self.dropout = nn.Dropout(settings.dropout)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """u [S, L, d] and v, q, k [S, H, L, d / H] of tokens x [S, L, d]."""
        u, v, q, k = F.silu(self.uvqk(self.norm(x))).chunk(4, -1)
        split = (*x.shape[:2], self.heads, x.shape[2] // self.heads)
        heads = [z.view(split).transpose(1, 2) for z in (v, q, k)]
        return u, heads[0], heads[1], heads[2]

    def attend(
        self, x: Tensor, u: Tensor, q: Tensor, k: Tensor, v: Tensor, age: Tensor, distance: Tensor, mask: Tensor
    ) -> Tensor:
        """The layer's output for tokens x [S, Lq, d] that see keys k, v [S, H, Lk, d / H] where mask [S, Lq, Lk]."""
        bias = lookup(age, self.time_bias) + lookup(distance, self.distance_bias)  # [S, Lq, Lk, H]
        score = F.silu(q @ k.transpose(-1, -2) + bias.permute(0, 3, 1, 2)) / self.scale  # [S, H, Lq, Lk]
        seen = (score * mask[:, None]) @ v  # [S, H, Lq, d / H]
        gated: Tensor = self.out(self.out_norm(seen.transpose(1, 2).flatten(2)) * u)
        return x + self.dropout(gated)


class Transducer(nn.Module):
    """Event tokens in, one state per event out: the state says what is known right after that event."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        d = settings.dim
        self.hour = nn.Embedding(48, d)
        self.gap = nn.Embedding(rel.AGE_BUCKETS + 1, d)
        for table in (self.hour, self.gap):
            nn.init.normal_(table.weight, std=0.02)
        self.layers = nn.ModuleList(HSTULayer(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(d)

    def stack(self) -> list[HSTULayer]:
        """The layers, lowest first."""
        return [cast(HSTULayer, layer) for layer in self.layers]

    def tokens(self, item_vectors: Tensor, user_vectors: Tensor, history: History) -> Tensor:
        """[S, L, d]: item + hour + time since the event before + user."""
        gap = rel.log_bucket(history.time_s - history.prev_time_s)
        gap = torch.where(history.has_prev, gap, rel.AGE_BUCKETS)
        return item_vectors + self.hour(rel.hour_of_week_kind(history.local_s)) + self.gap(gap) + user_vectors[:, None]

    def forward(self, tokens: Tensor, history: History) -> tuple[Tensor, Tensor, Tensor]:
        """States [S, L, d] of tokens [S, L, d], each seeing itself and the unmasked tokens before it; and what a cache needs
        to go on from here: keys and values [S, layers, H, L, d / H]."""
        return self._through(tokens, history, tokens.shape[1])

    def latest(self, tokens: Tensor, history: History) -> tuple[Tensor, Tensor, Tensor]:
        """``forward``, but only the state [S, d] of the last token."""
        states, keys, values = self._through(tokens, history, 1)
        return states[:, 0], keys, values

    def _through(self, tokens: Tensor, history: History, asked: int) -> tuple[Tensor, Tensor, Tensor]:
        """The states of the last tokens that are asked for: the highest layer attends for no other."""
        x, pairs = tokens, pairwise(history, history)
        keys, values = [], []
        for number, layer in enumerate(self.stack(), 1):
            u, v, q, k = layer.project(x)
            keys.append(k)
            values.append(v)
            if number == len(self.layers) and asked < x.shape[1]:
                x, u, q = x[:, -asked:], u[:, -asked:], q[:, :, -asked:]
                pairs = pairs[0][:, -asked:], pairs[1][:, -asked:], pairs[2][:, -asked:]
            x = layer.attend(x, u, q, k, v, *pairs)
        return self.norm(x), torch.stack(keys, 1), torch.stack(values, 1)


def pairwise(queries: History, keys: History) -> tuple[Tensor, Tensor, Tensor]:
    """Age buckets, distance buckets and visibility, each [S, Lq, Lk], between tokens; the last Lq keys are the queries."""
    lq, lk = queries.items.shape[1], keys.items.shape[1]
    age = rel.log_bucket((queries.time_s[:, :, None] - keys.time_s[:, None, :]).float())
    distance = rel.distance_bucket(
        queries.lat[:, :, None], queries.lon[:, :, None], keys.lat[:, None, :], keys.lon[:, None, :]
    )
    order = torch.arange(lk, device=age.device)
    visible = (order[None, :] <= order[lk - lq :, None]) & keys.mask[:, None, :]
    return age, distance, visible
