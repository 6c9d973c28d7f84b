"""When a user comes next: calibrated quantiles of the time between two events."""

import bisect
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LEVELS = (0.1, 0.5, 0.9)
GAP_EDGES_S = np.concatenate(([0.0], np.geomspace(10.0, 90 * 86_400.0, 47)))
GAP_EDGE_LIST = GAP_EDGES_S.tolist()
BINS = len(GAP_EDGES_S)
GAP_WIDTHS_S = np.append(np.diff(GAP_EDGES_S), 0.4 * GAP_EDGES_S[-1])
NO_GAPS = np.zeros(BINS, np.float32)


class GapModel:
    """When a user comes next: quantiles of the time to the next event, the user's own gaps shrunk to everybody's.

    Gaps are counted in logarithmic bins, for everybody by the hour of the event before; each level is corrected online
    until its coverage is nominal (adaptive conformal inference: Gibbs and Candes, NeurIPS 2021). observe is O(1), quantiles
    O(bins) per user; at most ``max_users`` are remembered.
    """

    def __init__(self, max_users: int, shrink: float = 8.0, rate: float = 0.002) -> None:
        self._max_users, self._shrink, self._rate = max_users, shrink, rate
        self._everybody = np.full((24, BINS), 0.1)
        self._own: OrderedDict[str, npt.NDArray[np.float32]] = OrderedDict()
        self._level: list[float] = list(LEVELS)
        self.covered: list[float] = list(LEVELS)

    def observe(self, user_id: str, since_ms: int, time_ms: int) -> None:
        """The user came ``time_ms - since_ms`` after the event before."""
        index = _gap_bin((time_ms - since_ms) / 1000)
        self._everybody[_hour(since_ms), index] += 1.0
        own = self._own.get(user_id)
        if own is None:
            if len(self._own) >= self._max_users:
                self._own.popitem(last=False)
            own = self._own[user_id] = np.zeros(BINS, np.float32)
        else:
            self._own.move_to_end(user_id)
        own *= 0.98
        own[index] += 1.0

    def quantiles_s(self, user_ids: Sequence[str], since_ms: Sequence[int]) -> Floats:
        """Seconds from ``since_ms`` by which each next event comes with each probability of ``LEVELS``: [users, levels]."""
        everybody = self._everybody[[_hour(each) for each in since_ms]]
        share = everybody / everybody.sum(1, keepdims=True)
        own = np.stack([self._own.get(user, NO_GAPS) for user in user_ids])
        share = (own + self._shrink * share) / (own.sum(1, keepdims=True) + self._shrink)
        reached = np.cumsum(share, 1)
        level = np.array(self._level)
        index = np.minimum((reached[:, :, None] < level).sum(1), BINS - 1)
        within = np.take_along_axis(share, index, 1)
        missing = level - (np.take_along_axis(reached, index, 1) - within)
        quantiles: Floats = GAP_EDGES_S[index] + np.clip(missing / within, 0.0, 1.0) * GAP_WIDTHS_S[index]
        return quantiles

    def test(self, stated_s: Sequence[float], gap_s: float) -> None:
        """What was stated for a gap that has now ended: corrects the levels. O(levels)."""
        least = 0.001
        for index, (stated, nominal) in enumerate(zip(stated_s, LEVELS)):
            covered = gap_s <= stated
            self.covered[index] += 0.005 * (covered - self.covered[index])
            least = max(least, min(self._level[index] + self._rate * (nominal - covered), 0.999))
            self._level[index] = least

    def state(self) -> dict[str, Any]:
        """What was learned, as arrays and plain values."""
        own = np.stack(list(self._own.values())) if self._own else np.zeros((0, BINS), np.float32)
        return {"everybody": self._everybody, "users": list(self._own), "own": own, "level": np.array(self._level)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave; ValueError if its shape is another."""
        users, own = state["users"], state["own"]
        if state["everybody"].shape != (24, BINS) or own.shape != (len(users), BINS):
            raise ValueError(f"a gap model's state has {BINS} bins, not {state['everybody'].shape}")
        self._everybody, self._level = state["everybody"].copy(), state["level"].tolist()
        self._own = OrderedDict((user, row.copy()) for user, row in zip(users, own))


def _gap_bin(gap_s: float) -> int:
    return bisect.bisect_right(GAP_EDGE_LIST, max(gap_s, 0.0)) - 1


def _hour(time_ms: int) -> int:
    return (time_ms // 3_600_000) % 24
