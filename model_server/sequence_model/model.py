"""The sequence model: an HSTU-style transducer whose head either returns to an item of the user's past or explores.

    events -> tokens -> HSTU layers -> state h --+--> gate        g = P(next item is new to the user)
                                                 +--> return head  softmax over the user's own items, by pointing at past events
                                                 +--> explore head softmax over the other items of the catalogue

    log P(v) = log(1 - g) + log softmax_own(v)     if the user has had v
             = log g      + log softmax_others(v)  otherwise

Sources: HSTU (Zhai et al., ICML 2024, arXiv 2402.17152: pointwise SiLU attention, relative bias, gated output), RepeatNet
(Ren et al., AAAI 2019: repeat or explore), pointer networks (See et al., ACL 2017). Not attempted here: fused attention
kernels, model parallelism, generation of several items at once.

Letters in the shape comments: B queries, S sequences, L tokens, n remembered events, M own items, N catalogue rows,
d model width, H attention heads, K pointer heads.
"""

import math
from collections.abc import Iterable
from functools import reduce
from typing import cast

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_server.sequence_model import relations as rel
from model_server.sequence_model.cpu_exploring import distance_buckets_on_cpu
from model_server.sequence_model.item_table import ItemTable, RowTable
from model_server.sequence_model.lookup import lookup
from model_server.sequence_model.memory import DAY_S, History

MODES = ("refresh", "request")
NEVER = -1e9


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape of a model. ``window`` tokens are encoded, ``memory`` events (>= window) can be returned to."""

    dim: int = 64
    layers: int = 2
    heads: int = 2
    window: int = 32
    memory: int = 160
    pointers: int = 8
    content_dim: int = 0
    admit_after: int = 1
    expire_after_s: float = 180 * DAY_S
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if min(self.dim, self.layers, self.heads, self.pointers) < 1 or self.dim % self.heads:
            raise ValueError("dim, layers, heads and pointers must be >= 1 and heads must divide dim")
        if not 2 <= self.window <= self.memory:
            raise ValueError(f"need 2 <= window <= memory, got {self.window} and {self.memory}")


PRESETS: dict[str, ModelSettings] = {
    "nano": ModelSettings(),
    "small": ModelSettings(dim=128, layers=4, heads=4, window=96, memory=256, pointers=12),
    "base": ModelSettings(dim=256, layers=8, heads=8, window=192, memory=384, pointers=16),
    "large": ModelSettings(dim=512, layers=12, heads=8, window=384, memory=512, pointers=16),
}


class HSTULayer(nn.Module):
    """Pointwise (SiLU, not softmax) attention with relative time and distance bias, gated by its own input."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        d, self.heads, self.scale = settings.dim, settings.heads, settings.window
        self.norm = nn.LayerNorm(d)
        self.uvqk = nn.Linear(d, 4 * d)
        self.out_norm = nn.LayerNorm(d)
        self.out = nn.Linear(d, d)
        self.time_bias = nn.Parameter(torch.zeros(rel.AGE_BUCKETS, self.heads))
        self.distance_bias = nn.Parameter(torch.zeros(rel.DISTANCE_BUCKETS, self.heads))
        self.dropout = nn.Dropout(settings.dropout)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """u [S, L, d] and v, q, k [S, H, L, d / H] of tokens x [S, L, d]."""
        u, v, q, k = F.silu(self.uvqk(self.norm(x))).chunk(4, -1)
        split = (*x.shape[:2], self.heads, x.shape[2] // self.heads)
        heads = [z.view(split).transpose(1, 2) for z in (v, q, k)]
        return u, heads[0], heads[1], heads[2]

    def attend(
        self, x: Tensor, u: Tensor, q: Tensor, k: Tensor, v: Tensor, age: Tensor, distance: Tensor, mask: Tensor
    ) -> Tensor:
        """The layer's output for tokens x [S, Lq, d] that see keys k, v [S, H, Lk, d / H] where mask [S, Lq, Lk]."""
        bias = lookup(age, self.time_bias) + lookup(distance, self.distance_bias)  # [S, Lq, Lk, H]
        score = F.silu(q @ k.transpose(-1, -2) + bias.permute(0, 3, 1, 2)) / self.scale  # [S, H, Lq, Lk]
        seen = (score * mask[:, None]) @ v  # [S, H, Lq, d / H]
        gated: Tensor = self.out(self.out_norm(seen.transpose(1, 2).flatten(2)) * u)
        return x + self.dropout(gated)


class Transducer(nn.Module):
    """Event tokens in, one state per event out: the state says what is known right after that event."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        d = settings.dim
        self.hour = nn.Embedding(48, d)
        self.gap = nn.Embedding(rel.AGE_BUCKETS + 1, d)
        for table in (self.hour, self.gap):
            nn.init.normal_(table.weight, std=0.02)
        self.layers = nn.ModuleList(HSTULayer(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(d)

    def stack(self) -> list[HSTULayer]:
        """The layers, lowest first."""
        return [cast(HSTULayer, layer) for layer in self.layers]

    def tokens(self, item_vectors: Tensor, user_vectors: Tensor, history: History) -> Tensor:
        """[S, L, d]: item + hour + time since the event before + user."""
        gap = rel.log_bucket(history.time_s - history.prev_time_s)
        gap = torch.where(history.has_prev, gap, rel.AGE_BUCKETS)
        return item_vectors + self.hour(rel.hour_of_week_kind(history.local_s)) + self.gap(gap) + user_vectors[:, None]

    def forward(self, tokens: Tensor, history: History) -> tuple[Tensor, Tensor, Tensor]:
        """States [S, L, d] of tokens [S, L, d], each seeing itself and the unmasked tokens before it; and what a cache needs
        to go on from here: keys and values [S, layers, H, L, d / H]."""
        return self._through(tokens, history, tokens.shape[1])

    def latest(self, tokens: Tensor, history: History) -> tuple[Tensor, Tensor, Tensor]:
        """``forward``, but only the state [S, d] of the last token."""
        states, keys, values = self._through(tokens, history, 1)
        return states[:, 0], keys, values

    def _through(self, tokens: Tensor, history: History, asked: int) -> tuple[Tensor, Tensor, Tensor]:
        """The states of the last tokens that are asked for: the highest layer attends for no other."""
        x, pairs = tokens, pairwise(history, history)
        keys, values = [], []
        for number, layer in enumerate(self.stack(), 1):
            u, v, q, k = layer.project(x)
            keys.append(k)
            values.append(v)
            if number == len(self.layers) and asked < x.shape[1]:
                x, u, q = x[:, -asked:], u[:, -asked:], q[:, :, -asked:]
                pairs = pairs[0][:, -asked:], pairs[1][:, -asked:], pairs[2][:, -asked:]
            x = layer.attend(x, u, q, k, v, *pairs)
        return self.norm(x), torch.stack(keys, 1), torch.stack(values, 1)


def pairwise(queries: History, keys: History) -> tuple[Tensor, Tensor, Tensor]:
    """Age buckets, distance buckets and visibility, each [S, Lq, Lk], between tokens; the last Lq keys are the queries."""
    lq, lk = queries.items.shape[1], keys.items.shape[1]
    age = rel.log_bucket((queries.time_s[:, :, None] - keys.time_s[:, None, :]).float())
    distance = rel.distance_bucket(
        queries.lat[:, :, None], queries.lon[:, :, None], keys.lat[:, None, :], keys.lon[:, None, :]
    )
    order = torch.arange(lk, device=age.device)
    visible = (order[None, :] <= order[lk - lq :, None]) & keys.mask[:, None, :]
    return age, distance, visible


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
        self.mix = nn.Sequential(nn.Linear(self.features, 24), nn.SiLU(), _zero_linear(24))

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


class ExploreHead(nn.Module):
    """Scores catalogue items: state . item + bias + popularity + distance from the last place (by wait, if that is known)."""

    def __init__(self, settings: ModelSettings, mode: str) -> None:
        super().__init__()
        d = settings.dim
        self.timed = mode == "request"
        near = [-0.6 * math.log1p(km / 0.3) for km in (0.0, *rel.DISTANCE_EDGES_KM)] + [
            -5.0,
            -2.0,
        ]  # same item, unknown
        copies = rel.WAIT_BUCKETS if self.timed else 1
        self.distance = nn.Parameter(torch.tensor(near).repeat_interleave(copies)[:, None])
        self.popularity = nn.Parameter(torch.tensor(0.6))
        self.query = nn.Sequential(nn.Linear(d, d), nn.SiLU(), nn.Linear(d, d))
        if self.timed:
            self.hour = nn.Embedding(48, d)
            self.wait = nn.Embedding(rel.AGE_BUCKETS, d)
            nn.init.normal_(self.hour.weight, std=0.02)
            nn.init.normal_(self.wait.weight, std=0.02)

    def query_vector(self, state: Tensor, history: History, query_time_s: Tensor | None) -> Tensor:
        """[B, d]: the state and, if it is known, the time that is asked about."""
        if query_time_s is not None:
            offset = history.local_s[:, -1] - history.time_s[:, -1]
            wait = rel.log_bucket(query_time_s - history.time_s[:, -1])
            state = state + self.hour(rel.hour_of_week_kind(query_time_s + offset)) + self.wait(wait)
        out: Tensor = self.query(state) + state
        return out

    def prior(self, history: History, query_time_s: Tensor | None, items: ItemTable, rows: Tensor) -> Tensor:
        """Bias + popularity + distance logits of catalogue rows ([N] or [B, M], -1: none); [B, N] or [B, M]."""
        return self.near(history, query_time_s, items, rows) + self.bias(items, rows) + self.fame(items, rows)

    def near(self, history: History, query_time_s: Tensor | None, items: ItemTable, rows: Tensor) -> Tensor:
        """The logits of the distance from the last place."""
        lat, lon, last = history.lat[:, -1:], history.lon[:, -1:], history.items[:, -1:]
        if rows.device.type == "cpu":
            bucket = distance_buckets_on_cpu(rows, lat[:, 0], lon[:, 0], last[:, 0], (items.lat, items.lon))
        else:
            safe = rows.clamp(min=0)
            bucket = rel.distance_bucket(lat, lon, items.lat[safe], items.lon[safe])
            bucket = torch.where(rows == last, rel.SAME, bucket)
        if query_time_s is not None:
            bucket = bucket * rel.WAIT_BUCKETS + self.column(history, query_time_s)[:, None]
        return lookup(bucket, self.distance).squeeze(-1)

    def distance_table(self) -> Tensor:
        """The logits by bucket of the distance and by ``column``, [DISTANCE_BUCKETS, columns]."""
        return self.distance.view(rel.DISTANCE_BUCKETS, -1)

    def column(self, history: History, query_time_s: Tensor | None) -> Tensor:
        """Which column of ``distance_table`` speaks of each query, int64 [B]: by the wait, if the time is known."""
        if query_time_s is None:
            return torch.zeros_like(history.items[:, -1])
        return rel.wait_bucket((query_time_s - history.time_s[:, -1]).clamp(min=0))

    def bias(self, items: ItemTable, rows: Tensor) -> Tensor:
        """The items' own logits, same shape as ``rows``."""
        out: Tensor = items.bias(torch.where(rows >= 0, items.slot_of[rows.clamp(min=0)], 0)).squeeze(-1)
        return out

    def fame(self, items: ItemTable, rows: Tensor) -> Tensor:
        """The logits of popularity, same shape as ``rows``."""
        return self.popularity * torch.log(items.touches[rows.clamp(min=0)] + 0.3)


class GateHead(nn.Module):
    """The logit of P(the next item is new to the user), from how the user has explored lately and how sure the return head is."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        features = 6 + (4 if mode == "request" else 0)
        self.linear = _zero_linear(features)
        self.mix = nn.Sequential(nn.Linear(features, 16), nn.SiLU(), _zero_linear(16))

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


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, terms)


def _zero_linear(features: int) -> nn.Linear:
    layer = nn.Linear(features, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _recent_exploration(history: History, own: OwnItems) -> Tensor:
    """[B]: the logit of the share of first visits among the latest events, discounted by 0.9 per event."""
    n = history.items.shape[1]
    position = torch.arange(n, device=own.column.device).expand_as(own.column)
    first = position.new_full(own.rows.shape, n).scatter_reduce(1, own.column, position, "amin")
    is_first = (first.gather(1, own.column) == position) & history.mask
    weight = 0.9 ** (n - 1 - position).float() * history.mask
    share = ((weight * is_first).sum(1) + 0.3) / (weight.sum(1) + 1.0)
    return torch.logit(share.clamp(0.01, 0.99))


class SequenceModel(nn.Module):
    """The transducer with one return, explore and gate head per mode: ``refresh`` (no time is known) and ``request``."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.items = ItemTable(settings.dim, settings.content_dim, settings.admit_after, settings.expire_after_s)
        self.users = RowTable(64, settings.dim, std=0.0, initial_square=1.0)
        self.transducer = Transducer(settings)
        self.return_heads = nn.ModuleDict({mode: ReturnHead(settings, mode) for mode in MODES})
        self.explore_heads = nn.ModuleDict({mode: ExploreHead(settings, mode) for mode in MODES})
        self.gates = nn.ModuleDict({mode: GateHead(mode) for mode in MODES})

    def explore_head(self, mode: str) -> ExploreHead:
        """The explore head of a mode."""
        return cast(ExploreHead, self.explore_heads[mode])

    def row_tables(self) -> list[RowTable]:
        """The tables that learn by their own AdaGrad steps."""
        return [module for module in self.modules() if isinstance(module, RowTable)]

    def personal_tables(self) -> list[RowTable]:
        """Those of them that weigh the return features per user."""
        return [head.personal for head in self.return_heads.values()]  # type: ignore

    def dense_parameters(self) -> list[nn.Parameter]:
        """Every other parameter."""
        rows = {id(table.weight) for table in self.row_tables()}
        return [parameter for parameter in self.parameters() if id(parameter) not in rows]

    def ensure_users(self, rows: int) -> None:
        """Make room for user rows below ``rows``."""
        self.users.ensure(rows)
        for head in self.return_heads.values():
            head.personal.ensure(rows)  # type: ignore

    def forget_users(self, rows: Tensor) -> None:
        """These user rows belong to somebody else now."""
        self.users.reset(rows)
        for table in self.personal_tables():
            table.reset(rows)

    def encode(self, history: History) -> Tensor:
        """States [S, L, d] of each event of the histories."""
        out: Tensor = self.transducer(self.tokens(history), history)[0]
        return out

    def tokens(self, history: History) -> Tensor:
        """[S, L, d]."""
        return self.transducer.tokens(self.items(history.items), self.users(history.users), history)

    def answer(
        self, mode: str, state: Tensor, history: History, own: OwnItems, query_time_s: Tensor | None
    ) -> "Answer":
        """What the heads of ``mode`` say for B queries with states [B, d] and memories ``history``."""
        explore = self.explore_head(mode)
        query = explore.query_vector(state, history, query_time_s)
        vectors = self.items(own.rows)  # [B, M, d]
        prior = explore.prior(history, query_time_s, self.items, own.rows)
        # detached: item vectors that learn from replayed returns memorise them, and the head trusts them too much
        generated = ((vectors @ query[:, :, None]).squeeze(-1) + prior).detach()
        popularity = torch.log1p(self.items.touches[own.rows.clamp(min=0)])
        returns = self.return_heads[mode](history, own, query_time_s, generated, popularity)
        gate = self.gates[mode](history, own, query_time_s, returns)
        return Answer(mode, history, own, query_time_s, query, returns, gate)

    def explore_logits(self, answer: "Answer", rows: Tensor, vectors: Tensor) -> Tensor:
        """[B, N] logits of catalogue rows [N] with vectors [N, d]; ``NEVER`` for the user's own items and unknown rows."""
        prior = self.explore_head(answer.mode).prior(answer.history, answer.query_time_s, self.items, rows)
        logits = torch.addmm(prior, answer.query, vectors.T)
        return logits.masked_fill(~self.items.known[rows], NEVER)


class Answer(msgspec.Struct, frozen=True):
    """The heads' outputs for B queries: query [B, d], return logits [B, M] over ``own``, gate logit [B]."""

    mode: str
    history: History
    own: OwnItems
    query_time_s: Tensor | None
    query: Tensor
    returns: Tensor
    gate: Tensor

    def pick(self, index: Tensor) -> "Answer":
        """The answers of some of the queries."""
        own = OwnItems(self.own.rows[index], self.own.column[index], self.own.latest[index])
        time_s = None if self.query_time_s is None else self.query_time_s[index]
        query, returns, gate = self.query[index], self.returns[index], self.gate[index]
        return Answer(self.mode, self.history.pick(index), own, time_s, query, returns, gate)


def mask_own(logits: Tensor, own: OwnItems) -> Tensor:
    """[B, N] logits with ``NEVER`` at the user's own rows."""
    padded = torch.cat([logits, logits.new_zeros(len(logits), 1)], 1)
    rows = torch.where(own.rows >= 0, own.rows, logits.shape[1])
    return padded.scatter(1, rows, NEVER)[:, :-1]


def parameter_count(settings: ModelSettings) -> int:
    """Parameters without the tables that grow with items and users.

    >>> parameter_count(PRESETS["nano"]) < 200_000
    True
    """
    model = SequenceModel(settings)
    return sum(parameter.numel() for parameter in model.dense_parameters())
