"""The gate: whether the next item is new to the user (RepeatNet: Ren et al., AAAI 2019)."""

import torch
from torch import Tensor, nn

from model_server.sequence_model import relations as rel
from model_server.sequence_model.memory import DAY_S, History
from model_server.sequence_model.own_items import OwnItems
from model_server.sequence_model.return_head import zero_linear


class GateHead(nn.Module):
    """The logit of P(the next item is new to the user), from how the user has explored lately and how sure the return head is."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        features = 6 + (4 if mode == "request" else 0)
        self.linear = zero_linear(features)
        self.mix = nn.Sequential(nn.Linear(features, 16), nn.SiLU(), zero_linear(16))

    def forward(self, history: History, own: OwnItems, query_time_s: Tensor | None, return_logits: Tensor) -> Tensor:
        """[B]."""
        n, distinct = history.mask.sum(1).float(), (own.rows >= 0).sum(1).float()
        surest = torch.log_softmax(return_logits.detach(), 1).max(1).values
        last_is_new = (history.items[:, :-1] != history.items[:, -1:]).all(1).float()
        evidence = torch.logsumexp(return_logits.detach(), 1) / 5
        features = [torch.log((distinct + 0.5) / (n - distinct + 1.5)), torch.log(n) / 3, surest, last_is_new,
                    _recent_exploration(history, own), evidence]  # fmt: skip
        if query_time_s is not None:
            local = query_time_s + history.local_s[:, -1] - history.time_s[:, -1]
            angle = (torch.remainder(local, DAY_S) * (2 * torch.pi / DAY_S)).float()
            wait = torch.log((query_time_s - history.time_s[:, -1]).clamp(min=0) / rel.HOUR_S + 0.2).float() / 3
            features += [torch.cos(angle), torch.sin(angle), rel.is_weekend(local).float(), wait]
        stacked = torch.stack(features, -1)
        out: Tensor = self.linear(stacked) + self.mix(stacked)
        return out.squeeze(-1)


def _recent_exploration(history: History, own: OwnItems) -> Tensor:
    """[B]: the logit of the share of first visits among the latest events, discounted by 0.9 per event."""
    n = history.items.shape[1]
    position = torch.arange(n, device=own.column.device).expand_as(own.column)
    first = position.new_full(own.rows.shape, n).scatter_reduce(1, own.column, position, "amin")
    is_first = (first.gather(1, own.column) == position) & history.mask
    weight = 0.9 ** (n - 1 - position).float() * history.mask
    share = ((weight * is_first).sum(1) + 0.3) / (weight.sum(1) + 1.0)
    return torch.logit(share.clamp(0.01, 0.99))
