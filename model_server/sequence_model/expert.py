"""The sequence model as an expert of the fusion: it observes events, learns from them, and scores items for users."""

import numpy as np
import torch
from torch import Tensor

from model_server.sequence_model.memory import Events, UserMemory
from model_server.sequence_model.model import NEVER, PRESETS, ModelSettings, SequenceModel
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
        item_rows: np.ndarray,
        content: np.ndarray | None = None,
        lat: np.ndarray | None = None,
        lon: np.ndarray | None = None,
    ) -> None:
        """Make items known before anybody touched them: content vectors float32[n, content_dim], places in degrees (NaN: unknown)."""
        columns = [
            None if column is None else torch.as_tensor(np.asarray(column, np.float32), device=self.device)
            for column in (content, lat, lon)
        ]
        self.model.items.announce(torch.as_tensor(item_rows, device=self.device), *columns)
        self.scorer.refreshed()

    def observe(
        self,
        user_rows: np.ndarray,
        item_rows: np.ndarray,
        time_s: np.ndarray,
        lat: np.ndarray | None = None,
        lon: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        """Append the events (in time order per user) and, whenever ``batch_events`` have come together, learn from them.

        Call it after the events were scored: that is test-then-train. Raises ValueError as ``Events.of`` does.
        """
        events = Events.of(user_rows, item_rows, time_s, lat, lon, weights, self.device)
        self.remember(events)
        self.absorb(events)

    def remember(self, events: Events) -> None:
        """Only append the events, so that ``logits`` can be asked ``before`` any of them; ``absorb`` must follow."""
        if len(events):
            self.memory.append(events)
            self.model.ensure_users(self.memory.rows)
            self.model.items.ensure(int(events.items.max()) + 1)
            self.scorer.refreshed()

    def absorb(self, events: Events) -> None:
        """Count remembered events and, whenever ``batch_events`` have come together, learn from them."""
        if not len(events):
            return
        self.model.items.touch(events.items, events.time_s, events.lat, events.lon)
        self._pending.append(events.users)
        self._pending_events += len(events)
        self.scorer.refreshed()
        if self._pending_events >= self.training.batch_events:
            self.learn()

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
        user_rows: np.ndarray,
        query_time_s: np.ndarray | None = None,
        candidate_rows: np.ndarray | Tensor | None = None,
        before: np.ndarray | None = None,
    ) -> Tensor:
        """log P(next item) of B users over all catalogue rows [B, N], or over candidate rows [B, C] (-1 pads).

        Without ``query_time_s`` (float64[B]) the answer is the standing one: as of each user's last event, it cannot depend
        on any later time. With it, the time of the next event is known. ``before`` (int64[B]) answers as of each user's first
        ``before`` events instead of all. Users without events get the population's view (popularity); rows that nobody
        touched or announced get -1e9.
        """
        users = torch.as_tensor(np.asarray(user_rows, np.int64), device=self.device)
        self.memory.ensure(int(users.max()) + 1 if len(users) else 0)
        self.model.ensure_users(self.memory.rows)
        count = self.memory.count[users] if before is None else torch.as_tensor(before, device=self.device)
        when = (
            None if query_time_s is None else torch.as_tensor(np.asarray(query_time_s, np.float64), device=self.device)
        )
        known = torch.log(self.model.items.touches[: self.rows] + 0.3).masked_fill(
            ~self.model.items.known[: self.rows], NEVER
        )
        out = torch.log_softmax(known, 0).expand(len(users), -1).clone()
        some = torch.nonzero(count > 0).flatten()
        if len(some):
            answer = self.scorer.answer(users[some], count[some], None if when is None else when[some])
            out[some] = self.scorer.full(answer)
        if candidate_rows is None:
            return out
        rows = torch.as_tensor(candidate_rows, device=self.device)
        return out.gather(1, rows.clamp(min=0)).masked_fill(rows < 0, NEVER)
