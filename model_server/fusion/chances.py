"""Choosing among candidates, [users, n]: which can be chosen, how likely each is, which are likeliest, what to expect of them.

On a CPU kernels do it (``cpu_chances``), to the rounding of float32, but for what is learned through.
"""

import torch
from torch import Tensor

from model_server.fusion.cpu_chances import (
    append_chances_on_cpu,
    choosable_on_cpu,
    expected_on_cpu,
    log_chances_on_cpu,
)
from model_server.fusion.cpu_likeliest import FEW, foremost_on_cpu, likeliest_on_cpu
from model_server.fusion.exploring import own_mask

NEVER = -1e9


def choosable(candidates: Tensor, own_rows: Tensor, rankable: Tensor) -> Tensor:
    """The candidates that are ``rankable`` (bool by catalogue row) and not the user's own, -1 in place of the others.

    The candidates int64 [users, n] are distinct and ascending, but for -1 at the left, and so are the own rows [users, m], but
    for -1 at the right.

    >>> choosable(torch.tensor([[-1, 0, 1, 2]]), torch.tensor([[2, 3, -1]]), torch.tensor([True, False, True, True])).tolist()
    [[-1, 0, -1, -1]]
    """
    if candidates.device.type == "cpu":
        return choosable_on_cpu(candidates, own_rows, rankable)
    usable = (candidates >= 0) & rankable[candidates.clamp(min=0)] & ~own_mask(own_rows, candidates)
    return torch.where(usable, candidates, -1)


def log_chances(logits: Tensor, rows: Tensor) -> Tensor:
    """The logarithms of a softmax of each user's logits over the rows that there are; ``NEVER`` where there is none (-1)."""
    if logits.device.type == "cpu" and not logits.requires_grad:
        return log_chances_on_cpu(logits, rows)
    nobody = rows < 0
    held = logits.masked_fill(nobody, NEVER)
    return (held - torch.logsumexp(held, 1, True)).masked_fill(nobody, NEVER)


def likeliest(log_p: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The ``most`` largest of each user's logarithms [users, n], or all, largest first, and their columns; NaN spoils its user.

    >>> [each.tolist() for each in likeliest(torch.tensor([[-1.0, -3.0, -0.5, -2.0]]), 2)]
    [[[-0.5, -1.0]], [[2, 0]]]
    """
    most = min(most, log_p.shape[1])
    if log_p.device.type == "cpu" and not log_p.requires_grad:
        return likeliest_on_cpu(log_p, most)
    found = log_p.topk(most, 1)
    return found.values, found.indices


def foremost(scores: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The ``most`` largest of each user's scores [users, n], or all, largest first, and their columns; NaN comes before all.

    >>> [each.tolist() for each in foremost(torch.tensor([[0.25, -1.0, 0.5, 0.125]]), 2)]
    [[[0.5, 0.25]], [[2, 0]]]
    """
    most = min(most, scores.shape[1])
    if scores.device.type == "cpu" and most <= FEW:
        return foremost_on_cpu(scores, most)
    found = scores.topk(most, 1)
    return found.values, found.indices


def expected(log_p: Tensor, features: Tensor) -> Tensor:
    """The mean of features [users, n, ...] by chances whose logarithms are ``log_p`` [users, n]: [users, ...]."""
    if features.device.type == "cpu" and not (features.requires_grad or log_p.requires_grad):
        return expected_on_cpu(log_p, features)
    return torch.einsum("uc,ucf->uf", log_p.exp(), features)


def append_chances(
    rows: Tensor, probability: Tensor, found: Tensor, log_p: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """``rows`` with the candidates ``found`` beside them, and the probabilities of both; -1 where there is no row.

    A candidate's probability is exp(``log_p``) times its user's ``weight``.
    """
    if rows.device.type == "cpu" and not log_p.requires_grad:
        return append_chances_on_cpu(rows, probability, found, log_p, weight)
    rows = torch.cat((rows, found), 1)
    probability = torch.cat((probability, weight[:, None] * log_p.exp()), 1)
    return rows, probability.masked_fill(rows < 0, -1.0)
