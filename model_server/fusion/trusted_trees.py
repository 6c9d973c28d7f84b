"""Boosted trees with a say in a part of the fusion: what they say counts as far as it is trusted, which is learned."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model_server.fusion.boosting import Asked, Boosting
from model_server.fusion.newton import NewtonWeights

Array = npt.NDArray[Any]


class TrustedTrees:
    """The trees of ``boosting`` and one weight, ``trust``, that what they say is multiplied by; full trust at first."""

    def __init__(self, boosting: Boosting, device: torch.device) -> None:
        self.boosting = boosting
        self.trust = NewtonWeights(torch.ones(1, device=device), precision=10.0)

    def said(self, pairs: int, asked: Asked) -> Tensor:
        """What the trees say of each pair, before it is trusted, float32 [pairs]; put together only if there are trees."""
        return torch.from_numpy(self.boosting.of(pairs, asked)).to(self.trust.weights.device)

    def learn(self, asked: Array, before: Tensor, said: Tensor, group: Tensor, hit: Tensor) -> None:
        """Remember what was chosen, as in ``Boosting.learn``, of pairs in any shape of as many elements."""
        columns = (each.flatten().cpu().numpy() for each in (before, said, group, hit))
        self.boosting.learn(asked, *columns)

    def state(self) -> dict[str, Any]:
        """The trees with their pairs, and the trust."""
        return {"trees": self.boosting.state(), "trust": self.trust.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave; nothing of a state from before there were trees."""
        if state.get("trees") is not None:
            self.boosting.load_state(state["trees"])
            self.trust.load_state(state["trust"])


def tree_features(of_pairs: list[Tensor], of_users: list[Tensor], user: Tensor) -> npt.NDArray[np.float32]:
    """What the trees are asked about, float32 [pairs, ...]: features of the pairs, and those of each one's user."""
    return torch.cat([*of_pairs, torch.cat(of_users, 1)[user]], 1).float().cpu().numpy()
