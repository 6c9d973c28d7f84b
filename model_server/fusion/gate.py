"""The gate: will the user return to an own item, or explore?"""

import torch
from torch import Tensor

from model_server.fusion import returning
from model_server.fusion.batch import CONTEXT, UserBatch
from model_server.fusion.newton import NewtonWeights, logistic_step

CORE = 5
FEATURES = returning.USER_FEATURES + CONTEXT + 4 + CORE * (CORE + 1) // 2


class Gate:
    """A logistic regression on how regular the user is, the time, how sure the return part is, and the sequence model's gate.

    The products of its five strongest features are features too. Learned by Newton steps with forgetting: the share of
    discoveries falls while a service grows.
    """

    def __init__(self, device: torch.device) -> None:
        prior = torch.zeros(FEATURES, device=device)
        prior[0] = 0.7
        self.weights = NewtonWeights(prior, precision=3.0)

    def features(self, batch: UserBatch, of_user: Tensor, own_log_p: Tensor, sequence: Tensor) -> Tensor:
        """float32 [users, FEATURES]; ``sequence`` [users] is the sequence model's logit of exploring, 0 without one."""
        user, users = batch.own.user, batch.users
        surest = own_log_p.new_full((users,), -torch.inf).scatter_reduce(0, user, own_log_p, "amax")
        entropy = own_log_p.new_zeros(users).index_add(0, user, -own_log_p * own_log_p.exp())
        core = torch.cat((of_user[:, :3], surest[:, None], entropy[:, None]), 1)
        first, second = torch.triu_indices(CORE, CORE, device=core.device)
        ones = torch.ones_like(surest)[:, None]
        return torch.cat(
            (of_user, batch.time_context, core[:, 3:], sequence[:, None], ones, core[:, first] * core[:, second]), 1
        )

    def probability(self, features: Tensor) -> Tensor:
        """P(explore) [users]."""
        return torch.sigmoid(features @ self.weights.weights)

    def learn(self, features: Tensor, probability: Tensor, explored: Tensor) -> None:
        """Learn from what the users did: bool [users]."""
        logistic_step(self.weights, features, probability, explored, torch.ones_like(explored))
