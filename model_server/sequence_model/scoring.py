"""Scoring: log-probabilities of the whole catalogue or of candidates, for many users at once."""

import torch
from torch import Tensor
from torch.nn import functional as F

from model_server.sequence_model.memory import UserMemory
from model_server.sequence_model.model import NEVER, Answer, OwnItems, SequenceModel
from model_server.sequence_model.trainer import mask_own


class Scorer:
    """Reads a model and a memory; ``refreshed`` must be called after the weights or the item table changed."""

    def __init__(self, model: SequenceModel, memory: UserMemory) -> None:
        self.model, self.memory = model, memory
        self._catalogue: Tensor | None = None

    def refreshed(self) -> None:
        """Forget what was derived from the weights."""
        self._catalogue = None

    @torch.no_grad()
    def answer(self, users: Tensor, before: Tensor, query_time_s: Tensor | None) -> Answer:
        """What the heads say for users with at least one event before."""
        self.model.eval()
        state = self.model.encode(self.memory.history(users, before, self.model.settings.window))[:, -1]
        history = self.memory.history(users, before, self.model.settings.memory)
        mode = "refresh" if query_time_s is None else "request"
        return self.model.answer(mode, state, history, OwnItems.of(history), query_time_s)

    @torch.no_grad()
    def full(self, answer: Answer) -> Tensor:
        """log P [B, N] over all catalogue rows; ``NEVER`` where a row is not known."""
        if self._catalogue is None:
            self._catalogue = self.model.items.catalogue()
        rows = torch.arange(self.model.items.rows, device=answer.gate.device)
        explore = mask_own(self.model.explore_logits(answer, rows, self._catalogue), answer.own)
        out = F.logsigmoid(answer.gate)[:, None] + torch.log_softmax(explore, 1)
        back = F.logsigmoid(-answer.gate)[:, None] + torch.log_softmax(answer.returns, 1)
        padded = torch.cat([out, out.new_zeros(len(out), 1)], 1)
        padded.scatter_(1, torch.where(answer.own.rows >= 0, answer.own.rows, out.shape[1]), back)
        return padded[:, :-1].clamp(min=NEVER)
