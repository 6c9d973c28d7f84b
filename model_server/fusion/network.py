"""The learned part of returning: kernels, weights and embeddings, trained together with replay.

    circumstances [E, c] --MLP--> kernel weights [E, K] --shares, log-lifts--> [P, K] --+
    fixed features [P, f] --------------------------------------------------------------+--> linear + user's own weights
    context of the user [B, x] --query--> dot with the item's vector --------------------+--> small network --> logits [P]

Letters in the shape comments: B users, E own events, P own pairs, K learned kernels, d width of the embeddings.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_server.catalogue import Catalogue
from model_server.fusion import returning
from model_server.fusion.batch import DAY_S, UserBatch
from model_server.fusion.returning import ReturnFeatures
from model_server.sequence_model.item_table import RowTable

CONTEXT = 10
KERNELS = 8


class ReturnNetwork(nn.Module):
    """Scores the user's own items. A few thousand weights besides the embedding rows.

    Without ``deep`` the logits are linear in the features (kernels learned nevertheless): the plain form to compare with.
    """

    def __init__(self, timed: bool, deep: bool = True, hidden: int = 32, width: int = 8) -> None:
        super().__init__()
        self.deep = deep
        features = returning.FEATURES + KERNELS
        compare, weigh = nn.Linear(len(returning.circumstances(timed)), 24), nn.Linear(24, KERNELS)
        nn.init.normal_(weigh.weight, 0, 0.05)
        self.kernel = nn.Sequential(compare, nn.SiLU(), weigh)
        self.category = RowTable(64, width, 0.1)
        self.item = RowTable(64, width, 0.02)
        self.user = RowTable(64, width, 0.02)
        known = CONTEXT + returning.USER_FEATURES + 3 * width
        self.query = nn.Sequential(nn.Linear(known, hidden), nn.SiLU(), nn.Linear(hidden, width))
        self.from_features = nn.Linear(features + width, hidden)
        self.from_context = nn.Linear(known, hidden)
        self.middle = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1)
        nn.init.zeros_(self.out.weight)
        self.weights = nn.Parameter(torch.zeros(features))
        with torch.no_grad():
            self.weights[0] = 1.0

    def dense_parameters(self) -> list[nn.Parameter]:
        """What an ordinary optimiser steps: everything but the growing tables."""
        tables = {id(table.weight) for table in self.tables()}
        return [parameter for parameter in self.parameters() if id(parameter) not in tables]

    def tables(self) -> list[RowTable]:
        """The embedding tables, which step themselves."""
        return [self.category, self.item, self.user]

    def forward(self, batch: UserBatch, known: ReturnFeatures, catalogue: Catalogue, user_weights: Tensor) -> Tensor:
        """Logits [pairs] of the own items; ``user_weights`` [B, features] are added to the shared linear weights."""
        e, own = batch.events, batch.own
        weight = torch.exp(self.kernel(known.circumstances).clamp(-8, 8))  # [E, K]
        share = weight.new_zeros(len(own.row), KERNELS).index_add(0, e.pair, weight)  # [P, K]
        total = weight.new_zeros(batch.users, KERNELS).index_add(0, e.user, weight)  # [B, K]
        base = known.base[:, None]
        lift = torch.log((share + 0.5 * base) / (total[own.user] + 0.5) / base + 1e-9)
        features = torch.cat((known.values, lift), 1)  # [P, features]
        last, before = batch.last_row, batch.before_row.clamp(min=0)
        context = torch.cat(
            (
                time_context(batch), known.of_user, self.category(catalogue.category[last]) + self.item(last),
                self.category(catalogue.category[before]) * (batch.before_row >= 0)[:, None], self.user(batch.slots),
            ),
            1,
        )  # fmt: skip
        item = self.category(catalogue.category[own.row]) + self.item(own.row)  # [P, d]
        logits = (features * (self.weights + user_weights)[own.user]).sum(1)
        if self.deep:
            logits = logits + (self.query(context)[own.user] * item).sum(1)
            hidden = self.from_features(torch.cat((features, item), 1)) + self.from_context(context)[own.user]
            logits = logits + self.out(F.silu(self.middle(F.silu(hidden))))[:, 0]
        return logits


def time_context(batch: UserBatch) -> Tensor:
    """The hour, the kind of day, the gap and the pace as float32 [users, CONTEXT]."""
    angle = batch.now_week_s / DAY_S * 2 * math.pi
    events = torch.log(batch.known_events.float())
    return torch.stack(
        (
            torch.cos(angle), torch.sin(angle), torch.cos(2 * angle), torch.sin(2 * angle),
            (batch.now_week_s >= 5 * DAY_S).float(), torch.log(batch.gap_s + 600) / 10 - 1,
            torch.log(batch.last_interval_s + 600) / 10 - 1, events / 5,
            torch.cos(angle / 7), torch.sin(angle / 7),
        ),
        1,
    )  # fmt: skip
