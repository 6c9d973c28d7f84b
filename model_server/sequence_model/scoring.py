"""Scoring: log-probabilities of the whole catalogue or of candidates, for many users at once."""

import torch
from torch import Tensor
from torch.nn import functional as F

from model_server.sequence_model.cpu_answering import CpuAnswering
from model_server.sequence_model.encoding import CachedEncoder
from model_server.sequence_model.memory import UserMemory
from model_server.sequence_model.model import NEVER, Answer, OwnItems, SequenceModel, mask_own


class Scorer:
    """Reads a model and a memory; ``refreshed`` must be called after the weights or the item table changed, ``admitted`` after
    items got vectors of their own, ``counted`` after touches were.

    The state of a user and what the catalogue's rows have of themselves are kept until then: new events change neither.
    """

    def __init__(self, model: SequenceModel, memory: UserMemory) -> None:
        self.model, self.memory = model, memory
        self.encoder = CachedEncoder(model, memory)
        self._on_cpu = CpuAnswering(model, memory) if memory.device.type == "cpu" else None
        self._catalogue = torch.zeros(0)
        self._worth: dict[str, Tensor] = {}

    def refreshed(self) -> None:
        """Forget what was derived from the weights."""
        self._catalogue = torch.zeros(0)
        self.counted()
        self.encoder.forget()

    def admitted(self) -> None:
        """Forget what depends on which items have vectors of their own."""
        self._catalogue = torch.zeros(0)
        self.counted()
        self.encoder.forget_provisional()  # a remembered event may have been scored before it was counted

    def counted(self) -> None:
        """Forget what depends on how often items were touched."""
        self._worth = {}

    @torch.no_grad()
    def answer(self, users: Tensor, before: Tensor | None, query_time_s: Tensor | None) -> Answer:
        """What the heads say for users with at least one event, as of now or of their first ``before`` events.

        As of now (``before`` None) the users must be distinct.
        """
        if self.model.training:
            self.model.eval()  # visits every module
        state = self.encoder.states(users) if before is None else self.encoder.full(users, before)
        count = self.memory.count[users] if before is None else before
        if self._on_cpu is not None and self.model.items.project is None:
            return self._on_cpu.answer(users, count, state, query_time_s)
        history = self.memory.history(users, count, self.model.settings.memory)
        mode = "refresh" if query_time_s is None else "request"
        return self.model.answer(mode, state, history, OwnItems.of(history), query_time_s)

    @torch.no_grad()
    def catalogue(self) -> Tensor:
        """The vectors of all catalogue rows [N, d]."""
        if len(self._catalogue) != self.model.items.rows:  # events may have named new ones
            self._catalogue = self.model.items.catalogue()
        return self._catalogue

    @torch.no_grad()
    def worth(self, mode: str) -> Tensor:
        """The logits of all catalogue rows that they have of themselves in exploring, [N]: their bias and their fame."""
        items, held = self.model.items, self._worth.get(mode)
        if held is None or len(held) != items.rows:
            rows, head = torch.arange(items.rows, device=items.touches.device), self.model.explore_head(mode)
            held = self._worth[mode] = head.bias(items, rows) + head.fame(items, rows)
        return held

    @torch.no_grad()
    def full(self, answer: Answer) -> Tensor:
        """log P [B, N] over all catalogue rows; ``NEVER`` where a row is not known. O(B N d)."""
        rows = torch.arange(self.model.items.rows, device=answer.gate.device)
        explore = mask_own(self.model.explore_logits(answer, rows, self.catalogue()), answer.own)
        out = F.logsigmoid(answer.gate)[:, None] + torch.log_softmax(explore, 1)
        back = F.logsigmoid(-answer.gate)[:, None] + torch.log_softmax(answer.returns, 1)
        padded = torch.cat([out, out.new_zeros(len(out), 1)], 1)
        padded.scatter_(1, torch.where(answer.own.rows >= 0, answer.own.rows, out.shape[1]), back)
        return padded[:, :-1].clamp(min=NEVER)

    @torch.no_grad()
    def candidates(self, answer: Answer, rows: Tensor) -> Tensor:
        """log P [B, C] over candidate rows [B, C] (-1 pads), as if nothing but them and the user's own items existed.

        O(B C (d + M)): the cost does not grow with the catalogue. Own items score as in ``full``; the others share the
        probability of exploring among the candidates.
        """
        inside = rows >= 0
        prior = self.model.explore_head(answer.mode).prior(answer.history, answer.query_time_s, self.model.items, rows)
        explore = (self.model.items(rows) @ answer.query[:, :, None]).squeeze(-1) + prior
        own = rows[:, :, None] == torch.where(answer.own.rows >= 0, answer.own.rows, -2)[:, None, :]  # [B, C, M]
        is_own = own.any(-1)
        known = inside & self.model.items.known[rows.clamp(min=0)]
        explore = explore.masked_fill(is_own | ~known, NEVER)
        back = F.logsigmoid(-answer.gate)[:, None] + torch.log_softmax(answer.returns, 1)
        out = F.logsigmoid(answer.gate)[:, None] + torch.log_softmax(explore, 1)
        out = torch.where(is_own, (own * back.clamp(min=NEVER)[:, None, :]).sum(-1), out)
        return out.masked_fill(~known, NEVER).clamp(min=NEVER)
