"""Reasons in words: which expert gave how much of a score, said so that the user understands it."""

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from model_server.distances_in_words import UNKNOWN, from_last, metres, steps_of
from model_server.items import Floats, ItemTable, distance_m
from model_server.ranking import RankedItem
from model_server.strongest import strongest
from model_server.usual_reasons import WHOLE, UsualReasons, reason_of
from schemas.patterns import ClusterUpdate, Pattern, PeriodicityUpdate
from schemas.recommendations import Reason

FROM_LAST = {
    "transition": "this is where you go next from ",
    "covisit": "people come here who also go to ",
}
DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAY_PARTS = ((5, "nights"), (12, "mornings"), (17, "afternoons"), (22, "evenings"), (24, "nights"))
DAY_S = 86_400.0
MOST_DISTANCES = 100_000
HERE, HERE_STEP = "it is where you were last", -2
CROWD_EXPERTS = frozenset({"crowd", "cluster"})
PERIOD_EXPERTS = frozenset({"period", "weekday", "interval", "hour"})


_EXPERTS = attrgetter("experts")


class Shown(NamedTuple):
    """What a user is shown, and the item that the user had last ("": none)."""

    user_id: str
    last_item: str
    items: Sequence[RankedItem]


class ReasonWriter:
    """Turns a ranked item's shares into the few reasons that mattered, with the patterns' own facts where there are any.

    It keeps the live crowds and the users' periods at items, the latest ``max_periods`` of them.
    """

    def __init__(self, items: ItemTable, reasons_per_item: int, max_periods: int = 1_000_000) -> None:
        self._items, self._most, self._max_periods = items, reasons_per_item, max_periods
        self._clusters: dict[str, ClusterUpdate] = {}
        self._crowds: tuple[list[ClusterUpdate], Floats, Floats] | None = None  # as columns, until one of them changes
        self._usual: dict[tuple[str, ...], UsualReasons] = {}
        self._distances: dict[tuple[int, int], Reason] = {}  # by step and parts
        self._near_crowds: dict[str, str | None] = {}  # by item, within one call: many lists name the same few
        self._periods: OrderedDict[tuple[str, str], str] = OrderedDict()

    def note(self, patterns: Sequence[Pattern]) -> None:
        """Remember what the words need of these patterns."""
        for pattern in patterns:
            if isinstance(pattern, ClusterUpdate):
                self._note_cluster(pattern)
            elif isinstance(pattern, PeriodicityUpdate) and pattern.user_id is not None and pattern.item_id is not None:
                self._note_period(pattern, pattern.user_id, pattern.item_id)

    def write(self, shown: Sequence[Shown]) -> list[list[list[Reason]]]:
        """Of each list and each of its items the strongest positive shares as reasons, strongest first.

        Their weights are shares of the positive evidence; what rounds to none of it is no reason. The lists are taken
        together, since a few operations on all of them cost less than a few on each.
        """
        self._near_crowds.clear()
        owners = [each for each in shown for _ in each.items]
        items = [item for each in shown for item in each.items]
        reasons, steps = list[list[Reason]](), self._steps(shown)
        for experts, alike in itertools.groupby(items, _EXPERTS):
            some, start = list(alike), len(reasons)
            end = start + len(some)
            reasons += self._reasons(experts, some, owners[start:end], steps[start:end])
        ends = list(itertools.accumulate(len(each.items) for each in shown))
        return [reasons[end - len(each.items) : end] for each, end in zip(shown, ends)]

    def _reasons(
        self, experts: tuple[str, ...], items: Sequence[RankedItem], owners: Sequence[Shown], steps: Sequence[int]
    ) -> list[list[Reason]]:
        """The reasons of items of the same ``experts``: the list that each is shown in, and the step of its distance there."""
        given: Floats = np.concatenate([item.shares for item in items], dtype=np.float64).reshape(len(items), -1)
        columns, part = strongest(given, self._most)
        parts = np.rint(part * WHOLE).astype(np.int64)
        usual = self._usual.get(experts)
        if usual is None:
            usual = self._usual[experts] = UsualReasons(experts)
        found = usual.of(columns, parts)
        telling = self._telling()
        at, rank = np.nonzero(np.array([expert in telling for expert in experts])[columns] & (parts > 0))
        for n, k, column, number in zip(*(each.tolist() for each in (at, rank, columns[at, rank], parts[at, rank]))):
            own = self._own_reason(experts[column], number, owners[n], items[n].item_id, steps[n])
            if own is not None:
                found[n][k] = own
        return [[reason for reason in of_item if reason is not None] for of_item in found]

    def _steps(self, shown: Sequence[Shown]) -> list[int]:
        """The step of each item's distance from the last one of its list, -1 where that is not known."""
        places = self._items.places
        items = places([item.item_id for each in shown for item in each.items])
        lasts = places([each.last_item for each in shown])
        numbers = [len(each.items) for each in shown]
        lat, lon = (np.repeat(column, numbers) for column in lasts)
        return steps_of(distance_m(lat, lon, *items))

    def _telling(self) -> frozenset[str]:
        """The experts that may have something of their own to tell of an item."""
        crowds, periods = CROWD_EXPERTS if self._clusters else (), PERIOD_EXPERTS if self._periods else ()
        return frozenset({"distance", *FROM_LAST, *crowds, *periods})

    def _own_reason(self, expert: str, part: int, shown: Shown, item_id: str, step: int) -> Reason | None:
        """A reason in words of its own, None for the usual ones."""
        if expert == "distance":
            return None if step == UNKNOWN else self._distance(HERE_STEP if item_id == shown.last_item else step, part)
        own = self._own_words(expert, shown, item_id)
        return None if own is None else reason_of(expert, part, own)

    def _distance(self, step: int, part: int) -> Reason:
        kept = self._distances.get((step, part))
        if kept is None:
            if len(self._distances) >= MOST_DISTANCES:
                self._distances.clear()
            text = HERE if step == HERE_STEP else from_last(step)
            kept = self._distances[step, part] = reason_of("distance", part, text)
        return kept

    def _own_words(self, expert: str, shown: Shown, item_id: str) -> str | None:
        if expert in FROM_LAST:
            return FROM_LAST[expert] + shown.last_item if shown.last_item else None
        if expert in PERIOD_EXPERTS:
            return self._periods.get((shown.user_id, item_id))
        if item_id not in self._near_crowds:
            self._near_crowds[item_id] = self._nearest_crowd(item_id)
        return self._near_crowds[item_id]

    def _nearest_crowd(self, item_id: str) -> str | None:
        place = self._items.place(item_id)
        if place is None:
            return None
        if self._crowds is None:
            live = list(self._clusters.values())
            self._crowds = live, np.array([each.lat for each in live]), np.array([each.lon for each in live])
        crowds, lats, lons = self._crowds
        away = distance_m(*place, lats, lons)
        nearest = int(np.argmin(away))
        crowd, away_m = crowds[nearest], away[nearest]
        growing = "is forming" if crowd.change in ("born", "grown") else "has gathered"
        if away_m <= crowd.radius_m:
            return f"a crowd of {crowd.distinct_users} {growing} here"
        return f"a crowd {growing} {metres(*steps_of(away_m[None]))} away"

    def _note_cluster(self, cluster: ClusterUpdate) -> None:
        self._crowds = None
        held = self._clusters.get(cluster.cluster_id)
        if cluster.change in ("died", "merged"):
            self._clusters.pop(cluster.cluster_id, None)
        elif held is None or held.version < cluster.version:
            self._clusters[cluster.cluster_id] = cluster

    def _note_period(self, pattern: PeriodicityUpdate, user_id: str, item_id: str) -> None:
        key = (user_id, item_id)
        self._periods.pop(key, None)
        if pattern.periods:
            place = self._items.place(item_id)
            strongest = pattern.periods[0]
            self._periods[key] = visits_in_words(strongest.period_s, strongest.next_due_ms, place[1] if place else None)
            if len(self._periods) > self._max_periods:
                self._periods.popitem(last=False)


def visits_in_words(period_s: float, next_due_ms: int, lon: float | None = None) -> str:
    """A period as people say it; the local time is the sun's at longitude ``lon`` (degrees), UTC if that is unknown.

    >>> visits_in_words(7 * DAY_S, 1333738800000)
    'you come here on Friday evenings'
    >>> visits_in_words(DAY_S, 1333738800000, lon=-74.0)
    'you come here in the afternoon'
    >>> visits_in_words(3 * DAY_S, 1333738800000)
    'you come here about every 3 days'
    """
    local = datetime.fromtimestamp(next_due_ms / 1000, UTC) + timedelta(hours=round(lon / 15) if lon is not None else 0)
    part = next(name for until, name in DAY_PARTS if local.hour < until)
    if abs(period_s - 7 * DAY_S) < 0.1 * DAY_S:
        return f"you come here on {DAY_NAMES[local.weekday()]} {part}"
    if abs(period_s - DAY_S) < 0.1 * DAY_S:
        return "you come here at night" if part == "nights" else f"you come here in the {part[:-1]}"
    if period_s < 2 * DAY_S:
        return f"you come here about every {round(period_s / 3600)} hours"
    return f"you come here about every {round(period_s / DAY_S)} days"
