"""What the sequence model says of a few rows per user, without scoring the catalogue."""

import torch
from torch import Tensor
from torch.nn import functional as F

from model_server.sequence_model.cpu_exploring import Explored, Explorers, explore_logits_on_cpu
from model_server.sequence_model.model import NEVER, Answer
from model_server.sequence_model.scoring import Scorer

USERS_APART = 1 << 32
ROWS_NORMALISED = 65_536
ROWS_PER_CANDIDATE = 16


class Heard:
    """The sequence model's answer for B users with events, asked for the rows that matter; valid until the model changes.

    What is normalised over the whole catalogue is so up to ``ROWS_NORMALISED`` rows; beyond that a user's items that the
    model remembers no event of count as if nothing else could be explored.
    """

    def __init__(self, scorer: Scorer, answer: Answer) -> None:
        self._scorer, self._answer = scorer, answer
        self._items = scorer.model.items

    @torch.no_grad()
    def own(self, user: Tensor, row: Tensor) -> Tensor:
        """log P [P] of pairs of a user int64 [P] (position in the batch) and an item the user has had. O(P log P)."""
        rows = self._answer.own.rows
        back = F.logsigmoid(-self._answer.gate)[:, None] + torch.log_softmax(self._answer.returns, 1)
        held = rows >= 0
        keys = (torch.arange(len(rows), device=rows.device)[:, None] * USERS_APART + rows)[held]
        wanted = user * USERS_APART + row
        if not len(keys):
            return self._forgotten(user, row)
        at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        out, found = back[held][at], keys[at] == wanted
        if not bool(found.all()):
            out = torch.where(found, out, 0.0)
            out[~found] = self._forgotten(user[~found], row[~found])
        return out.clamp(min=NEVER)

    @torch.no_grad()
    def exploring(self, rows: Tensor) -> Tensor:
        """Unnormalised log P [B, C] of catalogue rows [B, C] that are not the user's own; ``NEVER`` for one that is not known or
        below 0.
        """
        return self._explore_logits(self._answer, rows)

    def full(self) -> Tensor:
        """log P [B, N] over all catalogue rows."""
        return self._scorer.full(self._answer)

    def _explore_logits(self, answer: Answer, rows: Tensor) -> Tensor:
        head, items = self._scorer.model.explore_head(answer.mode), self._items
        whole = items.rows <= ROWS_PER_CANDIDATE * rows.shape[1]
        if whole:
            worth = self._scorer.worth(answer.mode)
            if rows.device.type == "cpu":
                n, history = items.rows, answer.history
                column = head.column(history, answer.query_time_s)
                asking = Explorers(answer.query, history.lat[:, -1], history.lon[:, -1], history.items[:, -1], column)
                seen = Explored(self._scorer.catalogue(), worth, items.lat[:n], items.lon[:n], items.known[:n])
                return explore_logits_on_cpu(rows, asking, seen, head.distance_table())
        inside = (rows >= 0) & (rows < items.rows)
        safe = torch.where(inside, rows, 0)
        near = head.near(answer.history, answer.query_time_s, items, safe)
        if whole:
            logits = near + torch.addmm(worth, answer.query, self._scorer.catalogue().T).gather(1, safe)
        else:
            fit = (items(safe) @ answer.query[:, :, None]).squeeze(-1)
            logits = near + head.bias(items, safe) + head.fame(items, safe) + fit
        return logits.masked_fill(~(items.known[safe] & inside), NEVER)

    def _forgotten(self, user: Tensor, row: Tensor) -> Tensor:
        """log P of own items that the model remembers no event of: it takes them for discoveries."""
        users, at = torch.unique(user, return_inverse=True)
        answer = self._answer.pick(users)
        if self._items.rows <= ROWS_NORMALISED:
            return self._scorer.full(answer)[at, row]
        column = torch.arange(len(user), device=user.device)
        rows = row.expand(len(users), -1)
        logits = self._explore_logits(answer, rows).masked_fill(at != torch.arange(len(users))[:, None].to(at), NEVER)
        return (F.logsigmoid(answer.gate)[:, None] + torch.log_softmax(logits, 1))[at, column]
