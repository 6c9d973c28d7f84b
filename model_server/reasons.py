"""Reasons in words: which expert gave how much of a score, said so that the user understands it."""

import itertools
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from model_server.distances_in_words import UNKNOWN, from_last, metres, steps_of
from model_server.items import Floats, ItemTable, distance_m
from model_server.ranking import RankedItem
from model_server.strongest import strongest
from schemas.patterns import ClusterUpdate, Pattern, PeriodicityUpdate
from schemas.recommendations import Reason

WORDS = {
    "habit": "you come here often",
    "personal": "you come here often",
    "recency": "you have been here lately",
    "hour": "you come here at about this hour",
    "weekday": "you come here on this day of the week",
    "interval": "it is about time for your next visit",
    "repeat": "you were here just now",
    "transition": "this is where you go next",
    "covisit": "people who go where you go also come here",
    "neighbours": "people with your habits come here",
    "distance": "it is close to where you were last",
    "popularity": "many people come here",
    "popular": "many people come here",
    "trend": "it has been gaining visitors lately",
    "home": "it is close to where you spend most of your time",
    "today": "it fits what you have done today",
    "category": "it is of a kind you like",
    "content": "it resembles what you have chosen before",
    "sequence": "it fits the course of your latest steps",
    "crowd": "people are gathering here",
    "cluster": "people are gathering here",
    "period": "you come here regularly",
    "forecast": "many visitors are expected soon",
    "profile": "it fits your profile",
    "time_of_day": "many people come here at this hour",
    "catalogue": "it is new to everybody here",
}
FROM_LAST = {
    "transition": "this is where you go next from ",
    "covisit": "people come here who also go to ",
}
DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAY_PARTS = ((5, "nights"), (12, "mornings"), (17, "afternoons"), (22, "evenings"), (24, "nights"))
DAY_S = 86_400.0
WHOLE = 1000  # parts: weights are told to the third decimal
HERE = "it is where you were last"
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
        # By expert and weight, as far as they were ever given: most reasons are alike.
        self._usual: defaultdict[str, list[Reason | None]] = defaultdict(lambda: [None] * (WHOLE + 1))
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
        told = zip(*self._strongest([item for each in shown for item in each.items]), self._steps(shown))
        telling = self._telling()
        return [self._reasons(each, told, telling) for each in shown]

    def _reasons(
        self, shown: Shown, told: Iterator[tuple[list[int], list[int], int]], telling: frozenset[str]
    ) -> list[list[Reason]]:
        """The reasons of one list; ``told`` goes on by its items: their strongest experts, and the step of their distance."""
        reasons = list[list[Reason]]()
        experts, usual = tuple[str, ...](), list[list[Reason | None] | None]()
        for item, (columns, parts, step) in zip(shown.items, told):
            if item.experts is not experts:
                experts = item.experts
                usual = [None if expert in telling else self._usual[expert] for expert in experts]
            of_item = list[Reason]()
            for column, part in zip(columns, parts):
                if part:
                    kept = usual[column]
                    reason = None if kept is None else kept[part]
                    if reason is None:
                        expert = experts[column]
                        own = None if kept is not None else self._own_words(expert, shown, item.item_id, step)
                        reason = self._usual_reason(expert, part) if own is None else _reason(expert, part, own)
                    of_item.append(reason)
            reasons.append(of_item)
        return reasons

    def _strongest(self, items: Sequence[RankedItem]) -> tuple[list[list[int]], list[list[int]]]:
        """Of each item the columns of the experts that gave most, and how many parts of ``WHOLE`` each gave."""
        columns: list[list[int]] = []
        parts: list[list[int]] = []
        for experts, some in itertools.groupby(items, _EXPERTS):
            shares = [item.shares for item in some]
            given: Floats = np.concatenate(shares, dtype=np.float64).reshape(len(shares), len(experts))
            order, part = strongest(given, self._most)
            columns += order.tolist()
            parts += np.rint(part * WHOLE).astype(np.int64).tolist()
        return columns, parts

    def _steps(self, shown: Sequence[Shown]) -> list[int]:
        """The step of each item's distance from the last one of its list, -1 where that is not known."""
        places = self._items.places
        items = places([item.item_id for each in shown for item in each.items])
        lasts = places([each.last_item for each in shown])
        numbers = [len(each.items) for each in shown]
        lat, lon = (np.repeat(column, numbers) for column in lasts)
        return steps_of(distance_m(lat, lon, *items))

    def _usual_reason(self, expert: str, part: int) -> Reason:
        """What an expert that has nothing of its own to tell gives as a reason, the same for everybody and kept."""
        kept = self._usual[expert][part]
        if kept is None:
            text = WORDS.get(expert) or f"the {expert} expert favours it"
            kept = self._usual[expert][part] = _reason(expert, part, text)
        return kept

    def _telling(self) -> frozenset[str]:
        """The experts that may have something of their own to tell of an item."""
        crowds, periods = CROWD_EXPERTS if self._clusters else (), PERIOD_EXPERTS if self._periods else ()
        return frozenset({"distance", *FROM_LAST, *crowds, *periods})

    def _own_words(self, expert: str, shown: Shown, item_id: str, step: int) -> str | None:
        if expert == "distance":
            return None if step == UNKNOWN else HERE if item_id == shown.last_item else from_last(step)
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


def _reason(expert: str, part: int, text: str) -> Reason:
    return Reason(pattern=expert, weight=part / WHOLE, text=text)


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
