"""What the heads say of users' own items, and whether one of them comes next, on a CPU: by one kernel.

The same to the rounding of float32 as ``SequenceModel.answer``, which is what is learned: of a few users with short histories
its some 400 operations spend little but the cost of calling them.
"""

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model_server.sequence_model import relations as rel
from model_server.sequence_model.cpu_arrays import arrays_of, items_of, memory_of
from model_server.sequence_model.cpu_pointing import DIRECT, OTHER_FEATURES, Asked, Heads, answer_all
from model_server.sequence_model.memory import UserMemory
from model_server.sequence_model.model import Answer, GateHead, OwnItems, ReturnHead, SequenceModel
from model_server.sequence_model.one_event import one_event

Array = npt.NDArray[Any]
ANY_TIME = np.zeros(0)


class CpuAnswering:
    """The answers of one model about one memory, both of which may learn and grow meanwhile; for items without content."""

    def __init__(self, model: SequenceModel, memory: UserMemory) -> None:
        self._model, self._memory = model, memory
        self._heads: dict[str, Heads] = {}

    def answer(self, users: Tensor, before: Tensor, state: Tensor, query_time_s: Tensor | None) -> Answer:
        """``SequenceModel.answer`` for states [B, d] of users after their first ``before`` >= 1 events.

        Its history is the latest event alone. O(events log events). Raises IndexError for an item or a user that the model's
        tables have no room for.
        """
        model, memory, mode = self._model, self._memory, "refresh" if query_time_s is None else "request"
        history = memory.history(users, before, 1)
        query = model.explore_head(mode).query_vector(state, history, query_time_s)
        if mode not in self._heads:
            self._heads[mode] = _heads(model, mode)
        asked = Asked(
            users.numpy(), before.numpy(), query.numpy(), ANY_TIME if query_time_s is None else query_time_s.numpy()
        )
        most = min(model.settings.memory, max(int(before.max()), 1) if len(before) else 1)
        rows, returns = torch.empty((len(users), most), dtype=torch.long), torch.empty((len(users), most))
        gate = torch.empty(len(users))
        (personal,) = arrays_of(_return_head(model, mode).personal.weight)
        widest = answer_all(
            asked, memory_of(memory), items_of(model.items), self._heads[mode], personal, rows.numpy(), returns.numpy(),
            gate.numpy(),
        )  # fmt: skip
        rows, returns = rows[:, : max(widest, 1)], returns[:, : max(widest, 1)]
        own = OwnItems(rows, (rows == history.items).byte().argmax(1, keepdim=True), history.mask)
        return Answer(mode, history, own, query_time_s, query, returns, gate)


def warm_up() -> None:
    """Compile the kernel, or read it from numba's cache, so that no user's batch waits for it."""
    model, memory = one_event()
    answering, one = CpuAnswering(model, memory), torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        for time_s in (None, torch.zeros(1).double()):
            answering.answer(one, one + 1, torch.zeros(1, model.settings.dim), time_s)


def _heads(model: SequenceModel, mode: str) -> Heads:
    """The weights of a mode's heads: views, in which what is learned in place is seen."""
    returns, explore, gate = _return_head(model, mode), model.explore_head(mode), cast(GateHead, model.gates[mode])
    no_relation, nothing = torch.zeros(0, len(returns.shared) - OTHER_FEATURES), torch.zeros(0, 1)
    requested = [returns.relations[name] if returns.timed else no_relation for name in rel.REQUEST_RELATIONS]
    direct = [returns.direct.get(name, nothing) for name in DIRECT]
    shared, near, popularity, gate_weight, gate_bias = arrays_of(
        returns.shared, explore.distance_table(), explore.popularity[None], gate.linear.weight[0], gate.linear.bias
    )
    return Heads(
        standing=arrays_of(*(returns.relations[name] for name in rel.STANDING_RELATIONS)),
        requested=arrays_of(*requested),
        direct=arrays_of(*direct),
        shared=shared,
        mix=_layers(returns.mix),
        near=near,
        popularity=popularity,
        gate=gate_weight,
        gate_bias=gate_bias,
        gate_mix=_layers(gate.mix),
    )


def _layers(network: nn.Sequential) -> tuple[Array, ...]:
    hidden, out = cast(nn.Linear, network[0]), cast(nn.Linear, network[2])
    return arrays_of(hidden.weight, hidden.bias, out.weight, out.bias)


def _return_head(model: SequenceModel, mode: str) -> ReturnHead:
    return cast(ReturnHead, model.return_heads[mode])
