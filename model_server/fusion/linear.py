"""Online softmax regression over candidate pairs: AdaGrad on the exact log-likelihood gradient."""

import torch
from torch import Tensor


class AdaGrad:
    """AdaGrad ascent on one tensor of weights (Duchi et al. 2011)."""

    def __init__(self, weights: Tensor, rate: float, initial: float) -> None:
        self.weights, self.rate = weights, rate
        self.squares = torch.full_like(weights, initial)

    def step(self, gradient: Tensor, squares: Tensor) -> None:
        """One step along a batch's summed gradient; ``squares`` is the sum of the squares of its users' gradients."""
        self.squares += squares
        self.weights += self.rate * gradient / self.squares.sqrt()

    def step_rows(self, rows: Tensor, gradient: Tensor, decay: float) -> None:
        """One step for each of these distinct rows, shrunk towards zero by ``decay``."""
        self.squares[rows] += gradient.square()
        self.weights[rows] = (1 - decay) * self.weights[rows] + self.rate * gradient / self.squares[rows].sqrt()


def grouped_softmax(logits: Tensor, group: Tensor, groups: int) -> Tensor:
    """Softmax of flat ``logits`` [n] within each group int64[n].

    >>> grouped_softmax(torch.zeros(3), torch.tensor([0, 0, 1]), 2).tolist()
    [0.5, 0.5, 1.0]
    """
    top = torch.full((groups,), -torch.inf, device=logits.device).scatter_reduce(0, group, logits, "amax")
    weights = torch.exp(logits - top[group])
    return weights / torch.zeros(groups, device=logits.device).index_add_(0, group, weights)[group]
