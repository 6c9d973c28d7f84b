"""What each expert gave to the score of a shown item: its part of the log-odds against the user's average candidate."""

from collections.abc import Sequence

import torch
from torch import Tensor

from model_server.fusion import exploring, returning
from model_server.fusion.head import Head, Scored

SHARED = tuple(sorted({*returning.NAMES, *exploring.NAMES}))


def _members(names: Sequence[str]) -> Tensor:
    return torch.tensor([[float(name == expert) for expert in SHARED] for name in names])


OWN_MEMBERS, EXPLORE_MEMBERS = _members(returning.NAMES), _members(exploring.NAMES)
SEQUENCE = SHARED.index("sequence")


def expert_shares(head: Head, scored: Scored, columns: Tensor) -> Tensor:
    """Shares float32 [users, shown, len(SHARED)] of the items at these columns of the merged list.

    The features that experts fill enter the score linearly (the networks add what several say together, which is nobody's
    share), so weight times (feature - its mean over the user's candidates) is exactly an expert's part.
    """
    own, users = scored.batch.own, len(scored.gate)
    counts = torch.bincount(own.user, minlength=users)
    starts, width = counts.cumsum(0) - counts, int(counts.max())
    weights = head.network.weights.detach() + head.user_weights.weights[scored.batch.slots]
    weights = weights[:, : len(returning.NAMES)]
    values = scored.known.values
    mean = torch.zeros((users, values.shape[1]), device=values.device)
    mean.index_add_(0, own.user, values * scored.own_log_p.exp()[:, None])
    pair = (starts[:, None] + columns).clamp(max=len(own.user) - 1)
    from_own = ((values[pair] - mean[:, None]) * weights[:, None]) @ OWN_MEMBERS.to(values.device)
    from_own[..., SEQUENCE] += head.own_mix.weights[1] * scored.own_extras[pair, 1]

    chosen = (columns - width).clamp(min=0)
    features = scored.explore_features
    mean = torch.einsum("uc,ucf->uf", scored.explore_log_p.exp(), features)
    shown = features.gather(1, chosen[..., None].expand(-1, -1, features.shape[2]))
    from_explore = ((shown - mean[:, None]) * head.explore.weights) @ EXPLORE_MEMBERS.to(values.device)
    return torch.where((columns >= width)[..., None], from_explore, from_own)
