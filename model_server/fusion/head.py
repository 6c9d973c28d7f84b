"""One mode of the fusion (standing, or for a known time): scores a batch and learns from what came."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from model_server.catalogue import Catalogue
from model_server.fusion import exploring, returning
from model_server.fusion.batch import UserBatch, gather_users
from model_server.fusion.candidates import Shortlist
from model_server.fusion.exploring import ExploreNetwork, explore_features, own_mask
from model_server.fusion.linear import AdaGrad, UserWeights, grouped_log_softmax
from model_server.fusion.network import ReturnNetwork, ReturnOutput
from model_server.fusion.placement import Placement
from model_server.fusion.returning import ReturnFeatures, return_features
from model_server.histories import Histories
from model_server.patterns import PatternStore
from model_server.visits import VisitCounts

OWN_EXTRAS = ("network", "sequence")
GATE_DRIFT = 0.01
NEVER = -1e9


@dataclass(frozen=True)
class World:
    """What every head reads and none changes."""

    catalogue: Catalogue
    histories: Histories
    visits: VisitCounts
    patterns: PatternStore
    shortlist: Shortlist


@dataclass(frozen=True)
class Scored:
    """A batch through the fusion.

    ``own_log_p`` [pairs] and ``explore_log_p`` [users, candidates] are log-probabilities within their part, ``gate`` [users] is
    the probability of exploring and ``reach`` the probability that what is explored then is among the candidates.
    ``candidates`` are rows, -1 where there is none; with ``target_added`` their last column is the target that the shortlist
    missed, scored to learn from it but never ranked. ``sequence`` are the sequence model's log P [users, rows].
    """

    batch: UserBatch
    known: ReturnFeatures
    output: ReturnOutput
    own_extras: Tensor
    own_log_p: Tensor
    candidates: Tensor
    explore_features: Tensor
    explore_log_p: Tensor
    gate_extras: Tensor
    gate: Tensor
    reach_features: Tensor
    reach: Tensor
    sequence: Tensor | None
    target_added: bool


@dataclass(frozen=True)
class Merged:
    """Own items and candidates side by side, [users, n]: ``rows`` (-1: none), probabilities (-1: none), and which explore."""

    rows: Tensor
    probability: Tensor
    explore: Tensor


def merge(scored: Scored, available: Tensor) -> Merged:
    """Both parts of the fusion in one list per user; a target that was only added for learning is not in it."""
    own, g, users = scored.batch.own, scored.gate, len(scored.gate)
    counts = torch.bincount(own.user, minlength=users)
    place = torch.arange(len(own.user), device=own.user.device) - (counts.cumsum(0) - counts)[own.user]
    rows = torch.full((users, int(counts.max())), -1, dtype=torch.long, device=own.user.device)
    rows[own.user, place] = torch.where(available[own.row], own.row, -1)
    probability = torch.full(rows.shape, -1.0, device=rows.device)
    probability[own.user, place] = (1 - g[own.user]) * scored.own_log_p.exp()
    candidates, explore = scored.candidates, (g * scored.reach)[:, None] * scored.explore_log_p.exp()
    if scored.target_added:
        candidates, explore = candidates[:, :-1], explore[:, :-1]
    rows = torch.cat((rows, candidates), 1)
    probability = torch.cat((probability, explore), 1).masked_fill(rows < 0, -1.0)
    is_explore = (torch.arange(rows.shape[1], device=rows.device) >= rows.shape[1] - candidates.shape[1]).expand(
        rows.shape
    )
    return Merged(rows, probability, is_explore)


class Head:
    """Return network, explore weights and gate of one mode, with their optimisers."""

    def __init__(
        self,
        timed: bool,
        device: torch.device,
        seed: int = 0,
        explore_budget: float = 0.004,
        without: tuple[str, ...] = (),
    ) -> None:
        self.timed, self.deep_explore = timed, "network" not in without

        def kept(names: tuple[str, ...]) -> Tensor:
            return torch.tensor([float(name not in without) for name in names], device=device)

        self.kept_own, self.kept_explore = kept(returning.NAMES), kept(exploring.NAMES)
        self.kept_circumstances = kept(returning.circumstances(timed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = ReturnNetwork(timed, self.deep_explore).to(device)
            self.explore_network = ExploreNetwork().to(device)
        self.optimizer = torch.optim.Adam(self.network.dense_parameters(), lr=2e-3, betas=(0.9, 0.99))
        self.explore_optimizer = torch.optim.Adam(self.explore_network.parameters(), lr=3e-3, betas=(0.9, 0.99))
        self.user_weights = UserWeights(len(self.network.weights), device)
        prior = torch.zeros(len(exploring.NAMES), device=device)
        for index, weight in exploring.PRIOR.items():
            prior[index] = weight
        self.explore = AdaGrad(prior, 0.1, 1e-1)
        self.own_mix = AdaGrad(torch.tensor([1.0, 0.1], device=device), 0.03, 1.0)
        self.placement = Placement(device, explore_budget)
        gate = torch.zeros(3 + returning.USER_FEATURES, device=device)
        gate[0], gate[3] = 0.5, 0.5
        self.gate_mix = AdaGrad(gate, 0.05, 0.1)
        self.gate_bias = torch.zeros((), device=device)
        self.reach = AdaGrad(torch.tensor([0.0, 0.0, 0.0], device=device), 0.1, 1.0)

    @torch.no_grad()
    def score(
        self,
        world: World,
        slots: Tensor,
        before: Tensor | None,
        now_s: Tensor | None,
        sequence: Tensor | None,
        target: Tensor | None = None,
    ) -> Scored:
        """The users as of their first ``before`` events; ``sequence`` are the sequence model's log P [users, rows]."""
        self.reserve(world)
        rows = len(world.catalogue)
        batch = gather_users(world.histories, rows, slots, before, now_s)
        known = self.features(batch, world.catalogue)
        output = self.network(batch, known, world.catalogue, self.user_weights.weights[slots])
        own = batch.own
        if sequence is None:
            sequence_own = torch.zeros_like(output.logits)
            sequence_gate = torch.zeros(batch.users, device=slots.device)
        else:
            sequence_own = grouped_log_softmax(sequence[own.user, own.row], own.user, batch.users).clamp(min=-12)
            returning_p = torch.zeros(batch.users, device=slots.device)
            returning_p.index_add_(0, own.user, sequence[own.user, own.row].exp())
            sequence_gate = -torch.logit(returning_p.clamp(1e-4, 1 - 1e-4))
        network_own = grouped_log_softmax(output.logits, own.user, batch.users).clamp(min=-15)
        own_extras = torch.stack((network_own, sequence_own), 1)
        own_log_p = grouped_log_softmax(own_extras @ self.own_mix.weights, own.user, batch.users)
        ones = torch.ones_like(sequence_gate)
        gate_extras = torch.cat((torch.stack((output.gate, sequence_gate, ones), 1), known.of_user), 1)
        gate = torch.sigmoid(gate_extras @ self.gate_mix.weights + self.gate_bias)
        candidates = world.shortlist.of(batch)
        if target is not None:
            missed = ~(candidates == target[:, None]).any(1)
            candidates = torch.cat((candidates, torch.where(missed, target, -1)[:, None]), 1)
        inside = candidates.clamp(min=0)
        usable = (candidates >= 0) & world.catalogue.rankable()[inside] & ~own_mask(own, inside, rows)
        sequence_explore = torch.zeros(inside.shape, device=slots.device)
        if sequence is not None:
            sequence_explore = sequence.gather(1, inside)
            sequence_explore = sequence_explore - torch.logsumexp(sequence_explore.masked_fill(~usable, NEVER), 1, True)
            sequence_explore = sequence_explore.clamp(min=-14, max=0)
        features = explore_features(batch, inside, world.catalogue, world.visits, world.patterns, sequence_explore)
        features = features * self.kept_explore
        logits = self._explore_logits(features)
        ranked = usable if target is None else torch.cat((usable[:, :-1], torch.zeros_like(usable[:, -1:])), 1)
        total = torch.logsumexp(logits.masked_fill(~ranked, NEVER), 1, True)
        explore_log_p = (logits - total).masked_fill(~usable, NEVER)
        surest = explore_log_p.masked_fill(~ranked, NEVER).amax(1).clamp(min=-12)
        reach_features = torch.stack((ones, surest / 5, torch.logit(gate.clamp(1e-4, 1 - 1e-4)) / 3), 1)
        reach = torch.sigmoid(reach_features @ self.reach.weights)
        return Scored(
            batch, known, output, own_extras, own_log_p, torch.where(usable, candidates, -1), features, explore_log_p,
            gate_extras, gate, reach_features, reach, sequence, target is not None,
        )  # fmt: skip

    def features(self, batch: UserBatch, catalogue: Catalogue) -> ReturnFeatures:
        """The return features of a batch, those of experts that are left out set to zero."""
        known = return_features(batch, catalogue)
        values, compared = known.values * self.kept_own, known.circumstances * self.kept_circumstances
        return ReturnFeatures(values, known.base, compared, known.of_user)

    def _explore_logits(self, features: Tensor) -> Tensor:
        logits = features @ self.explore.weights
        return logits + self.explore_network(features) if self.deep_explore else logits

    def learn(self, world: World, scored: Scored, target: Tensor, touched: Tensor) -> None:
        """One step on everything from what came: ``target`` rows [users], ``touched`` whether anybody knew it before."""
        batch, own = scored.batch, scored.batch.own
        hit = own.row == target[own.user]
        returned = torch.zeros(batch.users, dtype=torch.bool, device=target.device)
        returned[own.user[hit]] = True
        error = (~returned).float() - scored.gate
        step = error[:, None] * scored.gate_extras
        self.gate_mix.step(step.sum(0), step.square().sum(0))
        self.gate_bias += GATE_DRIFT * error.sum()
        listed = (scored.candidates[:, :-1] == target[:, None]).any(1)
        step = ((~returned).float() * (listed.float() - scored.reach))[:, None] * scored.reach_features
        self.reach.step(step.sum(0), step.square().sum(0))
        surprise = (hit.float() - scored.own_log_p.exp()) * returned[own.user]
        step = torch.zeros((batch.users, len(OWN_EXTRAS)), device=target.device)
        step.index_add_(0, own.user, surprise[:, None] * scored.own_extras)
        self.own_mix.step(step.sum(0), step.square().sum(0))
        merged = merge(scored, world.catalogue.available)
        self.placement.learn(merged.probability, merged.explore, merged.rows == target[:, None])
        self._learn_exploring(scored, target, (~returned & touched).nonzero()[:, 0])
        self.learn_returning(world, batch, scored.known, target)

    def learn_returning(self, world: World, batch: UserBatch, known: ReturnFeatures, target: Tensor) -> None:
        """A gradient step of the network on a batch, fresh or replayed."""
        self.network.train()
        own = batch.own
        user_weights = self.user_weights.weights[batch.slots].requires_grad_()
        output = self.network(batch, known, world.catalogue, user_weights)
        log_p = grouped_log_softmax(output.logits, own.user, batch.users)
        hit = own.row == target[own.user]
        explored = torch.ones(batch.users, device=target.device).index_fill_(0, own.user[hit], 0.0)
        loss = F.binary_cross_entropy_with_logits(output.gate, explored, reduction="sum") - log_p[hit].sum()
        loss = loss / batch.users
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if not bool(torch.isfinite(loss)):
            return
        torch.nn.utils.clip_grad_norm_(self.network.dense_parameters(), 5.0)
        self.optimizer.step()
        for table in self.network.tables():
            table.step(0.05)
        assert user_weights.grad is not None
        self.user_weights.step(batch.slots, user_weights.grad * batch.users)

    def _learn_exploring(self, scored: Scored, target: Tensor, explored: Tensor) -> None:
        if not len(explored):
            return
        candidates, features = scored.candidates[explored], scored.explore_features[explored]
        right = candidates == target[explored, None]
        usable = (candidates >= 0) & right.any(1, keepdim=True)
        logits = scored.explore_log_p[explored].masked_fill(~usable, NEVER)
        surprise = (right.float() - torch.softmax(logits, 1)) * usable
        step = torch.einsum("uc,ucf->uf", surprise, features)
        with torch.enable_grad():
            corrected = self._explore_logits(features)
            loss = -torch.log_softmax(corrected.masked_fill(~usable, NEVER), 1)[right].sum() / len(explored)
            self.explore_optimizer.zero_grad(set_to_none=True)
            if loss.requires_grad and bool(torch.isfinite(loss)):
                loss.backward()  # type: ignore[no-untyped-call]
                self.explore_optimizer.step()
        self.explore.step(step.sum(0), step.square().sum(0))

    def reserve(self, world: World) -> None:
        """Make room for new rows, categories and users."""
        self.network.item.ensure(len(world.catalogue))
        self.network.category.ensure(len(world.catalogue.category_names))
        self.network.user.ensure(len(world.histories))
        self.user_weights.reserve(len(world.histories))

    def state(self) -> dict[str, Any]:
        """Weights and optimisers, as tensors and plain values."""
        linear = {
            name: getattr(self, name).state()
            for name in ("explore", "own_mix", "gate_mix", "reach", "user_weights", "placement")
        }
        return linear | {
            "gate_bias": float(self.gate_bias),
            "network": self.network.state_dict(),
            "explore_network": self.explore_network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "explore_optimizer": self.explore_optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave; ValueError if it does not fit."""
        try:
            for table, name in zip(self.network.tables(), ("category", "item", "user")):
                table.ensure(len(state["network"][f"{name}.weight"]))
            self.gate_bias.fill_(state["gate_bias"])
            self.network.load_state_dict(state["network"])
            self.explore_network.load_state_dict(state["explore_network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.explore_optimizer.load_state_dict(state["explore_optimizer"])
            for name in ("explore", "own_mix", "gate_mix", "reach", "user_weights", "placement"):
                getattr(self, name).load_state(state[name])
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"state of a head does not fit: {error}") from error
