"""The learned part of returning: kernels, weights and embeddings, trained together with replay.

    circumstances [E, c] --MLP--> kernel weights [E, K] --shares, log-lifts--> [P, K] --+
    fixed features [P, f] --------------------------------------------------------------+--> linear + user's own weights
    context of the user [B, x] --query--> dot with the item's vector --------------------+--> small network --> logits [P]

Letters in the shape comments: M networks that vote, B users, E own events, P own pairs, K learned kernels, d width of the
embeddings.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_server.catalogue import Catalogue
from model_server.fusion import returning
from model_server.fusion.batch import CONTEXT, UserBatch
from model_server.fusion.returning import ReturnFeatures
from model_server.sequence_model.item_table import RowTable

KERNELS = 8


class ReturnNetwork(nn.Module):
    """What one network scores the user's own items by: a few thousand weights besides the embedding rows.

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


def vote(
    networks: Sequence[ReturnNetwork],
    batch: UserBatch,
    known: ReturnFeatures,
    catalogue: Catalogue,
    user_weights: Tensor,
) -> Tensor:
    """Logits [M, pairs] of the own items by each network; ``user_weights`` [B, M features] add to their linear weights.

    All go through every operation side by side: of a small batch an operation's call costs more than its work.
    """
    own, members = batch.own, len(networks)
    features = torch.cat(
        (known.values[:, None].expand(-1, members, -1), _lifts(networks, batch, known)), 2
    )  # [P, M, f]
    weights = torch.stack([network.weights for network in networks]) + user_weights.view(batch.users, members, -1)
    logits = (features * weights[own.user]).sum(2).T  # [M, P]
    if not networks[0].deep:
        return logits
    last, before = batch.last_row, batch.before_row.clamp(min=0)
    kinds = catalogue.category[torch.cat((last, own.row, before))]
    kind = torch.stack([network.category(kinds) for network in networks])
    item = torch.stack([network.item(torch.cat((last, own.row))) for network in networks])
    item = item + kind[:, : item.shape[1]]
    led = kind[:, item.shape[1] :] * (batch.before_row >= 0)[:, None]
    shared = torch.cat((batch.time_context, known.of_user), 1).expand(members, -1, -1)
    user = torch.stack([network.user(batch.slots) for network in networks])
    context = torch.cat((shared, item[:, : batch.users], led, user), 2)  # [M, B, x]
    item = item[:, batch.users :]  # [M, P, d]
    query = _linear(
        [network.query[2] for network in networks], F.silu(_linear([n.query[0] for n in networks], context))
    )
    logits = logits + (query[:, own.user] * item).sum(2)
    hidden = _linear([network.from_features for network in networks], torch.cat((features.transpose(0, 1), item), 2))
    hidden = hidden + _linear([network.from_context for network in networks], context)[:, own.user]
    hidden = F.silu(_linear([network.middle for network in networks], F.silu(hidden)))
    return logits + _linear([network.out for network in networks], hidden)[..., 0]


def _lifts(networks: Sequence[ReturnNetwork], batch: UserBatch, known: ReturnFeatures) -> Tensor:
    """The log-lifts of the learned kernels, [P, M, K]."""
    e, own, members = batch.events, batch.own, len(networks)
    compared = F.silu(_linear([network.kernel[0] for network in networks], known.circumstances.expand(members, -1, -1)))
    weight = torch.exp(_linear([network.kernel[2] for network in networks], compared).clamp(-8, 8))  # [M, E, K]
    weight = weight.transpose(0, 1).flatten(1)
    share = weight.new_zeros(len(own.row), weight.shape[1]).index_add(0, e.pair, weight)  # [P, M K]
    total = weight.new_zeros(batch.users, weight.shape[1]).index_add(0, e.user, weight)  # [B, M K]
    base = known.base[:, None]
    lift = torch.log((share + 0.5 * base) / (total[own.user] + 0.5) / base + 1e-9)
    return lift.view(-1, members, KERNELS)


def _linear(layers: Sequence[Any], x: Tensor) -> Tensor:
    """Each layer on its own slice of ``x`` [M, n, in]: [M, n, out]."""
    weight, bias = torch.stack([layer.weight for layer in layers]), torch.stack([layer.bias for layer in layers])
    return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))
