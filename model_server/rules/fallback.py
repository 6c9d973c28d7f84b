"""The fallback chain, a ranker in its own right: the user's own items, the nearest crowd's, this hour's, everybody's."""

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from model_server.items import ItemTable, Mask, distance_m
from model_server.ranking import ONE_SHARE, Query, RankedItem, Ranking
from schemas.events import BehaviorEvent, Item
from schemas.patterns import ClusterUpdate, Pattern

HOUR_MS = 3_600_000
STAGES = ("personal", "cluster", "time_of_day", "popular", "catalogue")
STAGE_MASS = dict(zip(STAGES, (0.8, 0.1, 0.06, 0.03, 0.01)))


class FallbackSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How fast counts fade, how many items of a user are kept, and how near a crowd must be to speak for a place."""

    half_life_s: float = 30 * 86_400.0
    items_per_user: int = 64
    max_users: int = 1_000_000
    near_m: float = 1_000.0
    cached_top: int = 512


class _Habits:
    """What one user did: decayed counts by row, and where the user was last."""

    __slots__ = ("counts", "lat", "lon", "time_ms")

    def __init__(self) -> None:
        self.counts: dict[int, float] = {}
        self.lat: float | None = None
        self.lon: float | None = None
        self.time_ms = 0


class FallbackRanker:
    """Ranks by plain decayed counts, one stage after the other; never empty while one allowed item is known.

    It is what answers when a model cannot, fills up what a model left short, and is the baseline strategy ``popular``.
    observe is O(events); rank is O(k) per query and O(rows) for one with a mask.
    """

    model_version = "popular-1"

    def __init__(self, items: ItemTable | None = None, settings: FallbackSettings | None = None) -> None:
        self.settings = settings or FallbackSettings()
        self.items = items if items is not None else ItemTable()
        self._users: OrderedDict[str, _Habits] = OrderedDict()
        self._counts = np.zeros((25, 1024))
        self._reference_ms: int | None = None
        self._clusters: dict[str, ClusterUpdate] = {}
        self._order: dict[int, npt.NDArray[np.int64]] = {}
        self._learned = 0

    @property
    def item_ids(self) -> list[str]:
        """The items by row."""
        return self.items.item_ids

    def observe(self, events: Sequence[BehaviorEvent]) -> None:
        """Count each event for its user, its hour and everybody."""
        for event in events:
            row = self._touch(event)
            weight = self._weight(event.event_time_ms)
            self._counts[24, row] += weight
            self._counts[_hour(event.event_time_ms), row] += weight
            self._remember(event, row, weight)
        self._learned += len(events)
        if self._learned >= 500:
            self._learned = 0
            self._order.clear()

    def upsert_items(self, items: Sequence[Item]) -> None:
        """Admit or change catalogue items."""
        self.items.upsert(items)
        self._reserve()

    def apply_patterns(self, patterns: Sequence[Pattern]) -> set[str]:
        """Keep the live clusters; the users whose last place lies in or near a changed one."""
        changed = []
        for pattern in patterns:
            if isinstance(pattern, ClusterUpdate) and self._newer(pattern):
                if pattern.change in ("died", "merged"):
                    self._clusters.pop(pattern.cluster_id, None)
                else:
                    self._clusters[pattern.cluster_id] = pattern
                    changed.append(pattern)
        return self._near(changed) if changed else set()

    def rank(self, queries: Sequence[Query]) -> list[Ranking]:
        """One ranking per query; ``fallback`` names the stage that its first item comes from, None if it is personal."""
        return [self._rank(query) for query in queries]

    def state(self) -> dict[str, object]:
        """Counts, habits and items as arrays and plain values; the users' counts lie one user after the other."""
        habits = list(self._users.values())
        kept = [len(each.counts) for each in habits]
        return {
            "item_ids": list(self.items.item_ids),
            "counts": self._counts[:, : len(self.items)],
            "reference_ms": self._reference_ms if self._reference_ms is not None else -1,
            "users": list(self._users),
            "kept": np.array(kept, np.int64),
            "rows": np.fromiter((row for each in habits for row in each.counts), np.int64, sum(kept)),
            "weights": np.fromiter((w for each in habits for w in each.counts.values()), np.float64, sum(kept)),
            "places": np.array([(_nan_if(each.lat), _nan_if(each.lon)) for each in habits]).reshape(-1, 2),
            "times_ms": np.array([each.time_ms for each in habits], np.int64),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave; ValueError if it is not such a state."""
        _check_state(state)
        self.items.touch(state["item_ids"])
        self._reserve()
        rows = np.array([self.items.row(item_id) for item_id in state["item_ids"]], np.int64)
        self._counts[:] = 0.0
        self._counts[:, rows] = state["counts"]
        self._reference_ms = state["reference_ms"] if state["reference_ms"] >= 0 else None
        self._users = OrderedDict()
        ends = np.cumsum(state["kept"])
        own_rows, weights = rows[state["rows"]].tolist(), state["weights"].tolist()
        for user, end, kept, (lat, lon), time_ms in zip(
            state["users"], ends.tolist(), state["kept"].tolist(), state["places"].tolist(), state["times_ms"].tolist()
        ):
            habits = self._users[user] = _Habits()
            habits.counts = dict(zip(own_rows[end - kept : end], weights[end - kept : end]))
            if lat == lat:
                habits.lat, habits.lon = lat, lon
            habits.time_ms = time_ms
        self._order.clear()

    def _touch(self, event: BehaviorEvent) -> int:
        row = self.items.row(event.item_id)
        if row is None:
            self.items.touch([event.item_id])
            self._reserve()
            self._order.clear()
            row = len(self.items) - 1
        if event.lat is not None and event.lon is not None:
            self.items.locate(event.item_id, event.lat, event.lon)
        return row

    def _reserve(self) -> None:
        if len(self.items) > self._counts.shape[1]:
            wider = np.zeros((25, max(2 * self._counts.shape[1], len(self.items))))
            wider[:, : self._counts.shape[1]] = self._counts
            self._counts = wider

    def _weight(self, time_ms: int) -> float:
        """Forward decay: later events weigh more, which orders as if earlier ones had faded; rescaled before it overflows."""
        if self._reference_ms is None:
            self._reference_ms = time_ms
        halvings = (time_ms - self._reference_ms) / (1000 * self.settings.half_life_s)
        if halvings > 100:
            factor = 2.0**-halvings
            self._counts *= factor
            for habits in self._users.values():
                habits.counts = {row: weight * factor for row, weight in habits.counts.items()}
            self._reference_ms, halvings = time_ms, 0.0
        return 2.0 ** max(halvings, -100.0)

    def _remember(self, event: BehaviorEvent, row: int, weight: float) -> None:
        habits = self._users.get(event.user_id)
        if habits is None:
            habits = self._users[event.user_id] = _Habits()
            if len(self._users) > self.settings.max_users:
                self._users.popitem(last=False)
        else:
            self._users.move_to_end(event.user_id)
        habits.counts[row] = habits.counts.get(row, 0.0) + weight
        if len(habits.counts) > self.settings.items_per_user:
            del habits.counts[min(habits.counts, key=habits.counts.__getitem__)]
        place = self.items.place(event.item_id) if event.lat is None else (event.lat, event.lon)
        if place is not None:
            habits.lat, habits.lon = place
        habits.time_ms = max(habits.time_ms, event.event_time_ms)

    def _newer(self, pattern: ClusterUpdate) -> bool:
        held = self._clusters.get(pattern.cluster_id)
        return held is None or held.version < pattern.version

    def _near(self, clusters: list[ClusterUpdate]) -> set[str]:
        placed = [(user, habits) for user, habits in self._users.items() if habits.lat is not None]
        if not placed:
            return set()
        lats = np.array([habits.lat for _, habits in placed], np.float64)
        lons = np.array([habits.lon for _, habits in placed], np.float64)
        near = np.zeros(len(placed), np.bool_)
        for cluster in clusters:
            near |= distance_m(cluster.lat, cluster.lon, lats, lons) <= cluster.radius_m + self.settings.near_m
        return {placed[index][0] for index in np.flatnonzero(near)}

    def _rank(self, query: Query) -> Ranking:
        mask = self._mask(query)
        chosen: dict[int, RankedItem] = {}
        for stage, rows, weights in self._stages(query):
            total = float(weights.sum()) or 1.0
            for row, weight in zip(rows.tolist(), weights.tolist()):
                if row not in chosen and row < len(mask) and mask[row]:
                    share = STAGE_MASS[stage] * weight / total
                    chosen[row] = RankedItem(
                        item_id=self.items.item_ids[row], row=row, probability=share, experts=(stage,), shares=ONE_SHARE
                    )
                    if len(chosen) == query.k:
                        return self._ranking(query, chosen)
        return self._ranking(query, chosen)

    def _ranking(self, query: Query, chosen: dict[int, RankedItem]) -> Ranking:
        items = list(chosen.values())
        stage = items[0].experts[0] if items else "catalogue"
        return Ranking(
            user_id=query.user_id,
            items=items,
            explore_probability=0.0 if stage == "personal" else 1.0,
            fallback=None if stage == "personal" else stage,
        )

    def _mask(self, query: Query) -> Mask:
        available = self.items.available
        if query.allowed is None:
            return available
        rows = min(len(available), len(query.allowed))
        return available[:rows] & query.allowed[:rows]

    def _stages(self, query: Query) -> Iterator[tuple[str, npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
        habits = self._users.get(query.user_id)
        if habits is not None:
            own = sorted(habits.counts.items(), key=lambda pair: -pair[1])
            yield "personal", np.array([row for row, _ in own], np.int64), np.array([weight for _, weight in own])
        yield "cluster", *self._crowd(query, habits)
        time_ms = query.now_ms if query.now_ms is not None else (habits.time_ms if habits is not None else None)
        if time_ms is not None:
            yield "time_of_day", *self._top(_hour(time_ms))
        yield "popular", *self._top(24)
        rows = np.flatnonzero(self._mask(query))
        yield "catalogue", rows, np.ones(len(rows))

    def _crowd(self, query: Query, habits: _Habits | None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        lat, lon = query.lat, query.lon
        if lat is None and habits is not None:
            lat, lon = habits.lat, habits.lon
        clusters = list(self._clusters.values())
        if lat is None or lon is None or not clusters:
            return np.empty(0, np.int64), np.empty(0)
        away = distance_m(
            lat, lon, np.array([each.lat for each in clusters]), np.array([each.lon for each in clusters])
        )
        nearest = int(np.argmin(away))
        cluster = clusters[nearest]
        if away[nearest] > cluster.radius_m + self.settings.near_m:
            return np.empty(0, np.int64), np.empty(0)
        listed = [(row, each.count) for each in cluster.top_items if (row := self.items.row(each.name)) is not None]
        return np.array([row for row, _ in listed], np.int64), np.array([count for _, count in listed], np.float64)

    def _top(self, hour: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        counts = self._counts[hour, : len(self.items)]
        order = self._order.get(hour)
        if order is None:
            kept = min(self.settings.cached_top, len(counts))
            best = np.argpartition(-counts, kept - 1)[:kept] if kept else np.empty(0, np.int64)
            best = best[np.lexsort((best, -counts[best]))]
            order = self._order[hour] = best[counts[best] > 0].astype(np.int64)
        return order, counts[order]


def _hour(time_ms: int) -> int:
    return (time_ms // HOUR_MS) % 24


def _nan_if(degrees: float | None) -> float:
    return math.nan if degrees is None else degrees


def _check_state(state: dict[str, Any]) -> None:
    """Raise ValueError naming the first part that is missing, of another shape, or not finite."""
    names = ("item_ids", "counts", "reference_ms", "users", "kept", "rows", "weights", "places", "times_ms")
    missing = [name for name in names if state.get(name) is None]
    if missing:
        raise ValueError(f"not a state of the fallback ranker: {missing[0]} is missing")
    items, users, held = len(state["item_ids"]), len(state["users"]), int(state["kept"].sum())
    shapes = {
        "counts": (25, items), "kept": (users,), "rows": (held,), "weights": (held,), "places": (users, 2), "times_ms": (users,),
    }  # fmt: skip
    for name, shape in shapes.items():
        if state[name].shape != shape:
            raise ValueError(f"{name} of the fallback ranker must be of shape {shape}, not {state[name].shape}")
    if not (np.isfinite(state["counts"]).all() and np.isfinite(state["weights"]).all()):
        raise ValueError("counts and weights of the fallback ranker must be finite")
