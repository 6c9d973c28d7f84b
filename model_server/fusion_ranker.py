"""The served strategy: return-or-explore fusion with weights learned online."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from model_server.catalogue import Catalogue
from model_server.fusion import exploring, returning
from model_server.fusion.batch import UserBatch, gather_users
from model_server.fusion.exploring import explore_features
from model_server.fusion.gate import FEATURES as GATE_FEATURES
from model_server.fusion.gate import gate_features
from model_server.fusion.linear import AdaGrad, grouped_softmax
from model_server.fusion.returning import return_features
from model_server.histories import Histories
from model_server.patterns import PatternStore
from model_server.ranking import Query, RankedItem, Ranking
from schemas.events import BehaviorEvent, Item
from schemas.patterns import ClusterUpdate, Pattern, PeriodicityUpdate, ProfileUpdate

DAY_S = 86400.0
CONCERN_KM = 2.0


class FusionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the fusion remembers and learns.

    ``history`` events are remembered per user, ``micro_batch`` users are learned from at once.
    """

    history: int = 512
    micro_batch: int = 64
    device: str = "cpu"


@dataclass(frozen=True)
class Scored:
    """One batch through the fusion: probabilities with what learning needs to know of them."""

    batch: UserBatch
    own: Tensor
    own_probability: Tensor
    candidates: Tensor
    explore: Tensor
    explore_probability: Tensor
    gate: Tensor
    gate_probability: Tensor


class _Head:
    """The weights of one mode (standing or timed): returning, exploring, gate."""

    def __init__(self, device: torch.device) -> None:
        own = torch.zeros(len(returning.NAMES), device=device)
        own[0] = 1.0
        explore = torch.zeros(len(exploring.NAMES), device=device)
        explore[0], explore[2], explore[4] = 0.6, -0.5, 0.2
        self.own = AdaGrad(own, 0.03, 1e-2)
        self.user = AdaGrad(torch.zeros((256, len(own)), device=device), 0.03, 1.0)
        self.explore = AdaGrad(explore, 0.1, 1e-1)
        self.gate = AdaGrad(torch.zeros(GATE_FEATURES, device=device), 0.05, 1e-1)

    def reserve(self, users: int) -> None:
        if users > len(self.user.weights):
            more = max(users, 2 * len(self.user.weights)) - len(self.user.weights)
            pad = torch.zeros((more, self.user.weights.shape[1]), device=self.user.weights.device)
            self.user.weights = torch.cat((self.user.weights, pad))
            self.user.squares = torch.cat((self.user.squares, pad + 1.0))


class FusionRanker:
    """Return-or-explore fusion behind the ``Ranker`` protocol (see model_server.ranking)."""

    def __init__(self, settings: FusionSettings | None = None) -> None:
        self.settings = settings or FusionSettings()
        self.device = torch.device(self.settings.device)
        self.model_version = "fusion-1"
        self.catalogue = Catalogue(self.device)
        self.histories = Histories(self.device, self.settings.history)
        self.patterns = PatternStore(self.catalogue, self.device)
        self._heads = {False: _Head(self.device), True: _Head(self.device)}
        self._explore_rate = 0.3
        self._recent_at_s = 0.0

    def observe(self, events: Sequence[BehaviorEvent]) -> None:
        """Test, then train on each event in order, then remember it. Events are valid and ordered per user."""
        start = 0
        while start < len(events):
            users: set[str] = set()
            stop = start
            while stop < len(events) and len(users) < self.settings.micro_batch:
                if events[stop].user_id in users:
                    break
                users.add(events[stop].user_id)
                stop += 1
            self._observe_distinct(events[start:stop])
            start = stop

    def upsert_items(self, items: Sequence[Item]) -> None:
        """Admit or change catalogue items (available=False withdraws one)."""
        self.catalogue.upsert(items)
        self.patterns.reserve()

    def apply_patterns(self, patterns: Sequence[Pattern]) -> set[str]:
        """Take in pattern updates (the last version of a key wins); the ids of the users that they concern."""
        concerned: set[str] = set()
        for pattern in self.patterns.apply(patterns):
            match pattern:
                case ProfileUpdate() | PeriodicityUpdate(user_id=str()):
                    concerned.add(str(pattern.user_id))
                case ClusterUpdate(change="born" | "moved" | "merged" | "split"):
                    concerned |= self._users_near(pattern)
                case _:
                    pass
        return concerned

    def rank(self, queries: Sequence[Query]) -> list[Ranking]:
        """One ranking per query, in order; never empty while an allowed item is known."""
        rankings: dict[int, Ranking] = {}
        for timed in (False, True):
            known: list[tuple[int, int]] = []
            for index, query in enumerate(queries):
                slot = self.histories.slot(query.user_id)
                if slot is None or self.histories.events[slot] == 0:
                    rankings[index] = self._popular(query)
                elif (query.now_ms is not None) == timed:
                    known.append((index, slot))
            for start in range(0, len(known), self.settings.micro_batch):
                part = known[start : start + self.settings.micro_batch]
                group = [queries[index] for index, _ in part]
                slots = torch.tensor([slot for _, slot in part], device=self.device)
                for (index, _), ranking in zip(part, self._rank_known(group, slots, timed)):
                    rankings[index] = ranking
        return [rankings[index] for index in range(len(queries))]

    def dense_scores(self, user_ids: Sequence[str], now_s: Sequence[float] | None = None) -> Tensor:
        """Probability of every catalogue row [users, rows] for users with history; -1 where a row is not rankable."""
        slots = self.histories.slots_of(user_ids)
        now = None if now_s is None else torch.tensor(now_s, dtype=torch.float64, device=self.device)
        return self._dense(self._score(slots, now))

    def state(self) -> dict[str, object]:
        """Everything learned and remembered, as tensors, numpy arrays and plain values (safe to load weights-only)."""
        heads = {
            name: {
                part: [getattr(head, part).weights, getattr(head, part).squares]
                for part in ("own", "user", "explore", "gate")
            }
            for name, head in (("standing", self._heads[False]), ("timed", self._heads[True]))
        }
        return {
            "settings": msgspec.to_builtins(self.settings),
            "catalogue": self.catalogue.state(),
            "histories": self.histories.state(),
            "heads": heads,
            "explore_rate": self._explore_rate,
            "recent_at_s": self._recent_at_s,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave; ValueError if it does not fit these settings."""
        if state.get("settings") != msgspec.to_builtins(self.settings):
            raise ValueError(f"state was written with settings {state.get('settings')}, these are {self.settings}")
        self.catalogue.load_state(state["catalogue"])
        self.histories.load_state(state["histories"])
        for name, head in (("standing", self._heads[False]), ("timed", self._heads[True])):
            for part, (weights, squares) in state["heads"][name].items():
                getattr(head, part).weights, getattr(head, part).squares = weights.clone(), squares.clone()
        self._explore_rate, self._recent_at_s = float(state["explore_rate"]), float(state["recent_at_s"])
        self.patterns.reserve()

    def _score(self, slots: Tensor, now_s: Tensor | None) -> Scored:
        batch = gather_users(self.histories, self.catalogue, slots, now_s)
        head, rows = self._heads[batch.timed], len(self.catalogue)
        head.reserve(len(self.histories))
        returns = return_features(batch, self.catalogue)
        weights = head.own.weights + head.user.weights[slots]
        own_probability = grouped_softmax(
            (returns.values * weights[batch.own.user]).sum(1), batch.own.user, batch.users
        )
        candidates = torch.arange(rows, device=self.device)
        covisit = torch.log(self.patterns.covisits.scatter(batch.last_row, rows) + 1e-3)
        transition = torch.log(self.patterns.transitions.scatter(batch.last_row, rows) + 2e-4)
        category = (self.catalogue.category[:rows] == self.catalogue.category[batch.last_row][:, None]).float()
        explore = explore_features(batch, self.catalogue, candidates, covisit, transition, category)
        logits = explore @ head.explore.weights
        logits[:, ~self.catalogue.rankable()] = -torch.inf
        logits[batch.own.user, batch.own.row] = -torch.inf
        explore_probability = torch.softmax(logits, 1).nan_to_num(0.0)
        certainty = torch.zeros(batch.users, device=self.device)
        certainty = certainty.scatter_reduce(0, batch.own.user, own_probability, "amax")
        gate = gate_features(batch, self.histories, returns.top_share, returns.evidence, certainty, self._explore_rate)
        return Scored(
            batch, returns.values, own_probability, candidates, explore, explore_probability,
            gate, torch.sigmoid(gate @ head.gate.weights),
        )  # fmt: skip

    def _dense(self, scored: Scored) -> Tensor:
        own, g = scored.batch.own, scored.gate_probability
        dense = g[:, None] * scored.explore_probability
        dense[own.user, own.row] = (1 - g[own.user]) * scored.own_probability
        dense[:, ~self.catalogue.rankable()] = -1.0
        return dense

    def _observe_distinct(self, events: Sequence[BehaviorEvent]) -> None:
        self._place(events)
        slots = self.histories.slots_of([event.user_id for event in events])
        rows = torch.tensor(self.catalogue.rows_of([event.item_id for event in events]), device=self.device)
        self.patterns.reserve()
        times = torch.tensor([event.event_time_ms / 1000 for event in events], dtype=torch.float64, device=self.device)
        experienced = (self.histories.events[slots] > 0).nonzero()[:, 0]
        if len(experienced):
            for timed in (False, True):
                now = times[experienced] if timed else None
                self._learn(self._score(slots[experienced], now), rows[experienced])
        offsets = torch.tensor([_utc_offset_s(event) for event in events], device=self.device)
        week = ((times + offsets + 3 * DAY_S) % (7 * DAY_S)).float()
        new = self.histories.append(slots, rows, times, week)
        self._count(rows, new, week, float(times.max()))

    def _learn(self, scored: Scored, targets: Tensor) -> None:
        batch, head = scored.batch, self._heads[scored.batch.timed]
        hit = batch.own.row == targets[batch.own.user]
        returned = torch.zeros(batch.users, dtype=torch.bool, device=self.device)
        returned[batch.own.user[hit]] = True
        error = (~returned).float() - scored.gate_probability
        gradient = error[:, None] * scored.gate
        head.gate.step(gradient.sum(0), gradient.square().sum(0))
        surprise = (hit.float() - scored.own_probability) * returned[batch.own.user]
        per_user = torch.zeros((batch.users, scored.own.shape[1]), device=self.device)
        per_user.index_add_(0, batch.own.user, surprise[:, None] * scored.own)
        head.own.step(per_user.sum(0), per_user.square().sum(0))
        head.user.step_rows(batch.slots[returned], per_user[returned], 0.003)
        explored = (~returned & self.catalogue.known[targets]).nonzero()[:, 0]
        if len(explored):
            surprise = -scored.explore_probability[explored]
            surprise[torch.arange(len(explored)), targets[explored]] += 1
            step = torch.einsum("uc,ucf->uf", surprise, scored.explore[explored])
            head.explore.step(step.sum(0), step.square().sum(0))
        if batch.timed:
            self._explore_rate += 0.002 * float(((~returned).float() - self._explore_rate).sum())

    def _count(self, rows: Tensor, new: Tensor, week_s: Tensor, at_s: float) -> None:
        c = self.catalogue
        one = torch.ones(len(rows), device=self.device)
        c.known[rows] = True
        c.touches.index_add_(0, rows, one)
        c.hour_touches.index_put_((rows, (week_s / 3600).long() % 24), one, accumulate=True)
        c.visitors.index_add_(0, rows, new.float())
        if at_s > self._recent_at_s:
            c.recent_visitors *= float(np.exp((self._recent_at_s - at_s) / (30 * DAY_S)))
            self._recent_at_s = at_s
        c.recent_visitors.index_add_(0, rows, new.float())

    def _place(self, events: Sequence[BehaviorEvent]) -> None:
        for event in events:
            if event.lat is not None and event.lon is not None and self.catalogue.row(event.item_id) is None:
                self.catalogue.place(self.catalogue.rows_of([event.item_id])[0], event.lat, event.lon)

    def _rank_known(self, queries: Sequence[Query], slots: Tensor, timed: bool) -> list[Ranking]:
        now = [float(query.now_ms or 0) / 1000 for query in queries]
        scored = self._score(slots, torch.tensor(now, dtype=torch.float64, device=self.device) if timed else None)
        dense = self._dense(scored)
        for index, query in enumerate(queries):
            if query.allowed is not None:
                mask = np.zeros(dense.shape[1], dtype=bool)
                mask[: len(query.allowed)] = query.allowed[: len(mask)]
                dense[index, ~torch.from_numpy(mask).to(self.device)] = -1.0
        depth = min(max(query.k for query in queries), dense.shape[1])
        probability, rows = dense.topk(depth, dim=1)
        return [
            self._ranking(scored, index, query, probability[index], rows[index]) for index, query in enumerate(queries)
        ]

    def _ranking(self, scored: Scored, index: int, query: Query, probability: Tensor, rows: Tensor) -> Ranking:
        head, own = self._heads[scored.batch.timed], scored.batch.own
        mine = (own.user == index).nonzero()[:, 0]
        pair_of = dict(zip(own.row[mine].tolist(), mine.tolist()))
        weights = head.own.weights + head.user.weights[scored.batch.slots[index]]
        centre = scored.own_probability[mine] @ scored.own[mine]
        explore_centre = scored.explore_probability[index] @ scored.explore[index]
        items = []
        for p, row in zip(probability.tolist(), rows.tolist()):
            if p < 0 or len(items) == query.k:
                break
            if row in pair_of:
                values, names = (weights * (scored.own[pair_of[row]] - centre)).tolist(), returning.NAMES
            else:
                values = (head.explore.weights * (scored.explore[index, row] - explore_centre)).tolist()
                names = exploring.NAMES
            shares: dict[str, float] = {}
            for name, value in zip(names, values):
                shares[name] = shares.get(name, 0.0) + value
            items.append(RankedItem(item_id=self.catalogue.item_ids[row], row=row, probability=p, shares=shares))
        return Ranking(user_id=query.user_id, items=items, explore_probability=float(scored.gate_probability[index]))

    def _popular(self, query: Query) -> Ranking:
        mask = self.catalogue.rankable()
        if query.allowed is not None:
            mask = mask.clone()
            allowed = torch.from_numpy(np.asarray(query.allowed[: len(mask)])).to(self.device)
            mask[: len(allowed)] &= allowed
            mask[len(allowed) :] = False
        rows = mask.nonzero()[:, 0]
        weight = self.catalogue.touches[rows] + 1e-3
        best = weight.topk(min(query.k, len(rows)))
        total = float(weight.sum())
        items = [
            RankedItem(item_id=self.catalogue.item_ids[row], row=row, probability=w / total, shares={"popularity": 1.0})
            for row, w in zip(rows[best.indices].tolist(), best.values.tolist())
        ]
        return Ranking(user_id=query.user_id, items=items, explore_probability=1.0, fallback="popularity")

    def _users_near(self, cluster: ClusterUpdate) -> set[str]:
        from model_server.catalogue import EARTH_RADIUS_KM, unit_vectors

        users = len(self.histories)
        last = self.histories.row[:users, -1].long()
        centre = unit_vectors(torch.tensor(cluster.lat), torch.tensor(cluster.lon)).to(self.device)
        chord = (self.catalogue.position[last.clamp(min=0)] - centre).square().sum(-1).sqrt()
        near = (chord * EARTH_RADIUS_KM <= CONCERN_KM + cluster.radius_m / 1000) & (last >= 0)
        near &= self.catalogue.has_place[last.clamp(min=0)]
        return {self.histories.user_ids[slot] for slot in near.nonzero()[:, 0].tolist()}


def _utc_offset_s(event: BehaviorEvent) -> float:
    offset = event.context.get("utc_offset_s")
    if offset is not None:
        return float(offset)
    return 3600.0 * round(event.lon / 15) if event.lon is not None else 0.0
