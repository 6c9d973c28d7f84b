"""The explore part of the fusion: which of the unknown items, if one of them."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model_server.fusion import exploring, returning
from model_server.fusion.batch import CONTEXT
from model_server.fusion.boosting import Asked, Boosting
from model_server.fusion.chances import NEVER, likeliest, log_chances
from model_server.fusion.cpu_asking import LikelyPairs
from model_server.fusion.cpu_logits import explore_logits_on_cpu
from model_server.fusion.exploring import ExploreNetwork
from model_server.fusion.moves import FEATURES as MOVES
from model_server.fusion.moves import Moves
from model_server.fusion.newton import NewtonWeights, logistic_step
from model_server.fusion.trusted_trees import TrustedTrees, tree_features

REACH_FEATURES = 3
REACH_FORGET = 0.998  # what is reached grows with the catalogue: memory of 500 discoveries, not of thousands
CORRECTED = 100
CIRCUMSTANCES = returning.USER_FEATURES + CONTEXT
TREE_FEATURES = len(exploring.NAMES) + 4 + MOVES + CIRCUMSTANCES + 1
FIRST_GROUPS, EVENTS_PER_TREE, FADING = 100, 8, 0.998  # discoveries are rare, and those among the likeliest rarer


@dataclass(frozen=True)
class Circumstances:
    """What only the trees ask about, beside the features.

    The category ``before`` [users] of the last place and the time ``gap_s`` [users] since, ``of_user`` [users,
    ``CIRCUMSTANCES``], and of which category the ``candidates`` int64 [users, candidates] are, by row in ``kinds``: of most
    nobody asks.
    """

    kinds: Tensor
    candidates: Tensor
    before: Tensor
    gap_s: Tensor
    of_user: Tensor

    def kind(self, columns: Tensor) -> Tensor:
        """The categories of the candidates in these columns, int64 [users, n]."""
        return self.kinds[self.candidates.gather(1, columns).clamp(min=0)]


@dataclass(frozen=True)
class ExploreScore:
    """``log_p`` [users, candidates] within the candidates; rows are -1 and log_p ``NEVER`` where there is none.

    It is ``mixture`` [users, candidates], corrected by trees where it is among the likeliest: ``likely`` [users, n] are their
    columns, ``said`` [users, n] is the trees' answer to ``asked`` [users x n, ...].

    ``reach`` [users] is the probability that what is explored is among the candidates at all.
    """

    rows: Tensor
    circumstances: Circumstances
    features: Tensor
    mixture: Tensor
    likely: Tensor
    asked: Asked
    said: Tensor
    log_p: Tensor
    reach_features: Tensor
    reach: Tensor


class ExplorePart:
    """Linear weights (Newton) with a small network on top, and how far the candidates reach.

    Boosted trees correct the ``CORRECTED`` likeliest candidates; how far they are trusted is learned.
    """

    def __init__(self, deep: bool, without: tuple[str, ...], device: torch.device, seed: int = 0) -> None:
        self.deep = deep
        self.kept = torch.tensor([float(name not in without) for name in exploring.NAMES], device=device)
        self._all_kept = not set(without) & set(exploring.NAMES)
        prior = torch.zeros(len(exploring.NAMES), device=device)
        for index, weight in exploring.PRIOR.items():
            prior[index] = weight
        self.linear = NewtonWeights(prior, precision=20.0)
        self.network = ExploreNetwork().to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=3e-3, betas=(0.9, 0.99))
        self.reach = NewtonWeights(torch.zeros(REACH_FEATURES, device=device), precision=3.0, forget=REACH_FORGET)
        boosting = Boosting(TREE_FEATURES, seed, FIRST_GROUPS, EVENTS_PER_TREE, FADING)
        self.trees = None if "trees" in without else TrustedTrees(boosting, device)
        self.moves = Moves(device)

    def score(self, rows: Tensor, features: Tensor, gate: Tensor, circumstances: Circumstances) -> ExploreScore:
        """Of candidate rows int64 [users, candidates] (-1: none) with their features; ``gate`` is P(explore)."""
        if not self._all_kept:
            features = features * self.kept
        mixture = log_chances(self._logits(features), rows)
        surest, gate_logit = mixture.amax(1).clamp(min=-12), torch.logit(gate.clamp(1e-4, 1 - 1e-4))
        reach_features = torch.stack((torch.ones_like(surest), surest / 5, gate_logit / 3), 1)
        reach = torch.sigmoid(reach_features @ self.reach.weights)
        if self.trees is None:
            nothing = mixture.new_zeros((len(rows), 0))
            return ExploreScore(
                rows, circumstances, features, mixture, nothing.long(), Asked(_nothing_asked), nothing, mixture,
                reach_features, reach,
            )  # fmt: skip
        best, likely = likeliest(mixture, CORRECTED)
        of_users = torch.cat((gate_logit[:, None], circumstances.of_user), 1)
        kind = circumstances.kind(likely)
        moves = self.moves.lifts(circumstances.before, circumstances.gap_s, kind)
        asked = _asked(features, best, likely, kind, moves, of_users)
        said = self.trees.said(likely.numel(), asked).view_as(best)
        log_p = mixture
        if self.trees.boosting.grown:
            log_p = log_chances(mixture.scatter_add(1, likely, self.trees.trust.weights * said), rows)
        return ExploreScore(rows, circumstances, features, mixture, likely, asked, said, log_p, reach_features, reach)

    def learn(self, score: ExploreScore, target: Tensor, explored: Tensor) -> None:
        """Learn from the users that explored (bool [users]), the reach from all of them, the rest where it was reached; ``grow``
        follows.
        """
        right = score.rows == target[:, None]
        reached = right.any(1)
        logistic_step(self.reach, score.reach_features, score.reach, reached, explored)
        at = (explored & reached).nonzero()[:, 0]
        if not len(at):
            return
        features, right, usable = score.features[at], right[at], score.rows[at] >= 0
        if self.trees is not None:
            self._learn_trees(self.trees, score, at, right)
            about = score.circumstances
            self.moves.count(about.before[at], about.gap_s[at], about.kinds[about.candidates[at][right]])
        p = score.mixture[at].exp() * usable
        apart = features - torch.einsum("uc,ucf->uf", p, features)[:, None]
        weighted = (apart * p[..., None]).flatten(0, 1)
        self.linear.step(
            (right.float() - p).flatten() @ features.flatten(0, 1), weighted.T @ apart.flatten(0, 1), len(at)
        )
        if self.deep:
            self._learn_network(features, right, usable)

    def _learn_trees(self, trees: TrustedTrees, score: ExploreScore, at: Tensor, right: Tensor) -> None:
        """Of the users ``at``, what came being ``right`` [at, candidates]: a step of the trust, then the trees."""
        likely, said = score.likely[at], score.said[at]
        hit, p = right.gather(1, likely), score.log_p[at].gather(1, likely).exp()
        mean = (p * said).sum(1)
        curvature = (p * said**2).sum() - (mean**2).sum()
        trees.trust.step(((hit.float() - p) * said).sum()[None], curvature[None, None], len(at))
        group = torch.arange(len(at), device=at.device)[:, None].expand_as(likely)
        asked = score.asked.features().reshape(len(score.rows), -1, TREE_FEATURES)[at.cpu().numpy()]
        trees.learn(asked.reshape(-1, TREE_FEATURES), score.mixture[at].gather(1, likely), said, group, hit)

    def grow(self) -> bool:
        """Grow one of the trees that are due: apart from ``learn``, so that nobody waits for both; whether there was one."""
        return self.trees is not None and self.trees.boosting.grow()

    @torch.enable_grad()
    def _learn_network(self, features: Tensor, right: Tensor, usable: Tensor) -> None:
        log_p = torch.log_softmax(self._logits(features).masked_fill(~usable, NEVER), 1)
        loss = -log_p[right].sum() / len(features)
        self.optimizer.zero_grad(set_to_none=True)
        if bool(torch.isfinite(loss)):
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()

    def _logits(self, features: Tensor) -> Tensor:
        if self.deep and features.device.type == "cpu" and not torch.is_grad_enabled():
            return explore_logits_on_cpu(features, self.linear.weights, self.network)
        logits = features @ self.linear.weights
        return logits + self.network(features) if self.deep else logits

    def state(self) -> dict[str, Any]:
        """Weights and optimiser."""
        return {
            "linear": self.linear.state(),
            "reach": self.reach.state(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **({} if self.trees is None else {**self.trees.state(), "moves": self.moves.state()}),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave."""
        self.linear.load_state(state["linear"])
        self.reach.load_state(state["reach"])
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.trees is not None:
            self.trees.load_state(state)
            if "moves" in state:
                self.moves.load_state(state["moves"])


def _nothing_asked() -> npt.NDArray[np.float32]:
    return np.zeros((0, TREE_FEATURES), np.float32)


def _asked(features: Tensor, best: Tensor, likely: Tensor, kind: Tensor, moves: Tensor, of_users: Tensor) -> Asked:
    """What the trees are asked about the ``likely`` candidates, likeliest first: of users x likely, ``TREE_FEATURES``."""
    if features.device.type == "cpu":
        pairs = LikelyPairs.of(features, best, likely, kind, moves, of_users)
        return Asked(pairs.features, pairs.bins)
    return Asked(partial(_put_together, features, best, likely, kind, moves, of_users))


def _put_together(
    features: Tensor, best: Tensor, likely: Tensor, kind: Tensor, moves: Tensor, of_users: Tensor
) -> npt.NDArray[np.float32]:
    users, n = likely.shape
    rank = torch.log1p(torch.arange(n, device=likely.device)).expand(users, n)
    chances = torch.stack((best, best - best[:, :1], rank, kind.float()), 2)
    about = features.gather(1, likely[..., None].expand(-1, -1, features.shape[2]))
    user = torch.arange(users, device=likely.device).repeat_interleave(n)
    return tree_features([about.flatten(0, 1), chances.flatten(0, 1), moves.flatten(0, 1)], [of_users], user)
