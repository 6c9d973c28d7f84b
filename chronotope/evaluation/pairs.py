"""Two strategies as one: a mixture of what they say, with a weight that is learned online."""

from collections.abc import Sequence

import numpy as np

from chronotope.evaluation.baselines import Baseline, Floats
from chronotope.evaluation.ranking import Standing
from chronotope.evaluation.stream import Stream

RATE = 0.01
KEPT = 200
UNIFORM = 0.01


class Heard(Baseline):
    """What a strategy answered in an earlier run, as a part of a pair: its best ``KEPT`` items with their probabilities."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._answers: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def note(self, last: int, standing: Standing) -> None:
        """The answer (log-probabilities) that stood after event ``last``."""
        self._answers[last] = standing.items[:KEPT].astype(np.int32), np.exp(standing.scores[:KEPT])

    def scores(self, last: int, target: int | None) -> Floats:
        """Probabilities; 0 beyond those that were kept."""
        scores = np.zeros(self.stream.items)
        items, probabilities = self._answers[last]
        scores[items] = probabilities
        return scores


class Pair(Baseline):
    """A linear mixture of the parts' shares; the weights follow their responsibilities for what came (online EM)."""

    def __init__(self, stream: Stream, parts: Sequence[Baseline]) -> None:
        super().__init__(stream)
        self.parts, self.weights = list(parts), np.full(len(parts), 1.0 / len(parts))
        self._said: dict[int, np.ndarray] = {}

    def scores(self, last: int, target: int | None) -> Floats:
        """The mixture."""
        said = np.stack([_shares(part.scores(last, target), self.popularity > 0) for part in self.parts])
        self._said[last] = said.astype(np.float32)
        return self.weights @ said

    def absorb(self, at: int) -> None:
        """Learn the weights if this event was answered for, then let the parts learn."""
        said = self._said.pop(int(self.stream.previous[at]), None)
        if said is not None:
            blame = self.weights * (said[:, self.stream.item[at]] + 1e-9)
            self.weights += RATE * (blame / blame.sum() - self.weights)
        for part in self.parts:
            part.learn(at)


def _shares(scores: Floats, known: np.ndarray) -> Floats:
    """Scores as shares of their sum over the known items, with a little for each of them."""
    held = np.where(known, scores, 0.0)
    return (1 - UNIFORM) * held / max(held.sum(), 1e-12) + UNIFORM * known / max(known.sum(), 1)
