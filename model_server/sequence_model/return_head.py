"""The return head: which item of the user's past comes next, if one of them (pointer networks: See et al., ACL 2017).

Letters in the shape comments: B queries, n remembered events, M own items, K pointer heads.
"""

from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor, nn

from model_server.sequence_model import relations as rel
from model_server.sequence_model.item_table import RowTable
from model_server.sequence_model.lookup import lookup
from model_server.sequence_model.memory import DAY_S, History
from model_server.sequence_model.own_items import OwnItems
from model_server.sequence_model.settings import NEVER, ModelSettings


class ReturnHead(nn.Module):
    """Scores the user's own items: K pointers each spread attention over past events by learned relations; an item's
    features are the log shares that its visits collect, and a shared, a per-user and a small non-linear weighting add up."""

    def __init__(self, settings: ModelSettings, mode: str) -> None:
        super().__init__()
        k = settings.pointers
        self.timed = mode == "request"
        names = rel.STANDING_RELATIONS | (rel.REQUEST_RELATIONS if self.timed else {})
        self.relations = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(size, k) * 0.3) for name, size in names.items()}
        )
        direct = {"age": rel.AGE_BUCKETS, "distance": rel.DISTANCE_BUCKETS, "count": rel.COUNT_BUCKETS}
        if self.timed:
            direct |= {
                "age_at_request": rel.AGE_BUCKETS * rel.WAIT_BUCKETS,
                "distance_by_wait": rel.DISTANCE_BUCKETS * rel.WAIT_BUCKETS,
            }
        self.direct = nn.ParameterDict({name: nn.Parameter(torch.zeros(size, 1)) for name, size in direct.items()})
        self.features = k + 6
        self.shared = nn.Parameter(torch.cat([torch.full((k,), 2.0 / k), torch.zeros(6)]))
        self.personal = RowTable(64, self.features, std=0.0, initial_square=1.0)
        self.mix = nn.Sequential(nn.Linear(self.features, 24), nn.SiLU(), zero_linear(24))

    def forward(
        self, history: History, own: OwnItems, query_time_s: Tensor | None, generated: Tensor, popularity: Tensor
    ) -> Tensor:
        """Logits [B, M], ``NEVER`` at padding; ``generated`` and ``popularity`` [B, M] are the explore head's view of them."""
        bucket = rel.relations(history, own.latest, query_time_s)
        score = _sum(lookup(bucket[name], table) for name, table in self.relations.items())  # [B, n, K]
        share = torch.softmax(score.masked_fill(~history.mask[..., None], NEVER), 1)
        b, m, k = *own.rows.shape, share.shape[-1]
        share = share.new_zeros(b, m, k).scatter_add(1, own.column[..., None].expand(-1, -1, k), share)  # [B, M, K]
        count = share.new_zeros(b, m).scatter_add(1, own.column, history.mask.float())
        base = count / count.sum(1, keepdim=True).clamp(min=1)
        lifted = torch.log(share + 0.01 * base[..., None] + 1e-6)

        position = torch.arange(own.latest.shape[1], device=count.device) * own.latest
        last = own.column.new_zeros(b, m).scatter_add(1, own.column, position)  # column of each item's latest visit

        def at_last(z: Tensor) -> Tensor:
            return z.expand(b, -1).gather(1, last)

        age_s = (history.time_s[:, -1:] - at_last(history.time_s)).clamp(min=0)
        km = rel.distance_km(history.lat[:, -1:], history.lon[:, -1:], at_last(history.lat), at_last(history.lon))
        where = {"age": rel.log_bucket(age_s), "distance": at_last(bucket["distance"])}
        where["count"] = rel.log_bucket(count, 1.0, 200.0, rel.COUNT_BUCKETS)
        if query_time_s is not None:
            wait = rel.wait_bucket((query_time_s - history.time_s[:, -1]).clamp(min=0))[:, None]
            age_now = rel.log_bucket(query_time_s[:, None] - at_last(history.time_s))
            where["age_at_request"] = age_now * rel.WAIT_BUCKETS + wait
            where["distance_by_wait"] = at_last(bucket["distance_by_wait"])
        extra = [
            popularity / 5, torch.log1p(count) / 3, torch.log1p(torch.nan_to_num(km) / 0.3) / 3,
            torch.log1p(age_s / DAY_S).float() / 4, (own.rows == history.items[:, -1:]).float(), generated,
        ]  # fmt: skip
        features = torch.cat([lifted, torch.stack(extra, -1)], -1)  # [B, M, K + 6]
        weights = self.shared + self.personal(history.users)[:, None]
        logits = (features * weights).sum(-1) + self.mix(features / 3).squeeze(-1)
        for name, table in self.direct.items():
            logits = logits + lookup(where[name], table).squeeze(-1)
        return logits.masked_fill(own.rows < 0, NEVER)


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, terms)


def zero_linear(features: int) -> nn.Linear:
    """One output that starts at 0 whatever comes in."""
    layer = nn.Linear(features, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
