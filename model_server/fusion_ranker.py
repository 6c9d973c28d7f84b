"""The served strategy: return-or-explore fusion of patterns, the user's rhythm and the sequence model, learned online."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from model_server.catalogue import EARTH_RADIUS_KM, Catalogue, placed, unit_vectors
from model_server.fusion.arrivals import Arrivals, earlier_rows, joined, testable, was_new
from model_server.fusion.batch import DAY_S, HOUR_S, gather_users
from model_server.fusion.candidates import Shortlist
from model_server.fusion.cpu_features import PublicRows
from model_server.fusion.crowds import Crowds
from model_server.fusion.head import Head, Merged, Scored, World
from model_server.fusion.rankings import Rankings
from model_server.fusion.replay import ReplayLog
from model_server.fusion.settings import FusionSettings, Mode
from model_server.histories import WEEK_S, Histories, occurrence
from model_server.neighbours import ItemNeighbours
from model_server.patterns import PatternStore
from model_server.ranking import Query, Ranking
from model_server.sequence_model.expert import SequenceExpert
from model_server.sequence_model.memory import Events
from model_server.sequence_model.model import PRESETS
from model_server.sequence_model.trainer import TrainerSettings
from model_server.visits import VisitCounts
from schemas.events import BehaviorEvent, Item
from schemas.patterns import ClusterUpdate, Pattern, PeriodicityUpdate, ProfileUpdate

CONCERN_KM = 2.0
MONDAY_S = 3 * DAY_S
RANKED_AT_ONCE = 256  # a batch costs some 3 ms, however few its users are; of 256 the features take 16 MB


class FusionRanker:
    """Return-or-explore fusion behind the ``Ranker`` protocol (see model_server.ranking).

    At most ``max_users`` users are remembered, some 16 kB each; a new one beyond takes the place of the one who has been idle
    for longest. It must exceed the users of the events that are admitted and not learned yet.
    """

    def __init__(self, settings: FusionSettings | None = None, max_users: int = 1_000_000) -> None:
        self.settings = settings or FusionSettings()
        self.device = torch.device(self.settings.device)
        self.model_version = "fusion-3"
        self.catalogue = Catalogue(self.device)
        self.histories = Histories(self.device, self.settings.history, max_users=max_users)
        self.patterns = PatternStore(self.catalogue, self.device)
        self.visits = VisitCounts(self.device)
        self.neighbours = ItemNeighbours(self.device)
        self.crowds = Crowds(self.device)
        self.shortlist = Shortlist(self.catalogue, self.visits, self.patterns, self.neighbours)
        self.replay = ReplayLog(self.device, seed=self.settings.seed)
        self._world = World(
            self.catalogue, self.histories, self.visits, self.patterns, self.neighbours, self.crowds,
            PublicRows(self.visits, self.crowds), self.shortlist,
        )  # fmt: skip
        self._rankings = Rankings(self.catalogue, self.visits)
        self._heads = {mode: Head(mode, self.settings, self.device) for mode in self.settings.modes}
        self.sequence: SequenceExpert | None = None
        if self.settings.sequence and "sequence" not in self.settings.without:
            training = TrainerSettings(modes=self.settings.modes, seed=self.settings.seed)
            self.sequence = SequenceExpert(PRESETS[self.settings.sequence], training, self.device)

    def observe(self, events: Sequence[BehaviorEvent]) -> None:
        """Test, then train on each event in order, then remember it. Events are valid and ordered per user."""
        for start in range(0, len(events), self.settings.micro_batch):
            arrivals = self.remember(events[start : start + self.settings.micro_batch])
            self.learn(arrivals, self.test(arrivals))

    def admit(self, events: Sequence[BehaviorEvent]) -> Arrivals | None:
        """Remember the events, so that rankings know them at once; ``learning`` must follow, in the same order."""
        return self.remember(events) if events else None

    def learning(self, admitted: Sequence[Arrivals | None], train: bool) -> Iterator[None]:
        """Test, then train on what was admitted, with a pause after each step; without ``train`` it is only counted."""
        blocks = [arrivals for arrivals in admitted if arrivals is not None]
        if not blocks:
            return
        arrivals, tested = joined(blocks), {}
        for mode in self._heads if train else ():
            scored = self._test(arrivals, mode)
            if scored is not None:
                tested[mode] = scored
                yield
        yield from self._lessons(arrivals, tested, train)

    def remember(self, events: Sequence[BehaviorEvent]) -> Arrivals:
        """Append a block of events to the histories and nothing else; ``learn`` must follow."""
        rows = torch.tensor(self.catalogue.rows_of([event.item_id for event in events]), device=self.device)
        self._reserve()
        self._place(events, rows)
        slots = self.histories.slots_of([event.user_id for event in events])
        self._forget(self.histories.take_recycled())
        before = self.histories.events[slots] + occurrence(slots)
        times = torch.tensor([event.event_time_ms / 1000 for event in events], dtype=torch.float64, device=self.device)
        offsets = torch.tensor([_utc_offset_s(event) for event in events], device=self.device)
        week = ((times + offsets + MONDAY_S) % WEEK_S).float()
        self.histories.append(slots, rows, times, week)
        lat = np.array([np.nan if event.lat is None else event.lat for event in events])
        lon = np.array([np.nan if event.lon is None else event.lon for event in events])
        sequence = Events.of(slots.cpu().numpy(), rows.cpu().numpy(), times.cpu().numpy(), lat, lon, None, self.device)
        if self.sequence is not None:
            self.sequence.remember(sequence)
        return Arrivals(slots, rows, before, times, week, sequence)

    def _forget(self, slots: Tensor) -> None:
        if len(slots):
            for head in self._heads.values():
                head.reserve(self._world)
                head.forget(slots)
            if self.sequence is not None:
                self.sequence.forget(slots)

    def test(self, arrivals: Arrivals) -> dict[Mode, Scored]:
        """Score remembered events that are not learned yet, each as of the event before it."""
        return {mode: scored for mode in self._heads if (scored := self._test(arrivals, mode)) is not None}

    def _test(self, arrivals: Arrivals, mode: Mode) -> Scored | None:
        some = self.testable(arrivals)
        if not len(some):
            return None
        time_s = arrivals.time_s[some] if mode == "request" else None
        return self.score(mode, arrivals.slots[some], arrivals.before[some], time_s)

    def testable(self, arrivals: Arrivals) -> Tensor:
        """Positions of the arrivals whose user had an event before that is still remembered."""
        return testable(arrivals, self.histories)

    def score(
        self,
        mode: Mode,
        slots: Tensor,
        before: Tensor | None = None,
        now_s: Tensor | None = None,
    ) -> Scored:
        """One batch of users with history through one head."""
        heard = None if self.sequence is None else self.sequence.listen(slots, now_s, before)
        return self._heads[mode].score(self._world, slots, before, now_s, heard)

    def learn(self, arrivals: Arrivals, tested: dict[Mode, Scored]) -> None:
        """Learn from a remembered and tested block, replay older events, and count it."""
        for _ in self._lessons(arrivals, tested, train=True):
            pass

    def _lessons(self, arrivals: Arrivals, tested: dict[Mode, Scored], train: bool) -> Iterator[None]:
        """The steps of ``learn``, with a pause after each; without ``train`` the block is only counted."""
        some = self.testable(arrivals)
        target = arrivals.rows[some]
        for mode, scored in tested.items():
            self._heads[mode].learn(self._world, scored, target)
            yield
            while self._heads[mode].grow():
                yield
        if len(some):
            self.replay.add(arrivals.slots[some], arrivals.before[some])
            for _ in range(self.settings.replays if train else 0):
                yield from self._learn_again()
        new = was_new(arrivals, self.histories)
        self.neighbours.add(arrivals.rows[new], earlier_rows(arrivals, new, self.histories))
        self.catalogue.known[arrivals.rows] = True
        self.visits.add(
            arrivals.rows, self.catalogue.category[arrivals.rows], new, arrivals.time_s, arrivals.week_s / HOUR_S % 24
        )
        if self.sequence is not None:
            yield from self.sequence.absorbing(arrivals.sequence, train)

    def _learn_again(self) -> Iterator[None]:
        slots, before = self.replay.draw(self.histories, self.settings.replay_events)
        if not len(slots):
            return
        at = self.histories.length - (self.histories.events[slots] - before)
        target, time_s = self.histories.row[slots, at].long(), self.histories.time_s[slots, at]
        rows = len(self.catalogue)
        batches = {  # all of one moment: what comes during a pause may take the place of an event
            mode: gather_users(self.histories, rows, slots, before, time_s if mode == "request" else None)
            for mode in self._heads
        }
        for mode, head in self._heads.items():
            head.learn_again(self._world, batches[mode], target)
            yield

    def upsert_items(self, items: Sequence[Item]) -> None:
        """Admit or change catalogue items (available=False withdraws one)."""
        self.catalogue.upsert(items)
        self._reserve()
        rows = self.catalogue.rows_of([item.item_id for item in items])
        self.shortlist.place(*placed(zip(rows, ((item.lat, item.lon) for item in items))))

    def apply_patterns(self, patterns: Sequence[Pattern]) -> set[str]:
        """Take in pattern updates (the last version of a key wins); the ids of the users that they concern."""
        concerned: set[str] = set()
        taken = self.patterns.apply(() if "patterns" in self.settings.without else patterns)
        self._reserve()  # they may name items that nobody has heard of
        for pattern in taken:
            if isinstance(pattern, ClusterUpdate):
                self.crowds.update(pattern, self.shortlist.around(pattern.lat, pattern.lon), self.catalogue)
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
        held = [self.histories.slot(query.user_id) for query in queries]
        at = torch.tensor([slot or 0 for slot in held], dtype=torch.long, device=self.device)
        rankings: dict[int, Ranking] = {}
        known: dict[Mode, list[tuple[int, int]]] = {mode: [] for mode in self.settings.modes}
        for index, (query, slot, events) in enumerate(zip(queries, held, self.histories.events[at].tolist())):
            if slot is None or events == 0:
                rankings[index] = self._rankings.popular(query)
            else:
                known[self._mode_of(query)].append((index, slot))
        for mode, some in known.items():
            for start in range(0, len(some), RANKED_AT_ONCE):
                part = some[start : start + RANKED_AT_ONCE]
                group = [queries[index] for index, _ in part]
                slots = torch.tensor([slot for _, slot in part], device=self.device)
                scored = self.score(mode, slots, None, self._asked_s(group, mode))
                for (index, _), ranking in zip(part, self._rankings.of(group, self._heads[mode], scored)):
                    rankings[index] = ranking
        return [rankings[index] for index in range(len(queries))]

    def _mode_of(self, query: Query) -> Mode:
        """Whether the query knows its time; a ranker of one mode answers all in that one."""
        modes = self.settings.modes
        return modes[0] if len(modes) == 1 else "refresh" if query.now_ms is None else "request"

    def _asked_s(self, queries: Sequence[Query], mode: Mode) -> Tensor | None:
        """The times that are asked about, float64 [n]; None for standing rankings, which know none."""
        if mode != "request":
            return None
        times = [float(query.now_ms or 0) / 1000 for query in queries]
        return torch.tensor(times, dtype=torch.float64, device=self.device)

    def losses(self) -> dict[str, float]:
        """The log loss of each mode's whole answer and of the sequence model, on new events (moving means, nats)."""
        found: dict[str, float | None] = {mode: head.log_loss for mode, head in self._heads.items()}
        found["sequence"] = None if self.sequence is None else self.sequence.trainer.recent_loss
        return {part: loss for part, loss in found.items() if loss is not None}

    def sizes(self) -> dict[str, int]:
        """How much is held, by kind."""
        held = self.patterns
        return {
            "users": len(self.histories),
            "items": len(self.catalogue),
            "patterns": len(held),
            "crowds": len(held.clusters),
        }

    def state(self) -> dict[str, object]:
        """Everything learned and remembered, as tensors, numpy arrays and plain values (safe to load weights-only)."""
        return {
            "settings": msgspec.to_builtins(self.settings),
            "catalogue": self.catalogue.state(),
            "histories": self.histories.state(),
            "visits": self.visits.state(),
            "shortlist": self.shortlist.state(),
            "replay": self.replay.state(),
            "neighbours": self.neighbours.lists.state(),
            "heads": {mode: head.state() for mode, head in self._heads.items()},
            "sequence": None if self.sequence is None else self.sequence.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave; ValueError if it does not fit these settings."""
        if state.get("settings") != msgspec.to_builtins(self.settings):
            raise ValueError(f"state was written with settings {state.get('settings')}, these are {self.settings}")
        self.catalogue.load_state(state["catalogue"])
        self.histories.load_state(state["histories"])
        self.visits.load_state(state["visits"])
        self.shortlist.load_state(state["shortlist"])
        self.replay.load_state(state["replay"])
        self.neighbours.lists.load_state(state["neighbours"])
        if self.sequence is not None:
            if not isinstance(state.get("sequence"), dict):
                raise ValueError("state has no sequence model")
            self.sequence.load_state(state["sequence"])
        for mode, head in self._heads.items():
            head.load_state(state["heads"][mode])
        self._reserve()

    def _reserve(self) -> None:
        self.patterns.reserve()
        self.crowds.reserve(len(self.catalogue))
        self.neighbours.lists.reserve(len(self.catalogue))
        self.visits.reserve(len(self.catalogue), len(self.catalogue.category_names))

    def _place(self, events: Sequence[BehaviorEvent], rows: Tensor) -> None:
        """Events tell where items are and of which category, where nobody has said so yet."""
        told = zip(rows.tolist(), self.catalogue.has_place[rows].tolist(), events)
        first = {row: (event.lat, event.lon) for row, known, event in reversed(list(told)) if not known}
        columns = placed(first.items())
        self.catalogue.place(*columns)
        self.shortlist.place(*columns)
        for row, event in zip(rows.tolist(), events):
            category = event.context.get("category")
            if category and self.catalogue.category[row] == 0:
                self.catalogue.category[row] = self.catalogue.category_code(category)

    def ordered(self, mode: Mode, scored: Scored) -> tuple[Merged, Tensor]:
        """The list of each user and the scores that it is shown by; -1 where there is nothing."""
        return self._rankings.ordered(self._heads[mode], scored)

    def _users_near(self, cluster: ClusterUpdate) -> set[str]:
        last = self.histories.row[: len(self.histories), -1].long()
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
