"""What kind of place people discover after which kind, and after how long: counts of everybody's discoveries."""

from typing import Any

import torch
from torch import Tensor

from model_server.catalogue import grown

FEATURES = 2
GAPS, SHORTEST_S, GAP_RATIO = 8, 600.0, 0.8
MOST_KINDS = 1024  # beyond that categories share a line: each has one of its own for every other
PRIOR = 5.0  # discoveries of the usual kinds that every line starts from


class Moves:
    """Discoveries by category, by the category of the place before, and by the time that has passed since.

    >>> moves = Moves(torch.device("cpu"))
    >>> after, gap_s = torch.tensor([1]), torch.tensor([60.0])
    >>> for _ in range(9):
    ...     moves.count(after, gap_s, torch.tensor([2]))
    >>> (moves.lifts(torch.tensor([1]), gap_s, torch.tensor([[2, 3]]))[0, :, 0] > 0).tolist()
    [True, False]
    """

    def __init__(self, device: torch.device) -> None:
        self.usual = torch.zeros(64, device=device)
        self.after = torch.zeros((64, 64), device=device)
        self.later = torch.zeros((GAPS, 64), device=device)

    def count(self, before: Tensor, gap_s: Tensor, kind: Tensor) -> None:
        """Discoveries [n] of this category, after one of that, so long after it. O(n), amortised."""
        before, kind = before % MOST_KINDS, kind % MOST_KINDS
        self._reserve(int(torch.maximum(before.max(), kind.max())) + 1)
        one = torch.ones_like(gap_s)
        self.usual.index_add_(0, kind, one)
        self.after.index_put_((before, kind), one, accumulate=True)
        self.later.index_put_((_bucket(gap_s), kind), one, accumulate=True)

    def lifts(self, before: Tensor, gap_s: Tensor, kind: Tensor) -> Tensor:
        """How much likelier than usual the categories int64 [users, n] are, as logarithms, [users, n, FEATURES]."""
        before, kind = before % MOST_KINDS, kind % MOST_KINDS
        self._reserve(int(torch.maximum(before.max(), kind.max())) + 1)
        usual = self.usual + 0.5
        usual = (usual / usual.sum())[kind]
        lines = (self.after[before], self.later[_bucket(gap_s)])
        return torch.stack(
            [
                torch.log((line.gather(1, kind) / usual + PRIOR) / (line.sum(1, keepdim=True) + PRIOR))
                for line in lines
            ],
            2,
        )  # fmt: skip

    def _reserve(self, kinds: int) -> None:
        if kinds > len(self.usual):
            most = min(max(kinds, 2 * len(self.usual)), MOST_KINDS)
            self.usual = grown(self.usual, most)
            self.after = grown(grown(self.after, most).T, most).T.contiguous()
            self.later = grown(self.later.T, most).T.contiguous()

    def state(self) -> dict[str, Tensor]:
        """The counts."""
        return {name: getattr(self, name).cpu().clone() for name in ("usual", "after", "later")}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave."""
        for name in ("usual", "after", "later"):
            setattr(self, name, state[name].to(self.usual.device).clone())


def _bucket(gap_s: Tensor) -> Tensor:
    return (torch.log1p(gap_s / SHORTEST_S) / GAP_RATIO).long().clamp(max=GAPS - 1)
