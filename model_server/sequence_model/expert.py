"""The sequence model as an expert of the fusion: it observes events, learns from them, and scores items for users."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model_server.sequence_model.listening import Heard
from model_server.sequence_model.memory import Events, UserMemory
from model_server.sequence_model.model import NEVER, PRESETS, Answer, ModelSettings, SequenceModel
from model_server.sequence_model.scoring import Scorer
from model_server.sequence_model.trainer import Trainer, TrainerSettings


class SequenceExpert:
    """A sequence model that learns online. User and item rows are the caller's dense numbers; both may grow at any time.

    >>> expert = SequenceExpert()
    >>> expert.observe(np.array([0, 0, 1]), np.array([2, 3, 2]), np.array([0.0, 3600.0, 7200.0]))
    >>> tuple(expert.logits(np.array([0, 1])).shape)
    (2, 4)
    """

    def __init__(
        self,
        settings: ModelSettings = PRESETS["nano"],
        training: TrainerSettings | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.settings = settings
        self.training = training = training or TrainerSettings()
        self.device = torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            self.model = SequenceModel(settings).to(self.device)
        if self.device.type == "cuda":
            self.model.transducer.compile(dynamic=True)
        self.memory = UserMemory(settings.memory + 32, self.device)
        self.trainer = Trainer(self.model, self.memory, training)
        self.scorer = Scorer(self.model, self.memory)
        self._pending: list[Tensor] = []
        self._pending_events = 0

    @property
    def rows(self) -> int:
        """The number of catalogue rows so far: the width of ``logits`` over the whole catalogue."""
        return self.model.items.rows

    def upsert_items(
        self,
        item_rows: npt.NDArray[Any],
        content: npt.NDArray[Any] | None = None,
        lat: npt.NDArray[Any] | None = None,
        lon: npt.NDArray[Any] | None = None,
    ) -> None:
        """Make items known before anybody touched them: content float32[n, content_dim], places in degrees (NaN: unknown).

        Raises ValueError for content of another shape.
        """
        columns = [
            None if column is None else torch.as_tensor(np.asarray(column, np.float32), device=self.device)
            for column in (content, lat, lon)
        ]
        self.model.items.announce(torch.as_tensor(item_rows, device=self.device), *columns)
        self.scorer.refreshed()

    def observe(
        self,
        user_rows: npt.NDArray[Any],
        item_rows: npt.NDArray[Any],
        time_s: npt.NDArray[Any],
        lat: npt.NDArray[Any] | None = None,
        lon: npt.NDArray[Any] | None = None,
        weights: npt.NDArray[Any] | None = None,
    ) -> None:
        """Append the events (in time order per user) and, whenever ``batch_events`` have come together, learn from them.

        Call it after the events were scored: that is test-then-train. Raises ValueError as ``Events.of`` does.
        """
        events = Events.of(user_rows, item_rows, time_s, lat, lon, weights, self.device)
        self.remember(events)
        self.absorb(events)

    def remember(self, events: Events) -> None:
        """Only append the events, so that ``logits`` can be asked ``before`` any of them; ``absorb`` must follow.

        What popularity and the item table say is then still that of the moment before the first of them.
        """
        if len(events):
            self.memory.append(events)
            self.model.ensure_users(self.memory.rows)
            self.model.items.ensure(int(events.items.max()) + 1)

    def forget(self, user_rows: Tensor) -> None:
        """These user rows belong to somebody else now, of whom nothing is known; rows never heard of are ignored."""
        rows = user_rows[user_rows < self.memory.rows]
        if len(rows):
            self.memory.forget(rows)
            self.model.forget_users(rows)
            self.scorer.encoder.forget_users(rows)

    def absorb(self, events: Events) -> None:
        """Count remembered events and, whenever ``batch_events`` have come together, learn from them."""
        for _ in self.absorbing(events):
            pass

    def absorbing(self, events: Events, train: bool = True) -> Iterator[None]:
        """``absorb`` with a pause after each part of a gradient step; without ``train`` the events are only counted."""
        if not len(events):
            return
        if self.model.items.touch(events.items, events.time_s, events.lat, events.lon):
            self.scorer.admitted()
        else:
            self.scorer.counted()
        if not train:
            return
        self._pending.append(events.users)
        self._pending_events += len(events)
        if self._pending_events >= self.training.batch_events:
            users = torch.cat(self._pending)
            self._pending, self._pending_events = [], 0
            if self.model.items.expire(float(events.time_s.max())):
                self.scorer.refreshed()
            for changed in self.trainer.recent_steps(users):
                if changed:
                    self.scorer.refreshed()
                yield

    def learn(self) -> float:
        """A learning round on the events observed since the last one; its loss (nan without any)."""
        if not self._pending:
            return float("nan")
        users = torch.cat(self._pending)
        self._pending, self._pending_events = [], 0
        loss = self.trainer.learn_recent(users)
        self.scorer.refreshed()
        return loss

    def logits(
        self,
        user_rows: npt.NDArray[Any],
        query_time_s: npt.NDArray[Any] | None = None,
        candidate_rows: npt.NDArray[Any] | Tensor | None = None,
        before: npt.NDArray[Any] | None = None,
    ) -> Tensor:
        """log P(next item) of B users over all catalogue rows [B, N], or over candidate rows [B, C] (-1 pads).

        Without ``query_time_s`` (float64[B]) the answer is the standing one: as of each user's last event, it cannot depend
        on any later time. With it, the time of the next event is known. ``before`` (int64[B]) answers as of each user's first
        ``before`` events instead of all (popularity stays that of now). Candidates share what exploring has to give among
        them. Users without events get the population's view; rows that nobody touched or announced get -1e9.
        """
        users = torch.as_tensor(np.asarray(user_rows, np.int64), device=self.device)
        if not len(users):
            return torch.zeros(0, self.rows if candidate_rows is None else 0, device=self.device)
        self.memory.ensure(int(users.max()) + 1)
        self.model.ensure_users(self.memory.rows)
        count = None if before is None else torch.as_tensor(before, device=self.device)
        when = (
            None if query_time_s is None else torch.as_tensor(np.asarray(query_time_s, np.float64), device=self.device)
        )
        rows = None if candidate_rows is None else torch.as_tensor(candidate_rows, device=self.device)
        if rows is not None:
            rows = torch.where(rows < self.rows, rows, -1)
        out = self._without_history(len(users), rows)
        some = torch.nonzero((self.memory.count[users] if count is None else count) > 0).flatten()
        if len(some):
            asked = None if when is None else when[some]
            answer = self._answer(users[some], asked, None if count is None else count[some])
            out[some] = self.scorer.full(answer) if rows is None else self.scorer.candidates(answer, rows[some])
        return out

    def listen(self, users: Tensor, query_time_s: Tensor | None, before: Tensor | None) -> Heard:
        """What is said of users (int64[B]) that have events, as ``logits`` would answer, for rows that are named later."""
        return Heard(self.scorer, self._answer(users, query_time_s, before))

    def _answer(self, users: Tensor, query_time_s: Tensor | None, before: Tensor | None) -> Answer:
        distinct = before is None and len(torch.unique(users)) == len(users)
        count = self.memory.count[users] if before is None else before
        return self.scorer.answer(users, None if distinct else count, query_time_s)

    def _without_history(self, users: int, rows: Tensor | None) -> Tensor:
        """What is said of users without events: log popularity, normalised."""
        items = self.model.items
        popularity = torch.log(items.touches[: self.rows] + 0.3).masked_fill(~items.known[: self.rows], NEVER)
        if rows is None:
            return torch.log_softmax(popularity, 0).expand(users, -1).clone()
        chosen = torch.cat([popularity, popularity.new_full((1,), NEVER)])[rows]
        return torch.log_softmax(chosen, 1).masked_fill(rows < 0, NEVER)

    def fit(self, epochs: int) -> float:
        """Passes over everything remembered, as many as ``epochs``, without new events; the mean loss of the last pass."""
        per_epoch = int(self.memory.count.clamp(max=self.memory.length).sum()) // self.training.queries_per_step + 1
        losses = [float("nan")]
        for _ in range(epochs):
            losses = [self.trainer.step(*self.trainer.draw(self.training.replay_chunks)) for _ in range(per_epoch)]
        self.scorer.refreshed()
        return float(np.nanmean(losses)) if np.isfinite(losses).any() else float("nan")

    def state(self) -> dict[str, object]:
        """Everything learned and remembered, as tensors and plain values (safe to load weights-only)."""
        return {
            "model": dict(self.model.state_dict()),
            "memory": self.memory.state(),
            "trainer": self.trainer.state(),
            "pending": torch.cat(self._pending) if self._pending else torch.zeros(0, dtype=torch.int64),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave. Raises ValueError if it does not fit these settings; nothing is changed then."""
        fresh = SequenceExpert(self.settings, self.training, self.device)
        try:
            fresh.model.load_state_dict(state["model"])
            fresh.memory.load_state(state["memory"])
            fresh.trainer.load_state(state["trainer"])
            pending = state["pending"].to(self.device)
        except (RuntimeError, KeyError, AttributeError) as error:
            raise ValueError(f"the state does not fit these settings: {str(error).splitlines()[0]}") from None
        self.model, self.memory, self.trainer, self.scorer = fresh.model, fresh.memory, fresh.trainer, fresh.scorer
        self._pending, self._pending_events = ([pending], len(pending)) if len(pending) else ([], 0)
