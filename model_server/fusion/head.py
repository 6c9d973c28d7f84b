"""One mode of the fusion (standing, or for a known time): scores a batch and learns from what came."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from model_server.catalogue import Catalogue
from model_server.fusion.batch import UserBatch, gather_users, padded
from model_server.fusion.candidates import Shortlist
from model_server.fusion.chances import append_chances, choosable, foremost, log_chances
from model_server.fusion.cpu_features import CpuExploring, PublicRows
from model_server.fusion.crowds import Crowds
from model_server.fusion.due import due_now
from model_server.fusion.explore_part import Circumstances, ExplorePart, ExploreScore
from model_server.fusion.exploring import explore_features
from model_server.fusion.gate import Gate
from model_server.fusion.placement import LENGTH, Placement
from model_server.fusion.return_part import ReturnPart, ReturnScore
from model_server.fusion.settings import FusionSettings, Mode
from model_server.histories import Histories
from model_server.neighbours import ItemNeighbours
from model_server.patterns import PatternStore
from model_server.sequence_model.listening import Heard
from model_server.visits import VisitCounts

LEAST_PROBABILITY = 1e-6  # of what was in nobody's list
LEAST_HEARD = -14.0


@dataclass(frozen=True)
class World:
    """What every head reads and none changes."""

    catalogue: Catalogue
    histories: Histories
    visits: VisitCounts
    patterns: PatternStore
    neighbours: ItemNeighbours
    crowds: Crowds
    public: PublicRows
    shortlist: Shortlist


@dataclass(frozen=True)
class Scored:
    """A batch through the fusion: both parts, and P(explore) [users] with the features that it came of.

    ``heard`` is what the sequence model says of them, None without one; like the rest it is that of before ``learn``.
    """

    batch: UserBatch
    returning: ReturnScore
    exploring: ExploreScore
    gate_features: Tensor
    gate: Tensor
    heard: Heard | None


@dataclass(frozen=True)
class Merged:
    """Own items and candidates side by side, [users, n]: ``rows`` (-1: none), probabilities (-1: none), and which explore.

    ``column`` is the place of each in the list of all own items and all candidates.
    """

    rows: Tensor
    probability: Tensor
    explore: Tensor
    column: Tensor


def merge(scored: Scored, available: Tensor, most: int | None = None) -> Merged:
    """Both parts of the fusion in one list per user: all candidates, or the ``most`` likeliest, likeliest first."""
    own, g, found = scored.batch.own, scored.gate, scored.exploring
    rows, place = padded(own, len(g), -1)
    width, device = rows.shape[1], rows.device
    rows[own.user, place] = torch.where(available[own.row], own.row, -1)
    probability = torch.full(rows.shape, -1.0, device=device)
    probability[own.user, place] = (1 - g[own.user]) * scored.returning.log_p.exp()
    candidates, log_p = found.rows, found.log_p
    chosen = torch.arange(candidates.shape[1], device=device).expand(candidates.shape)
    if most is not None and most < candidates.shape[1]:
        log_p, chosen = foremost(log_p, most)
        candidates = candidates.gather(1, chosen)
    rows, probability = append_chances(rows, probability, candidates, log_p, g * found.reach)
    column = torch.cat((torch.arange(width, device=device).expand(len(g), width), width + chosen), 1)
    explore = (torch.arange(rows.shape[1], device=device) >= width).expand(rows.shape)
    return Merged(rows, probability, explore, column)


class Head:
    """P(v) = (1 - gate) P(v | return) for own items and gate x reach x P(v | explore) for candidates."""

    def __init__(self, mode: Mode, settings: FusionSettings, device: torch.device) -> None:
        without, deep = settings.without, "network" not in settings.without
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.returns = ReturnPart(mode == "request", deep, without, device, settings.members, settings.seed)
            self.explores = ExplorePart(deep, without, device, settings.seed)
        self.gate = Gate(device)
        self.placement = Placement(device, settings.explore_budget)
        self.log_loss: float | None = None  # of the whole answer on new events: a moving mean, in nats

    @torch.no_grad()
    def score(
        self, world: World, slots: Tensor, before: Tensor | None, now_s: Tensor | None, heard: Heard | None
    ) -> Scored:
        """The users as of their first ``before`` events; ``heard`` is what the sequence model says of them."""
        self.reserve(world)
        rows = len(world.catalogue)
        batch = gather_users(world.histories, rows, slots, before, now_s)
        due = due_now(batch, world.histories.user_ids, world.patterns)
        own_rows, place = padded(batch.own, batch.users, -1)
        silence = torch.zeros(own_rows.shape, device=slots.device)
        explore_features = self._explore_features(world, batch)
        public = explore_features(own_rows, silence, False)[batch.own.user, place]
        own, listened = batch.own, torch.zeros(batch.users, device=slots.device)
        sequence = None if heard is None else heard.own(own.user, own.row)
        returning = self.returns.score(batch, world.catalogue, sequence, due, public)
        if sequence is not None:
            back = listened.index_add(0, own.user, sequence.exp())
            listened = -torch.logit(back.clamp(1e-4, 1 - 1e-4))
        gate_features = self.gate.features(batch, returning.known.of_user, returning.log_p, listened)
        gate = self.gate.probability(gate_features)
        candidates = world.shortlist.of(batch)
        chosen = choosable(candidates, own_rows, world.catalogue.rankable())
        among = torch.zeros(candidates.shape, device=slots.device)
        if heard is not None:
            among = log_chances(heard.exploring(candidates), chosen).clamp(min=LEAST_HEARD, max=0)
        features = explore_features(candidates, among, True)
        kinds = world.catalogue.category
        of_user = torch.cat((returning.known.of_user, batch.time_context), 1)
        circumstances = Circumstances(kinds, candidates, kinds[batch.last_row], batch.gap_s, of_user)
        exploring = self.explores.score(chosen, features, gate, circumstances)
        return Scored(batch, returning, exploring, gate_features, gate, heard)

    def _explore_features(self, world: World, batch: UserBatch) -> Callable[[Tensor, Tensor, bool], Tensor]:
        """The explore features of rows [users, n], given what the sequence model says of them and whether they ascend."""
        known = (batch, world.catalogue, world.visits, world.patterns, world.neighbours)
        if batch.slots.device.type == "cpu":
            return CpuExploring(*known, world.public).features
        return partial(explore_features, *known, world.crowds)

    @torch.no_grad()
    def learn(self, world: World, scored: Scored, target: Tensor) -> None:
        """One step on everything from what came: ``target`` rows [users]. ``grow`` is to follow."""
        batch, own = scored.batch, scored.batch.own
        returned = torch.zeros(batch.users, dtype=torch.bool, device=target.device)
        returned[own.user[own.row == target[own.user]]] = True
        merged = merge(scored, world.catalogue.available)
        came = merged.rows == target[:, None]
        self._note_loss(float(-merged.probability.where(came, 0.0).amax(1).clamp(min=LEAST_PROBABILITY).log().mean()))
        first = merge(scored, world.catalogue.available, LENGTH)  # nobody further down can be lifted into a list
        self.placement.learn(first.probability, first.explore, first.rows == target[:, None])
        self.gate.learn(scored.gate_features, scored.gate, ~returned)
        self.explores.learn(scored.exploring, target, ~returned)
        self.returns.learn(batch, scored.returning, world.catalogue, target, returned)

    def grow(self) -> bool:
        """The part of ``learn`` that can wait, a tree at a time; whether there was one."""
        return self.returns.grow() or self.explores.grow()

    def _note_loss(self, loss: float) -> None:
        self.log_loss = loss if self.log_loss is None else self.log_loss + 0.05 * (loss - self.log_loss)

    def learn_again(self, world: World, batch: UserBatch, target: Tensor) -> None:
        """A step of the return network on past events."""
        with torch.no_grad():
            known = self.returns.features(batch, world.catalogue)
        self.returns.learn_network(batch, known, world.catalogue, target)

    def reserve(self, world: World) -> None:
        """Make room for new rows, categories and users."""
        self.returns.reserve(len(world.catalogue), len(world.catalogue.category_names), len(world.histories))

    def forget(self, users: Tensor) -> None:
        """These user rows belong to somebody else now."""
        self.returns.forget(users)

    def state(self) -> dict[str, Any]:
        """Weights and optimisers, as tensors and plain values."""
        return {
            "returns": self.returns.state(),
            "explores": self.explores.state(),
            "gate": self.gate.weights.state(),
            "placement": self.placement.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave; ValueError if it does not fit."""
        try:
            self.returns.load_state(state["returns"])
            self.explores.load_state(state["explores"])
            self.gate.weights.load_state(state["gate"])
            self.placement.load_state(state["placement"])
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"state of a head does not fit: {error}") from error
