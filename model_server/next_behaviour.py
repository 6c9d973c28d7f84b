"""What, where and when comes next for a user: calibrated probabilities, and the errors that they had."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from model_server.calibration import Calibrator
from model_server.gap_model import LEVELS, GapModel
from model_server.items import ItemTable
from model_server.live_clusters import LiveClusters
from model_server.metrics import ServerMetrics
from model_server.ranking import RankedItem
from model_server.recommending import Made
from schemas.events import BehaviorEvent
from schemas.patterns import NamedShare, Pattern
from schemas.recommendations import NextBehaviour

Floats = npt.NDArray[np.float64]
LEVEL_NAMES = tuple(map(str, LEVELS))
WHOLE = 100_000  # parts: shares are told to the fifth decimal


class _Stated(msgspec.Struct, frozen=True):
    item_id: str
    probability: float
    since_ms: int
    gaps_s: list[float]


class NextBehaviourPredictor:
    """Predicts each refreshed user's next behaviour from the ranking just made, and learns from how it turns out."""

    def __init__(self, items: ItemTable, metrics: ServerMetrics, max_users: int) -> None:
        self._items, self._metrics, self._max_users = items, metrics, max_users
        self._calibrator = Calibrator()
        self._gaps = GapModel(max_users)
        self._clusters = LiveClusters()
        self._stated: OrderedDict[str, _Stated] = OrderedDict()
        self._brier = 0.0
        self._tested = 0

    def note(self, patterns: Sequence[Pattern]) -> None:
        """Keep the live clusters: they name the where."""
        self._clusters.note(patterns)

    def observe(self, event: BehaviorEvent, previous_ms: int | None) -> None:
        """The next event of a user tests what was predicted, then is learned from."""
        stated = self._stated.pop(event.user_id, None)
        if stated is not None:
            self._test(stated, event)
        if previous_ms is not None:
            self._gaps.observe(event.user_id, previous_ms, event.event_time_ms)

    def predict(self, made: Sequence[Made], last_event_ms: Sequence[int]) -> list[NextBehaviour]:
        """What, where and when next for each of these users, as of the user's last event."""
        if not made:
            return []
        stated = _probabilities([each.ranking.items for each in made])
        shares = self._calibrator.calibrated(stated)
        parts = np.rint(shares / np.maximum(1.0, shares.sum(1, keepdims=True)) * WHOLE).astype(np.int64).tolist()
        gaps_s = self._gaps.quantiles_s([each.task.user_id for each in made], last_event_ms)
        when_ms = np.array(last_event_ms)[:, None] + (1000 * gaps_s).astype(np.int64)
        holding = self._clusters_of(made) if len(self._clusters) else {}
        predictions = []
        for each, since_ms, gaps, times, own, top in zip(
            made, last_event_ms, gaps_s.tolist(), when_ms.tolist(), parts, stated[:, 0].tolist()
        ):
            if each.ranking.items:
                self._remember(each.task.user_id, _Stated(each.ranking.items[0].item_id, top, since_ms, gaps))
            predictions.append(self._worded(each, own, dict(zip(LEVEL_NAMES, times)), holding))
        return predictions

    def _clusters_of(self, made: Sequence[Made]) -> dict[str, str | None]:
        """The cluster that each ranked item lies in."""
        names = list({item.item_id for each in made for item in each.ranking.items})
        return dict(zip(names, self._clusters.holding(self._items, names)))

    def _worded(
        self, made: Made, parts: Sequence[int], when_ms: dict[str, int], holding: Mapping[str, str | None]
    ) -> NextBehaviour:
        """A prediction in which each ranked item has as many of the ``WHOLE`` parts."""
        names = [item.item_id for item in made.ranking.items]
        recommendation = made.recommendation
        return NextBehaviour(
            user_id=made.task.user_id,
            version=recommendation.version,
            generated_at_ms=recommendation.generated_at_ms,
            model_version=recommendation.model_version,
            items=[NamedShare(name, part / WHOLE) for name, part in zip(names, parts)],
            categories=_summed(self._items.main_categories(names), parts),
            clusters=_summed(map(holding.get, names), parts) if holding else [],
            when_ms=when_ms,
            explore_probability=made.ranking.explore_probability,
        )

    def state(self) -> dict[str, Any]:
        """What was learned, as arrays and plain values."""
        return {"calibrator": self._calibrator.state(), "gaps": self._gaps.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave; ValueError if it does not fit."""
        self._calibrator.load_state(state["calibrator"])
        self._gaps.load_state(state["gaps"])

    def _remember(self, user_id: str, stated: _Stated) -> None:
        self._stated[user_id] = stated
        self._stated.move_to_end(user_id)
        if len(self._stated) > self._max_users:
            self._stated.popitem(last=False)

    def _test(self, stated: _Stated, event: BehaviorEvent) -> None:
        hit = stated.item_id == event.item_id
        calibrated = self._calibrator.frequency(stated.probability)
        self._brier += max(0.005, 1 / (self._tested + 1)) * ((calibrated - hit) ** 2 - self._brier)
        self._calibrator.learn(stated.probability, hit)
        self._gaps.test(stated.gaps_s, (event.event_time_ms - stated.since_ms) / 1000)
        self._tested += 1
        if self._tested % 100 == 0:
            self._report()

    def _report(self) -> None:
        error = self._metrics.prediction_error
        error.labels("brier").set(self._brier)
        error.labels("calibration").set(self._calibrator.error())
        for level, covered in zip(LEVELS, self._gaps.covered):
            error.labels(f"coverage_{level}").set(float(covered) - level)


_SECOND = itemgetter(1)


def _probabilities(ranked: Sequence[Sequence[RankedItem]]) -> Floats:
    """The finite probabilities of these lists, [lists, longest], 0 behind their ends."""
    lengths = np.array([len(items) for items in ranked])
    stated = np.zeros((len(ranked), max(1, int(lengths.max()))))
    stated[np.arange(stated.shape[1]) < lengths[:, None]] = [item.probability for items in ranked for item in items]
    return np.nan_to_num(stated, posinf=0.0, neginf=0.0)


def _summed(names: Iterable[str | None], parts: Sequence[int]) -> list[NamedShare]:
    """The share of each name, from the sum of its parts, largest first; what has no name counts for none."""
    sums: dict[str, int] = {}
    for name, part in zip(names, parts):
        if name:
            sums[name] = sums.get(name, 0) + part
    return [NamedShare(name, part / WHOLE) for name, part in sorted(sums.items(), key=_SECOND, reverse=True)]
