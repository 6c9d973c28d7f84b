"""The items that each user has had: what returning chooses from and exploring leaves out."""

import msgspec
import torch
from torch import Tensor

from model_server.sequence_model.memory import History
from model_server.sequence_model.settings import NEVER


class OwnItems(msgspec.Struct, frozen=True):
    """The distinct items of each history: rows [B, M] (-1 padded), each event's column [B, n], latest visit marks [B, n]."""

    rows: Tensor
    column: Tensor
    latest: Tensor

    @classmethod
    def of(cls, history: History) -> "OwnItems":
        """Group the events of each history by item. O(n log n)."""
        key = torch.where(history.mask, history.items, torch.iinfo(torch.int64).max)
        ordered, order = torch.sort(key, dim=1, stable=True)
        change = ordered[:, 1:] != ordered[:, :-1]
        edge = torch.ones_like(history.mask[:, :1])
        group = torch.cat([edge, change], 1).cumsum(1) - 1
        column = torch.empty_like(group).scatter_(1, order, group)
        latest = torch.empty_like(history.mask).scatter_(1, order, torch.cat([change, edge], 1)) & history.mask
        rows = key.new_full((len(key), int(group.max()) + 1), -1)
        rows.scatter_(1, group, torch.where(ordered == torch.iinfo(torch.int64).max, -1, ordered))
        return cls(rows, column, latest)


def mask_own(logits: Tensor, own: OwnItems) -> Tensor:
    """[B, N] logits with ``NEVER`` at the user's own rows."""
    padded = torch.cat([logits, logits.new_zeros(len(logits), 1)], 1)
    rows = torch.where(own.rows >= 0, own.rows, logits.shape[1])
    return padded.scatter(1, rows, NEVER)[:, :-1]
