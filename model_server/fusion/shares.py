"""What each expert gave to the score of a shown item: its part of the log-odds against the user's average candidate."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model_server.fusion import exploring, returning
from model_server.fusion.chances import expected
from model_server.fusion.cpu_shares import Owned, Part, shares_on_cpu
from model_server.fusion.experts import SHARED
from model_server.fusion.head import Head, Scored
from model_server.fusion.return_part import MIXED


def _members(names: Sequence[str]) -> Tensor:
    return torch.tensor([[float(name == expert) for expert in SHARED] for name in names])


def _experts(names: Sequence[str]) -> npt.NDArray[np.int64]:
    return np.array([SHARED.index(name) if name in SHARED else -1 for name in names])


OWN, EXPLORE, MIX = _members(returning.NAMES), _members(exploring.NAMES), _members(MIXED)
WHOSE_OWN, WHOSE_EXPLORE, WHOSE_MIX = _experts(returning.NAMES), _experts(exploring.NAMES), _experts(MIXED)


def expert_shares(head: Head, scored: Scored, columns: Tensor) -> Tensor:
    """Shares float32 [users, shown, len(SHARED)] of the items at these columns of the merged list.

    The features that experts fill enter the score linearly (the networks add what several say together, which is nobody's
    share), so weight times (feature - its mean over the user's candidates) is exactly an expert's part.
    """
    return (_on_cpu if scored.gate.device.type == "cpu" else _on_device)(head, scored, columns)


def _on_cpu(head: Head, scored: Scored, columns: Tensor) -> Tensor:
    batch, returned, explored = scored.batch, scored.returning, scored.exploring
    starts = torch.searchsorted(batch.own.user, torch.arange(batch.users + 1))
    mix = head.returns.mix.weights
    weights = head.returns.linear_weights(batch.slots) * mix[0]
    return shares_on_cpu(
        Owned(starts.numpy(), returned.log_p.numpy()),
        (
            Part(returned.known.values.contiguous().numpy(), weights.numpy(), WHOSE_OWN),
            Part(returned.mixed.numpy(), mix.numpy(), WHOSE_MIX),
        ),
        Part(
            explored.features.transpose(1, 2).contiguous().numpy(), head.explores.linear.weights.numpy(), WHOSE_EXPLORE
        ),
        expected(explored.log_p, explored.features).numpy(),
        columns.numpy(),
        len(SHARED),
    )


def _on_device(head: Head, scored: Scored, columns: Tensor) -> Tensor:
    own, users, device = scored.batch.own, len(scored.gate), scored.gate.device
    counts = torch.bincount(own.user, minlength=users)
    starts, width = counts.cumsum(0) - counts, int(counts.max())
    pair = (starts[:, None] + columns).clamp(max=len(own.user) - 1)
    p = scored.returning.log_p.exp()[:, None]
    mix = head.returns.mix.weights

    def apart(values: Tensor) -> Tensor:
        mean = torch.zeros((users, values.shape[1]), device=device).index_add_(0, own.user, values * p)
        return values[pair] - mean[:, None]

    weights = head.returns.linear_weights(scored.batch.slots) * mix[0]
    from_own = (apart(scored.returning.known.values) * weights[:, None]) @ OWN.to(device)
    from_own = from_own + (apart(scored.returning.mixed) * mix) @ MIX.to(device)

    features = scored.exploring.features
    mean = expected(scored.exploring.log_p, features)
    chosen = (columns - width).clamp(min=0)
    shown = features.gather(1, chosen[..., None].expand(-1, -1, features.shape[2]))
    from_explore = ((shown - mean[:, None]) * head.explores.linear.weights) @ EXPLORE.to(device)
    return torch.where((columns >= width)[..., None], from_explore, from_own)
