"""Table look-ups whose gradient is cheap on a CPU."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class _Lookup(torch.autograd.Function):
    """``F.embedding`` for small tables and many indices: its backward is an ``index_add``, 3 to 10 times faster on a CPU."""

    @staticmethod
    def forward(ctx: Any, index: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.shape = table.shape
        return F.embedding(index, table)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        (index,) = ctx.saved_tensors
        table = grad.new_zeros(ctx.shape)
        return None, table.index_add_(0, index.flatten(), grad.reshape(-1, grad.shape[-1]))


def lookup(index: Tensor, table: Tensor) -> Tensor:
    """Rows of a table [T, c] at an index [...]: [..., c]."""
    if not torch.is_grad_enabled():
        return F.embedding(index, table)
    out: Tensor = _Lookup.apply(index, table)
    return out
