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

from typing import cast

import msgspec
import torch
from torch import Tensor, nn

from model_server.sequence_model.explore_head import ExploreHead
from model_server.sequence_model.gate_head import GateHead
from model_server.sequence_model.item_table import ItemTable, RowTable
from model_server.sequence_model.memory import History
from model_server.sequence_model.own_items import OwnItems
from model_server.sequence_model.return_head import ReturnHead
from model_server.sequence_model.settings import MODES, NEVER, ModelSettings
from model_server.sequence_model.transducer import Transducer


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


def parameter_count(settings: ModelSettings) -> int:
    """Parameters without the tables that grow with items and users.

    >>> from model_server.sequence_model.settings import PRESETS
    >>> parameter_count(PRESETS["nano"]) < 200_000
    True
    """
    model = SequenceModel(settings)
    return sum(parameter.numel() for parameter in model.dense_parameters())
