"""What, where and when comes next for a user: calibrated probabilities, and the errors that they had."""

import bisect
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from model_server.items import ItemTable
from model_server.live_clusters import LiveClusters
from model_server.metrics import ServerMetrics
from model_server.ranking import RankedItem
from model_server.recommending import Made
from schemas.events import BehaviorEvent
from schemas.patterns import NamedShare, Pattern
from schemas.recommendations import NextBehaviour

Floats = npt.NDArray[np.float64]
LEVELS = (0.1, 0.5, 0.9)
LEVEL_NAMES = tuple(map(str, LEVELS))
GAP_EDGES_S = np.concatenate(([0.0], np.geomspace(10.0, 90 * 86_400.0, 47)))
BINS = len(GAP_EDGES_S)
GAP_WIDTHS_S = np.append(np.diff(GAP_EDGES_S), 0.4 * GAP_EDGES_S[-1])
NO_GAPS = np.zeros(BINS, np.float32)
WHOLE = 100_000  # parts: shares are told to the fifth decimal
PROBABILITY_EDGES = np.concatenate(([0.0], np.geomspace(0.002, 1.0, 20)))

EDGE_LIST = PROBABILITY_EDGES.tolist()
GAP_EDGE_LIST = GAP_EDGES_S.tolist()


def never_falling(values: Floats, weights: Floats) -> Floats:
    """The nearest never-falling sequence by weighted least squares: pool adjacent violators. O(n).

    >>> never_falling(np.array([1.0, 3.0, 2.0]), np.array([1.0, 1.0, 3.0])).tolist()
    [1.0, 2.25, 2.25]
    """
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist()):
        size = 1
        while pools and pools[-1][0] >= value:
            mean, pooled, more = pools.pop()
            value = (mean * pooled + value * weight) / (pooled + weight)
            weight, size = weight + pooled, size + more
        pools.append((value, weight, size))
    return np.repeat([mean for mean, _, _ in pools], [size for _, _, size in pools])


class Calibrator:
    """Maps a stated probability to the frequency with which such statements came true.

    Decayed bins, made monotone by isotonic regression, linear in between; a bin that has seen little keeps to what was stated
    (a prior of ``prior`` observations). The curve is drawn again after every ``redraw`` lessons.

    >>> calibrator = Calibrator()
    >>> for n in range(1000):
    ...     calibrator.learn(0.5, n % 4 == 0)
    >>> bool(0.24 < calibrator.calibrated(np.array([0.5]))[0] < 0.28)
    True
    """

    def __init__(self, prior: float = 20.0, decay: float = 0.9999, redraw: int = 100) -> None:
        self._prior, self._decay, self._redraw = prior, decay, redraw
        bins = len(PROBABILITY_EDGES) - 1
        # Lists, of which one number at a time is read and written faster than of arrays.
        self._count, self._stated, self._hits = [0.0] * bins, [0.0] * bins, [0.0] * bins
        self._lessons = 0
        self._x, self._y = self._curve()

    def learn(self, stated: float, came_true: bool) -> None:
        """One statement was tested. O(1), amortised."""
        index = min(bisect.bisect_right(EDGE_LIST, stated) - 1, len(self._count) - 1)
        self._count[index] = self._decay * self._count[index] + 1.0
        self._stated[index] = self._decay * self._stated[index] + stated
        self._hits[index] = self._decay * self._hits[index] + came_true
        self._lessons += 1
        if self._lessons % self._redraw == 0:
            self._x, self._y = self._curve()

    def calibrated(self, stated: Floats) -> Floats:
        """The calibrated probabilities of these statements, never decreasing in the statement. O(n log bins)."""
        return np.interp(stated, self._x, self._y)

    def frequency(self, stated: float) -> float:
        """The same of one statement, without an array. O(log bins)."""
        above = bisect.bisect_right(self._x, stated)
        if not 0 < above < len(self._x):
            return self._y[0 if above == 0 else -1]
        x, y, next_x, next_y = self._x[above - 1], self._y[above - 1], self._x[above], self._y[above]
        return y + (stated - x) * (next_y - y) / (next_x - x)

    def error(self) -> float:
        """Expected calibration error of what was stated: mean |frequency - statement|."""
        total = sum(self._count)
        return sum(abs(hits - stated) for hits, stated in zip(self._hits, self._stated)) / total if total else 0.0

    def state(self) -> list[Floats]:
        """What was learned, as arrays."""
        return [np.array(column) for column in (self._count, self._stated, self._hits)]

    def load_state(self, state: list[Floats]) -> None:
        """Take over what ``state`` gave; ValueError if its shape is another."""
        bins = len(self._count)
        if [column.shape for column in state] != [(bins,)] * 3:
            raise ValueError(f"a calibrator's state has three columns of {bins}")
        self._count, self._stated, self._hits = (column.tolist() for column in state)
        self._x, self._y = self._curve()

    def _curve(self) -> tuple[list[float], list[float]]:
        middle = (PROBABILITY_EDGES[1:] + PROBABILITY_EDGES[:-1]) / 2
        count, stated, hits = self.state()
        x = np.where(count > 0, stated / np.maximum(count, 1e-9), middle)
        y = never_falling((hits + self._prior * x) / (count + self._prior), count + 1e-3)
        return [0.0, *x.tolist(), 1.0], [0.0, *y.tolist(), float(y[-1])]


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


def _gap_bin(gap_s: float) -> int:
    return bisect.bisect_right(GAP_EDGE_LIST, max(gap_s, 0.0)) - 1


def _hour(time_ms: int) -> int:
    return (time_ms // 3_600_000) % 24
