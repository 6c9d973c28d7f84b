"""A ranking as a strategy gave it, and the rank of what came then."""

import msgspec
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]
KEPT = 2048


class Standing(msgspec.Struct, frozen=True):
    """Scored items of one recommendation, best first; every other known item ties behind the last of them."""

    items: Ints
    scores: Scores

    @classmethod
    def of(cls, items: Ints, scores: Scores) -> "Standing":
        """From unordered scores; the best ``KEPT`` are kept, and of equals at the cut all or none."""
        order = np.argsort(-scores, kind="stable")
        if len(order) > KEPT:
            cut = scores[order[KEPT]]
            order = order[:KEPT]
            order = order[scores[order] > cut]
        return cls(items[order], scores[order])

    def rank_of(self, target: int, known_items: int) -> float:
        """The expected rank of an item among ``known_items``: ties are broken at random, unscored items tie at the end.

        >>> standing = Standing.of(np.array([7, 8, 9]), np.array([1.0, 2.0, 1.0], np.float32))
        >>> standing.rank_of(8, 5), standing.rank_of(7, 5), standing.rank_of(3, 5)
        (1.0, 2.5, 4.5)
        """
        at = np.flatnonzero(self.items == target)
        if len(at) == 0:
            scored = len(self.items)
            return scored + (known_items - scored + 1) / 2
        score = self.scores[at[0]]
        better = int((self.scores > score).sum())
        equal = int((self.scores == score).sum())
        return better + (equal + 1) / 2

    def top(self, k: int = 10) -> Ints:
        """The first k items."""
        return self.items[:k]
