"""Weights learned online by Newton steps with forgetting: few features, correlated, and a world that changes."""

import torch
from torch import Tensor

FORGET = 0.9998


class NewtonWeights:
    """Recursive maximum likelihood of a generalised linear model: weights with the decayed curvature seen so far.

    The recursive least-squares recursion with the likelihood's own curvature (online Newton step, Hazan et al. 2007). What
    is forgotten, by ``forget`` per event, goes back to the prior weights with precision ``precision``. Unlike a diagonal method
    it is not misled by features that say the same.
    """

    def __init__(self, prior: Tensor, precision: float = 1.0, forget: float = FORGET) -> None:
        self._device = prior.device
        self.prior, self.precision, self.forget = prior.double().cpu(), precision, forget
        self.exact = self.prior.clone()
        self.curvature = torch.eye(len(prior), dtype=torch.float64) * precision
        self.weights = prior.clone()

    def step(self, gradient: Tensor, curvature: Tensor, events: int) -> None:
        """One step on a batch of events: the gradient [k] of their log-likelihood and its negative Hessian [k, k].

        What is not finite is left out.
        """
        gradient, curvature = gradient.double().cpu(), curvature.double().cpu()
        if not bool(torch.isfinite(gradient).all() & torch.isfinite(curvature).all()):
            return
        kept = self.forget**events
        back = self.precision * (1 - kept)
        self.curvature = kept * self.curvature + curvature + back * torch.eye(len(self.prior), dtype=torch.float64)
        self.exact = self.exact + torch.linalg.solve(self.curvature, gradient + back * (self.prior - self.exact))
        self.weights = self.exact.to(self._device, self.weights.dtype)

    def state(self) -> dict[str, Tensor]:
        """Weights and curvature."""
        return {"weights": self.exact.clone(), "curvature": self.curvature.clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take over what ``state`` gave; ValueError for another number of weights."""
        if state["weights"].shape != self.exact.shape:
            raise ValueError(f"{len(state['weights'])} weights in the state, {len(self.exact)} here")
        self.exact, self.curvature = state["weights"].clone(), state["curvature"].clone()
        self.weights = self.exact.to(self._device, self.weights.dtype)


def logistic_step(weights: NewtonWeights, features: Tensor, probability: Tensor, label: Tensor, mask: Tensor) -> None:
    """Learn a logistic regression [n, k] -> [n] from the labels where ``mask`` is true."""
    x, p, error = features[mask], probability[mask], (label.float() - probability)[mask]
    if len(x):
        weights.step(error @ x, (x * (p * (1 - p))[:, None]).T @ x, len(x))
