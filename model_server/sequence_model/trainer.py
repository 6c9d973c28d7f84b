"""Learning: batches of new events with replay while the stream runs, and passes over history before it does.

The unit is a chunk: one user's window of events, encoded once, with a loss at its last ``targets`` events. A step never
leaves damage behind: a loss or gradient that is not finite is dropped and counted, and when the prequential loss collapses
the last good weights come back.
"""

import math

import msgspec
import torch
from torch import Tensor

from model_server.sequence_model.losses import full_softmax, sampled_softmax
from model_server.sequence_model.memory import History, UserMemory
from model_server.sequence_model.model import MODES, NEVER, Answer, OwnItems, SequenceModel


class TrainerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model learns. ``modes`` are the kinds of query it learns to answer.

    ``batch_events`` new events make a learning round: one step on the chunks that hold them, ``replays`` steps on
    ``replay_chunks`` chunks drawn from everything remembered. Catalogues above ``full_softmax_rows`` use ``samples`` drawn items.
    """

    modes: tuple[str, ...] = MODES
    learning_rate: float = 4e-3
    table_rate: float = 0.05
    batch_events: int = 512
    targets: int = 16
    replays: int = 1
    replay_chunks: int = 96
    queries_per_step: int = 2048
    full_softmax_rows: int = 20_000
    samples: int = 4_096
    clip_norm: float = 5.0
    collapse_factor: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.modes or set(self.modes) - set(MODES):
            raise ValueError(f"modes must be some of {MODES}, got {self.modes}")
        if min(self.batch_events, self.targets, self.replay_chunks, self.queries_per_step, self.samples) < 1:
            raise ValueError("batch_events, targets, replay_chunks, queries_per_step and samples must be >= 1")


class Trainer:
    """Takes gradient steps on a model from what its memory holds. Deterministic given the settings' seed and the events."""

    def __init__(self, model: SequenceModel, memory: UserMemory, settings: TrainerSettings) -> None:
        self.model, self.memory, self.settings = model, memory, settings
        self.optimizer = torch.optim.Adam(model.dense_parameters(), lr=settings.learning_rate, betas=(0.9, 0.99))
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.steps = 0
        self.dropped_steps = 0
        self.fallbacks = 0

    def learn_recent(self, users: Tensor) -> float:
        """One learning round after new events of ``users``; the loss of their step."""
        fresh = torch.unique(users)
        loss = self.step(fresh, self.memory.count[fresh])
        for _ in range(self.settings.replays):
            self.step(*self.draw(self.settings.replay_chunks))
        return loss

    def draw(self, chunks: int) -> tuple[Tensor, Tensor]:
        """Chunks (users, ends) so that every remembered event is about equally often among the targets."""
        count = self.memory.count[: self.memory.rows]
        held = torch.minimum(count, torch.tensor(self.memory.length)).double()
        if not len(held) or held.max() < 2:
            empty = torch.zeros(0, dtype=torch.int64, device=self.memory.device)
            return empty, empty
        users = torch.multinomial(held.cpu(), chunks, replacement=True, generator=self.generator).to(count.device)
        back = torch.rand(chunks, generator=self.generator).to(count.device) * (held[users] + self.settings.targets - 1)
        ends = (count[users] - back.long() + self.settings.targets - 1).clamp(max=count[users])
        return users, ends.clamp(min=2)

    def step(self, users: Tensor, ends: Tensor) -> float:
        """One gradient step on the chunks that end before event number ``ends`` of ``users``; its loss (nan if dropped)."""
        usable = ends >= 2
        users, ends = users[usable], ends[usable]
        if not len(users):
            return math.nan
        self.model.train()
        loss = self.loss(users, ends)
        if loss is None:
            return math.nan
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.steps += 1
        if not self._finite(loss):
            self.dropped_steps += 1
            for table in self.model.row_tables():
                table.weight.grad = None
            return math.nan
        torch.nn.utils.clip_grad_norm_(self.model.dense_parameters(), self.settings.clip_norm)
        self.optimizer.step()
        for table in self.model.row_tables():
            table.step(self.settings.table_rate)
        return loss.item()

    def loss(self, users: Tensor, ends: Tensor) -> Tensor | None:
        """The mean loss over the targets of the chunks, None if there are none."""
        window, memory = self.model.settings.window, self.memory
        tokens = memory.history(users, ends - 1, window)
        states = self.model.encode(tokens)[:, -self.settings.targets :]  # [S, P, d]
        back = torch.arange(states.shape[1] - 1, -1, -1, device=users.device)
        number = ends[:, None] - 1 - back  # [S, P] absolute number of each target
        chosen = torch.nonzero((number > memory.oldest(users)[:, None]) & (number >= 1))
        if len(chosen) > self.settings.queries_per_step:
            keep = torch.randperm(len(chosen), generator=self.generator)[: self.settings.queries_per_step]
            chosen = chosen[keep.to(chosen.device)]
        if not len(chosen):
            return None
        at = (chosen[:, 0], chosen[:, 1])
        who, when = users[at[0]], number[at]
        history = memory.history(who, when, self.model.settings.memory)
        own = OwnItems.of(history)
        item, time_s, weight = memory.event(who, when)
        state = states[at]
        losses = [
            self._query_loss(self.model.answer(mode, state, history, own, time_s if mode == "request" else None), item)
            for mode in self.settings.modes
        ]
        total = torch.stack(losses).sum(0)
        return (total * weight).sum() / weight.sum().clamp(min=1e-6)

    def _query_loss(self, answer: Answer, item: Tensor) -> Tensor:
        """[B]: -log P(item) under return or explore."""
        hit = answer.own.rows == item[:, None]
        returns = hit.any(1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(answer.gate, (~returns).float(), reduction="none")
        back = -(torch.log_softmax(answer.returns, 1) * hit).sum(1)
        loss = loss + torch.where(returns, back, 0.0)
        new = torch.nonzero(~returns).flatten()
        if not len(new):
            return loss
        return loss.index_add(0, new, self._explore_loss(_select(answer, new), item[new]))

    def _explore_loss(self, answer: Answer, item: Tensor) -> Tensor:
        items = self.model.items
        if items.rows <= self.settings.full_softmax_rows:
            rows = torch.arange(items.rows, device=item.device)
            logits = self.model.explore_logits(answer, rows, items.catalogue())
            return full_softmax(mask_own(logits, answer.own), item)
        known = torch.nonzero(items.known).flatten()
        draws = torch.randint(len(known), (self.settings.samples,), generator=self.generator).to(known.device)
        rows = torch.cat([known[draws], item])
        logits = self.model.explore_logits(answer, rows, items(rows))
        c = self.settings.samples
        target = logits[:, c:].diagonal()
        own = (rows[None, :c, None] == answer.own.rows[:, None, :]).any(-1)
        log_expected = logits.new_full((c,), math.log(c / len(known)))
        return sampled_softmax(
            target, logits[:, :c].masked_fill(own, NEVER), log_expected, rows[None, :c] == item[:, None]
        )

    def _finite(self, loss: Tensor) -> bool:
        if not torch.isfinite(loss):
            return False
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        sums = [(g.coalesce().values() if g.is_sparse else g).abs().sum() for g in grads]
        return bool(torch.isfinite(torch.stack(sums)).all())


def mask_own(logits: Tensor, own: OwnItems) -> Tensor:
    """[B, N] logits with ``NEVER`` at the user's own rows."""
    padded = torch.cat([logits, logits.new_zeros(len(logits), 1)], 1)
    rows = torch.where(own.rows >= 0, own.rows, logits.shape[1])
    return padded.scatter(1, rows, NEVER)[:, :-1]


def _select(answer: Answer, index: Tensor) -> Answer:
    """The answers of some of the queries."""
    history = History(**{name: getattr(answer.history, name)[index] for name in History.__dataclass_fields__})
    own = OwnItems(answer.own.rows[index], answer.own.column[index], answer.own.latest[index])
    time_s = None if answer.query_time_s is None else answer.query_time_s[index]
    return Answer(answer.mode, history, own, time_s, answer.query[index], answer.returns[index], answer.gate[index])
