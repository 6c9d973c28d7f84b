"""Weights that are learned online by AdaGrad on exact log-likelihood gradients."""

import torch
from torch import Tensor

from model_server.catalogue import grown
from model_server.fusion.cpu_grouping import grouped_log_softmax_on_cpu


class UserWeights:
    """Each user's own offsets to shared weights, [users, features], shrunk towards zero at every step."""

    def __init__(self, features: int, device: torch.device, rate: float = 0.03, decay: float = 0.01) -> None:
        self.rate, self.decay = rate, decay
        self.weights = torch.zeros((64, features), device=device)
        self.squares = torch.ones((64, features), device=device)

    def reserve(self, users: int) -> None:
        """Make room for this many users."""
        if users > len(self.weights):
            self.weights = grown(self.weights, max(users, 2 * len(self.weights)))
            self.squares = grown(self.squares, len(self.weights), 1.0)

    def forget(self, users: Tensor) -> None:
        """These rows belong to somebody else now."""
        self.weights[users], self.squares[users] = 0.0, 1.0

    def step(self, users: Tensor, gradient: Tensor) -> None:
        """One descent step; a user may come several times, [n] and [n, features]."""
        distinct, index = torch.unique(users, return_inverse=True)
        summed = torch.zeros((len(distinct), gradient.shape[1]), device=gradient.device).index_add_(0, index, gradient)
        if bool(torch.isfinite(summed).all()):
            self.squares[distinct] += summed.square()
            kept = (1 - self.decay) * self.weights[distinct]
            self.weights[distinct] = kept - self.rate * summed / self.squares[distinct].sqrt()

    def state(self) -> dict[str, Tensor]:
        """Weights and sums of squares."""
        return {"weights": self.weights.cpu().clone(), "squares": self.squares.cpu().clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take over what ``state`` gave; ValueError for another number of features."""
        if state["weights"].shape[1] != self.weights.shape[1]:
            raise ValueError(f"{state['weights'].shape[1]} weights per user in the state, {self.weights.shape[1]} here")
        self.weights = state["weights"].to(self.weights).clone()
        self.squares = state["squares"].to(self.squares).clone()


def grouped_log_softmax(logits: Tensor, group: Tensor, groups: int) -> Tensor:
    """Log-softmax of flat ``logits`` [n] within each group int64[n]; differentiable.

    >>> grouped_log_softmax(torch.zeros(3), torch.tensor([0, 0, 1]), 2).exp().tolist()
    [0.5, 0.5, 1.0]
    """
    if logits.device.type == "cpu" and not logits.requires_grad:
        return grouped_log_softmax_on_cpu(logits, group, groups)
    top = logits.detach().new_full((groups,), -torch.inf).scatter_reduce(0, group, logits.detach(), "amax")
    centred = logits - top[group]
    total = logits.new_zeros(groups).index_add(0, group, torch.exp(centred))
    return centred - torch.log(total)[group]
