"""Learning: batches of new events with replay while the stream runs, and passes over history before it does.

The unit is a chunk: one user's window of events, encoded once, with a loss at its last ``targets`` events. A step never
leaves damage behind: a loss or gradient that is not finite is dropped and counted, and when the prequential loss collapses
the last good weights come back.
"""

import math
from collections.abc import Generator
from typing import Any

import msgspec
import torch
from torch import Tensor

from model_server.sequence_model.losses import full_softmax, sampled_softmax
from model_server.sequence_model.memory import UserMemory
from model_server.sequence_model.model import MODES, NEVER, Answer, OwnItems, SequenceModel, mask_own

_COUNTERS = ("steps", "dropped_steps", "fallbacks")


class TrainerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model learns. ``modes`` are the kinds of query it learns to answer.

    ``batch_events`` new events make a learning round: one step on the chunks that hold them, ``replays`` steps on
    ``replay_chunks`` chunks drawn from everything remembered, ``group`` targets at a time (a
    part between two pauses). Catalogues above ``full_softmax_rows`` use ``samples`` drawn items.
    """

    modes: tuple[str, ...] = MODES
    learning_rate: float = 1e-2
    table_rate: float = 0.02
    personal_rate: float = 0.01
    batch_events: int = 256
    targets: int = 8
    replays: int = 1
    replay_chunks: int = 64
    queries_per_step: int = 512
    group: int = 64
    full_softmax_rows: int = 20_000
    samples: int = 4_096
    clip_norm: float = 5.0
    collapse_factor: float = 2.0
    copy_every_steps: int = 256
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
        self.optimizer = self._optimizer()
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.steps = 0
        self.dropped_steps = 0
        self.fallbacks = 0
        self._dropped_in_a_row = 0
        self._next_copy = 0
        self._loss: float | None = None  # prequential: a moving average of the loss on new events, before their step
        self._good_loss = math.inf
        self._good: dict[str, Tensor] = self._copy()

    @property
    def recent_loss(self) -> float | None:
        """The prequential loss of late (moving mean, nats); None before the first step."""
        return self._loss

    def learn_recent(self, users: Tensor) -> float:
        """One learning round after new events of ``users``; the loss of their step."""
        return _finished(self.recent_steps(users))

    def recent_steps(self, users: Tensor) -> Generator[bool, None, float]:
        """The same with pauses; each says whether the weights have changed since the one before."""
        fresh, counts = torch.unique(users, return_counts=True)
        loss = yield from self._stepping(fresh, self.memory.count[fresh], counts)
        yield True
        for _ in range(self.settings.replays):
            yield from self._stepping(*self.draw(self.settings.replay_chunks), None)
            yield True
        self._watch(loss)
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

    def step(self, users: Tensor, ends: Tensor, recent: Tensor | None = None) -> float:
        """One gradient step on the chunks that end before event number ``ends`` of ``users``; its loss (nan if dropped)."""
        return _finished(self._stepping(users, ends, recent))

    def _stepping(self, users: Tensor, ends: Tensor, recent: Tensor | None) -> Generator[bool, None, float]:
        """``step`` with a pause after each part of the gradient; rankings in between see the weights of before."""
        usable = ends >= 2
        users, ends = users[usable], ends[usable]
        recent = None if recent is None else recent[usable]
        if not len(users):
            return math.nan
        found = yield from self._gradient(users, ends, recent)
        if found is None:
            return math.nan
        loss, weight = found
        self.steps += 1
        if not self._finite(loss):
            self.dropped_steps += 1
            self._dropped_in_a_row += 1
            for table in self.model.row_tables():
                table.weight.grad = None
            return math.nan
        self._dropped_in_a_row = 0
        torch.nn.utils.clip_grad_norm_(self.model.dense_parameters(), self.settings.clip_norm)
        self.optimizer.step()
        personal = self.model.personal_tables()
        for table in self.model.row_tables():
            rate = self.settings.personal_rate if table in personal else self.settings.table_rate
            table.step(rate, weight)
        return loss.item()

    def _gradient(
        self, users: Tensor, ends: Tensor, recent: Tensor | None
    ) -> Generator[bool, None, tuple[Tensor, float] | None]:
        """Leave the gradient of the mean loss over the targets of the chunks; that loss and the targets' total weight.

        None if there are no targets. A table that grew during a pause has taken its gradient along: then all starts again.
        """
        targets = self._targets(users, ends, recent)
        if targets is None:
            return None
        chunk, place, number = targets
        who = users[chunk]
        total = self.memory.event(who, number)[2].sum().clamp(min=1e-6)
        order = torch.argsort(number, stable=True)  # histories of similar length together: little padding
        while True:
            weights = [table.weight for table in self.model.row_tables()]
            for parameter in self.model.parameters():
                parameter.grad = None
            loss = torch.zeros((), device=users.device)
            with self._training():
                tokens = self.memory.history(users, ends - 1, self.model.settings.window)
                states = self.model.encode(tokens)
                # The groups' graphs end here, so that each can be done with before the next one is begun.
                states_apart = states.detach().requires_grad_()
            yield False
            for group in torch.split(order, self.settings.group):
                # events that came during a pause may have taken the place of some, or another user the row
                held = (number > self.memory.oldest(who)) & (number < self.memory.count[who])
                group = group[held[group]]
                if not len(group):
                    continue
                with self._training():
                    state = states_apart[chunk[group], place[group] + states.shape[1]]
                    part = self._group_loss(who[group], number[group], state) / total
                part.backward()  # type: ignore[no-untyped-call]
                loss += part.detach()
                yield False
            if all(table.weight is weight for table, weight in zip(self.model.row_tables(), weights)):
                if states_apart.grad is not None:
                    states.backward(states_apart.grad)  # type: ignore[no-untyped-call]
                return loss, total.item()

    def _training(self) -> torch.autocast:
        self.model.train()  # a ranking during a pause has turned it off
        device = self.memory.device.type
        return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")

    def _targets(self, users: Tensor, ends: Tensor, recent: Tensor | None) -> tuple[Tensor, Tensor, Tensor] | None:
        """The chunk of each target, the token before it (from the chunk's end, below 0) and its number; None without any."""
        window = min(self.model.settings.window, max(int((ends - 1).max()), 1))
        places = torch.arange(-min(self.settings.targets if recent is None else int(recent.max()), window), 0)
        places = places.to(users.device)
        number = ends[:, None] + places
        usable = (number > self.memory.oldest(users)[:, None]) & (number >= 1)
        if recent is not None:
            usable &= number >= (ends - recent)[:, None]
        chosen = torch.nonzero(usable)
        if len(chosen) > self.settings.queries_per_step:
            keep = torch.randperm(len(chosen), generator=self.generator)[: self.settings.queries_per_step]
            chosen = chosen[keep.to(chosen.device)]
        if not len(chosen):
            return None
        return chosen[:, 0], places[chosen[:, 1]], number[chosen[:, 0], chosen[:, 1]]

    def _group_loss(self, users: Tensor, number: Tensor, state: Tensor) -> Tensor:
        """The summed loss of the events with these numbers, given the states [B, d] before them."""
        history = self.memory.history(users, number, self.model.settings.memory)
        own = OwnItems.of(history)
        item, time_s, weight = self.memory.event(users, number)
        losses = [
            self._query_loss(self.model.answer(mode, state, history, own, time_s if mode == "request" else None), item)
            for mode in self.settings.modes
        ]
        return (torch.stack(losses).sum(0) * weight).sum()

    def _query_loss(self, answer: Answer, item: Tensor) -> Tensor:
        """[B]: -log P(item) under return or explore."""
        hit = answer.own.rows == item[:, None]
        returns = hit.any(1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(answer.gate, (~returns).float(), reduction="none")
        back = -(torch.log_softmax(answer.returns, 1) * hit).sum(1)
        loss = loss + torch.where(returns, back, 0.0)
        # An item that is remembered but not counted yet (its block waits to be learned) is in no catalogue: no lesson.
        new = torch.nonzero(~returns & self.model.items.known[item]).flatten()
        if not len(new):
            return loss
        return loss.index_add(0, new, self._explore_loss(answer.pick(new), item[new]))

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

    def _watch(self, loss: float) -> None:
        """Remember weights that do well; go back to them when the loss on new events collapses or stays not finite."""
        if math.isfinite(loss):
            self._loss = loss if self._loss is None else 0.8 * self._loss + 0.2 * loss
        collapsed = self._loss is not None and self._loss > self.settings.collapse_factor * self._good_loss
        if collapsed or self._dropped_in_a_row >= self.settings.replays + 1:
            self.fall_back()
        elif self._loss is not None and self._loss < 1.1 * self._good_loss and self.steps >= self._next_copy:
            self._good, self._good_loss = self._copy(), self._loss
            self._next_copy = self.steps + self.settings.copy_every_steps

    def fall_back(self) -> None:
        """Take the last good weights again (rows admitted since keep theirs if they are finite) and restart the optimiser.

        The loss that follows is the new yardstick: if it stays high, the world has changed and not the weights.
        """
        self.fallbacks += 1
        self._dropped_in_a_row, self._loss, self._good_loss = 0, None, math.inf
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                good = self._good[name]
                torch.nan_to_num_(parameter, 0.0, 0.0, 0.0)
                held = parameter if parameter.shape == good.shape else parameter[: len(good)]
                held.copy_(good)
        self.optimizer = self._optimizer()

    def _copy(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}

    def _optimizer(self) -> torch.optim.Adam:
        return torch.optim.Adam(self.model.dense_parameters(), lr=self.settings.learning_rate, betas=(0.9, 0.99))

    def state(self) -> dict[str, object]:
        """The optimiser's moments, the random state and the counters."""
        counters = {name: getattr(self, name) for name in _COUNTERS}
        return {"optimizer": self.optimizer.state_dict(), "generator": self.generator.get_state(), **counters}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave, for a model that was loaded already."""
        self.optimizer = self._optimizer()
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        for name in _COUNTERS:
            setattr(self, name, state[name])
        self._good, self._good_loss, self._loss = self._copy(), math.inf, None

    def _finite(self, loss: Tensor) -> bool:
        if not torch.isfinite(loss):
            return False
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        sums = [(g.coalesce().values() if g.is_sparse else g).abs().sum() for g in grads]
        return bool(torch.isfinite(torch.stack(sums)).all())


def _finished(steps: Generator[bool, None, float]) -> float:
    """What a generator returns at its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return float(end.value)
