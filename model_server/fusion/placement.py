"""Where discoveries are placed in a list: below the head they may count more, as long as that costs few hits."""

import torch
from torch import Tensor

FACTORS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
HEAD = 5
LENGTH = 10
DECAY = 0.9999


class Placement:
    """Orders candidates by probability, below the first ``HEAD`` with discoveries' probability times a factor.

    Of ``FACTORS`` the largest is used whose hits among the first ``LENGTH``, counted test-then-train with every factor side by
    side, fall short of the plain order's by at most ``budget`` (share of events). So what is given up for surprise is bounded.
    """

    def __init__(self, device: torch.device, budget: float) -> None:
        self.budget = budget
        self.hits = torch.zeros(len(FACTORS), dtype=torch.float64, device=device)
        self.events = 0.0

    @property
    def factor(self) -> float:
        """The factor in use; 1 until a thousand events are counted."""
        if self.events < 1000:
            return 1.0
        affordable = (self.hits[0] - self.hits) / self.events <= self.budget
        return FACTORS[int(affordable.nonzero().max())]

    def order(self, probability: Tensor, explore: Tensor, factor: float | None = None) -> Tensor:
        """Scores to sort by, [users, candidates]; probabilities below 0 stay behind everything."""
        factor = self.factor if factor is None else factor
        if factor == 1.0 or probability.shape[1] <= HEAD:
            return probability
        lifted = torch.where(explore & (probability > 0), probability * factor, probability)
        head = probability.topk(HEAD, 1)
        return lifted.scatter(1, head.indices, head.values + (head.values >= 0) * factor)

    def learn(self, probability: Tensor, explore: Tensor, is_target: Tensor) -> None:
        """Count the hits that each factor would have had; a row of ``is_target`` without a target is a miss for all."""
        self.hits *= DECAY ** len(probability)
        self.events = self.events * DECAY ** len(probability) + len(probability)
        length = min(LENGTH, probability.shape[1])
        for index, factor in enumerate(FACTORS):
            best = self.order(probability, explore, factor).topk(length, 1).indices
            self.hits[index] += is_target.gather(1, best).any(1).sum()

    def state(self) -> dict[str, object]:
        """The counts."""
        return {"hits": self.hits.cpu().clone(), "events": self.events}

    def load_state(self, state: dict[str, object]) -> None:
        """Take over what ``state`` gave."""
        hits, events = state["hits"], state["events"]
        if not isinstance(hits, Tensor) or len(hits) != len(FACTORS) or not isinstance(events, float):
            raise ValueError("state of the placement does not fit")
        self.hits, self.events = hits.to(self.hits).clone(), events
