"""Softmax losses over a catalogue: in full, over a sample, or over the other targets of the batch.

A sampled softmax subtracts the log of how often each candidate is expected in the sample (logQ, Bengio and Senecal 2008;
Yi et al., RecSys 2019), so that its gradient is that of the full one in expectation.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def full_softmax(logits: Tensor, target: Tensor) -> Tensor:
    """-log softmax(logits)[target], [B], of logits [B, N] and columns [B]."""
    return F.cross_entropy(logits, target, reduction="none")


def sampled_softmax(target_logit: Tensor, sample_logits: Tensor, log_expected: Tensor, is_target: Tensor) -> Tensor:
    """[B] losses from the target's logit [B] against a shared sample.

    ``sample_logits`` [B, C] are the sample's logits, ``log_expected`` [C] the log of each candidate's expected number of
    draws, ``is_target`` [B, C] marks accidental hits, which do not count as negatives.
    """
    corrected = (sample_logits - log_expected).masked_fill(is_target, -torch.inf)
    return torch.logsumexp(torch.cat([target_logit[:, None], corrected], 1), 1) - target_logit


def in_batch_softmax(queries: Tensor, targets: Tensor, rows: Tensor, log_popularity: Tensor) -> Tensor:
    """[B] losses of queries [B, d] against the batch's own target vectors [B, d].

    ``rows`` [B] are the targets' catalogue rows (the same row is not a negative of itself), ``log_popularity`` [B] the log
    of how often each is drawn as a target.
    """
    logits = queries @ targets.T - log_popularity
    same = (rows[:, None] == rows[None, :]) & ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    return F.cross_entropy(
        logits.masked_fill(same, -torch.inf), torch.arange(len(rows), device=rows.device), reduction="none"
    )
