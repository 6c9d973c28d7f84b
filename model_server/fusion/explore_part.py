"""The explore part of the fusion: which of the unknown items, if one of them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model_server.fusion import exploring
from model_server.fusion.exploring import ExploreNetwork
from model_server.fusion.newton import NewtonWeights, logistic_step

NEVER = -1e9
REACH_FEATURES = 3


@dataclass(frozen=True)
class ExploreScore:
    """``log_p`` [users, candidates] within the candidates; rows are -1 and log_p ``NEVER`` where there is none.

    ``reach`` [users] is the probability that what is explored is among the candidates at all.
    """

    rows: Tensor
    features: Tensor
    log_p: Tensor
    reach_features: Tensor
    reach: Tensor


class ExplorePart:
    """Linear weights (Newton) with a small network on top, and how far the candidates reach."""

    def __init__(self, deep: bool, without: tuple[str, ...], device: torch.device) -> None:
        self.deep = deep
        self.kept = torch.tensor([float(name not in without) for name in exploring.NAMES], device=device)
        self._all_kept = not set(without) & set(exploring.NAMES)
        prior = torch.zeros(len(exploring.NAMES), device=device)
        for index, weight in exploring.PRIOR.items():
            prior[index] = weight
        self.linear = NewtonWeights(prior, precision=20.0)
        self.network = ExploreNetwork().to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=3e-3, betas=(0.9, 0.99))
        self.reach = NewtonWeights(torch.zeros(REACH_FEATURES, device=device), precision=3.0)

    def score(self, rows: Tensor, features: Tensor, gate: Tensor) -> ExploreScore:
        """Of candidate rows int64 [users, candidates] (-1: none) with their features; ``gate`` is P(explore)."""
        usable = rows >= 0
        if not self._all_kept:
            features = features * self.kept
        logits = self._logits(features).masked_fill(~usable, NEVER)
        log_p = (logits - torch.logsumexp(logits, 1, True)).masked_fill(~usable, NEVER)
        surest = log_p.amax(1).clamp(min=-12)
        reach_features = torch.stack(
            (torch.ones_like(surest), surest / 5, torch.logit(gate.clamp(1e-4, 1 - 1e-4)) / 3), 1
        )
        return ExploreScore(rows, features, log_p, reach_features, torch.sigmoid(reach_features @ self.reach.weights))

    def learn(self, score: ExploreScore, target: Tensor, explored: Tensor) -> None:
        """Learn from the users that explored (bool [users]), the reach from all of them, the rest where it was reached."""
        right = score.rows == target[:, None]
        reached = right.any(1)
        logistic_step(self.reach, score.reach_features, score.reach, reached, explored)
        at = (explored & reached).nonzero()[:, 0]
        if not len(at):
            return
        features, right, usable = score.features[at], right[at], score.rows[at] >= 0
        p = score.log_p[at].exp() * usable
        apart = features - torch.einsum("uc,ucf->uf", p, features)[:, None]
        weighted = (apart * p[..., None]).flatten(0, 1)
        self.linear.step(
            (right.float() - p).flatten() @ features.flatten(0, 1), weighted.T @ apart.flatten(0, 1), len(at)
        )
        if self.deep:
            self._learn_network(features, right, usable)

    @torch.enable_grad()
    def _learn_network(self, features: Tensor, right: Tensor, usable: Tensor) -> None:
        log_p = torch.log_softmax(self._logits(features).masked_fill(~usable, NEVER), 1)
        loss = -log_p[right].sum() / len(features)
        self.optimizer.zero_grad(set_to_none=True)
        if bool(torch.isfinite(loss)):
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()

    def _logits(self, features: Tensor) -> Tensor:
        logits = features @ self.linear.weights
        return logits + self.network(features) if self.deep else logits

    def state(self) -> dict[str, Any]:
        """Weights and optimiser."""
        return {
            "linear": self.linear.state(),
            "reach": self.reach.state(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave."""
        self.linear.load_state(state["linear"])
        self.reach.load_state(state["reach"])
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
