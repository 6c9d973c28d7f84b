"""The classic strategies that the fusion is measured against; each learns from an event only after it was scored.

Every one answers for a user who has a past, with scores over all items touched so far. ``at`` is the index of an event of the
stream that carries what may be known: the user's last event for a standing answer (``now`` None), else the target's time.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from typing import Protocol

import numpy as np
import numpy.typing as npt

from chronotope.evaluation.ranking import Standing
from chronotope.evaluation.stream import Stream

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
DAY_S = 86_400.0
HALF_LIFE_DAYS = 60.0


class Strategy(Protocol):
    """What is evaluated: answers for the user of an event, then learns from the event."""

    def recommend(self, last: int, target: int | None) -> Standing:
        """A ranking for the user of event ``last``, as of it; of event ``target`` only the time may be read, None: nothing."""

    def learn(self, at: int) -> None:
        """Take in event ``at``; events come in order."""


class Counts:
    """Sparse counts per key: {key: {item: count}} with totals."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[int, float]] = defaultdict(dict)
        self.total: dict[int, float] = defaultdict(float)

    def add(self, key: int, item: int, weight: float = 1.0) -> None:
        """Count an item under a key."""
        row = self.rows[key]
        row[item] = row.get(item, 0.0) + weight
        self.total[key] += weight

    def spread(self, key: int, onto: Floats, weight: float = 1.0) -> None:
        """Add ``weight`` times the counts of a key onto a dense vector."""
        row = self.rows.get(key)
        if row:
            onto[np.fromiter(row.keys(), np.int64, len(row))] += weight * np.fromiter(row.values(), float, len(row))


class Baseline(ABC):
    """What all of them share: the stream, and how often each item was touched."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.popularity = np.zeros(stream.items)
        self.touched: list[int] = []

    def recommend(self, last: int, target: int | None) -> Standing:
        """See Strategy."""
        known = np.array(self.touched, np.int64)
        return Standing.of(known, self.scores(last, target)[known].astype(np.float32))

    def learn(self, at: int) -> None:
        """See Strategy."""
        item = int(self.stream.item[at])
        if self.popularity[item] == 0:
            self.touched.append(item)
        self.absorb(at)
        self.popularity[item] += 1

    @abstractmethod
    def scores(self, last: int, target: int | None) -> Floats:
        """A score of every item of the stream; those nobody touched are not read."""

    def absorb(self, at: int) -> None:  # noqa: B027 - popularity alone is something to learn
        """Learn from an event; ``popularity`` does not hold it yet."""

    def prior(self) -> Floats:
        """Popularity, scaled to break ties only."""
        return self.popularity / (self.popularity.sum() + 1.0) * 1e-3


class Popularity(Baseline):
    """The most touched items, the same for everybody."""

    def scores(self, last: int, target: int | None) -> Floats:
        """Counts."""
        return self.popularity


class Counter(Baseline):
    """The user's own most touched items, then the popular ones."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self.own = Counts()

    def scores(self, last: int, target: int | None) -> Floats:
        """Own counts; popularity breaks ties."""
        scores = self.prior()
        self.own.spread(int(self.stream.user[last]), scores)
        return scores

    def absorb(self, at: int) -> None:
        """Count."""
        self.own.add(int(self.stream.user[at]), int(self.stream.item[at]))


class Markov(Counter):
    """What everybody did after the same item; own counts, then popularity, break ties."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self.after = Counts()

    def scores(self, last: int, target: int | None) -> Floats:
        """P(next | last item) of the population."""
        scores = super().scores(last, target) * 1e-3
        item = int(self.stream.item[last])
        self.after.spread(item, scores, 1.0 / max(self.after.total[item], 1.0))
        return scores

    def absorb(self, at: int) -> None:
        """Count the transition from the user's event before."""
        super().absorb(at)
        before = int(self.stream.previous[at])
        if before >= 0:
            self.after.add(int(self.stream.item[before]), int(self.stream.item[at]))


class BackoffMarkov(Markov):
    """Witten-Bell back-off: the user's own second and first order transitions, own counts, the population's, popularity."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self.own_after = Counts()
        self.own_after_two = Counts()

    def scores(self, last: int, target: int | None) -> Floats:
        """The interpolated probability."""
        s = self.stream
        user, item, before = int(s.user[last]), int(s.item[last]), int(s.previous[last])
        scores = self.popularity / max(self.popularity.sum(), 1.0)
        levels = [(self.after, item), (self.own, user), (self.own_after, user * s.items + item)]
        if before >= 0:
            levels.append((self.own_after_two, (user * s.items + item) * s.items + int(s.item[before])))
        for counts, key in levels:
            kinds, total = len(counts.rows.get(key, ())), counts.total.get(key, 0.0)
            if kinds:
                scores = scores * (kinds / (kinds + total))
                counts.spread(key, scores, 1.0 / (kinds + total))
        return scores

    def absorb(self, at: int) -> None:
        """Count on every level."""
        super().absorb(at)
        s = self.stream
        before, user, item = int(s.previous[at]), int(s.user[at]), int(s.item[at])
        if before >= 0:
            key = user * s.items + int(s.item[before])
            self.own_after.add(key, item)
            before2 = int(s.previous[before])
            if before2 >= 0:
                self.own_after_two.add(key * s.items + int(s.item[before2]), item)


class Periodic(Baseline):
    """The user's own items, weighted by closeness in hour of day and kind of day, and decayed.

    A standing answer is for the hours that followed the user's earlier events at this hour: it compares the hour of the last
    event with the hours of the events before each visit.
    """

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self.past: dict[int, list[int]] = defaultdict(list)

    def scores(self, last: int, target: int | None) -> Floats:
        """Sums of Gaussian kernels (1.5 h) over the user's visits."""
        s = self.stream
        visits = np.array(self.past[int(s.user[last])], np.int64)
        if target is None:
            reference = s.previous[visits]
            present = s.week_h[last]
        else:
            reference, present = visits, s.week_h[target]
        there = reference >= 0
        hours = s.week_h[reference]
        gap = np.abs(hours - present) % 24
        gap = np.minimum(gap, 24 - gap)
        kernel = np.exp(-0.5 * (gap / 1.5) ** 2) * np.where((hours >= 120) == (present >= 120), 1.0, 0.4) * there + 0.02
        kernel *= np.exp2(-(s.time_s[last] - s.time_s[visits]) / DAY_S / HALF_LIFE_DAYS)
        scores = self.prior()
        np.add.at(scores, s.item[visits], kernel)
        return scores

    def absorb(self, at: int) -> None:
        """Remember."""
        self.past[int(self.stream.user[at])].append(at)


class Spatial(Baseline):
    """Popularity that falls with the distance from the last place, plus the visits of everybody around it (its cluster)."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self.x = np.full(stream.items, np.nan)
        self.y = np.full(stream.items, np.nan)

    def scores(self, last: int, target: int | None) -> Floats:
        """Visits times 1 / (1 + km / 0.3)^1.5; without places, popularity."""
        x, y = self._plane(last)
        if np.isnan(x):
            return self.popularity
        km = np.hypot(self.x - x, self.y - y)
        return self.popularity * np.nan_to_num(1.0 / (1.0 + km / 0.3) ** 1.5, nan=1e-3)

    def absorb(self, at: int) -> None:
        """Learn where the item is."""
        item = self.stream.item[at]
        if np.isnan(self.x[item]):
            self.x[item], self.y[item] = self._plane(at)

    def _plane(self, at: int) -> tuple[float, float]:
        lat, lon = float(self.stream.lat[at]), float(self.stream.lon[at])
        return lon * np.cos(np.radians(lat)) * 111.32, lat * 110.57


class ItemCF(Baseline):
    """Item-based collaborative filtering: items of the same people, cosine, from the user's latest 40 items."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self.together = Counts()
        self.visitors = np.zeros(stream.items)
        self.items_of: dict[int, dict[int, int]] = defaultdict(dict)

    def scores(self, last: int, target: int | None) -> Floats:
        """Summed cosine similarities to the user's items, the latest first in weight."""
        scores = np.zeros(self.stream.items)
        latest = sorted(self.items_of[int(self.stream.user[last])].items(), key=lambda pair: -pair[1])[:40]
        for place, (item, _) in enumerate(latest):
            self.together.spread(item, scores, 0.95**place / np.sqrt(self.visitors[item] + 3.0))
        return scores / np.sqrt(self.visitors + 3.0) + self.prior()

    def absorb(self, at: int) -> None:
        """Count a new pair of item and user with all earlier items of the user."""
        item, own = int(self.stream.item[at]), self.items_of[int(self.stream.user[at])]
        if item not in own:
            self.visitors[item] += 1
            for other in own:
                self.together.add(item, other)
                self.together.add(other, item)
        own[item] = at


class UserCF(Baseline):
    """User-based collaborative filtering: items of the 50 users with the most similar past, rare items counting more."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self.items_of: dict[int, set[int]] = defaultdict(set)
        self.users_of: dict[int, set[int]] = defaultdict(set)

    def scores(self, last: int, target: int | None) -> Floats:
        """Similarity-weighted items of the neighbours, the user among them."""
        user = int(self.stream.user[last])
        similar: dict[int, float] = defaultdict(float)
        for item in self.items_of[user]:
            visitors = self.users_of[item]
            if len(visitors) < 500:
                for other in visitors:
                    similar[other] += 1.0 / (len(visitors) + 2.0)
        scores = self.prior()
        nearest = sorted(similar.items(), key=lambda pair: -pair[1])[:50]
        for other, weight in nearest:
            items = self.items_of[other]
            scores[np.fromiter(items, np.int64, len(items))] += weight / np.sqrt(len(items) + 3.0)
        return scores

    def absorb(self, at: int) -> None:
        """Remember who touched what."""
        user, item = int(self.stream.user[at]), int(self.stream.item[at])
        self.items_of[user].add(item)
        self.users_of[item].add(user)


class Content(Baseline):
    """Items of the categories and with the words that the user's past has, decayed; popularity within."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self.kind = np.zeros(stream.items, np.int64)
        self.words: dict[str, int] = {}
        self.kinds_of: dict[int, dict[int, float]] = defaultdict(dict)
        self.described: dict[int, set[int]] = defaultdict(set)
        self.items_of_word: dict[int, list[int]] = defaultdict(list)

    def scores(self, last: int, target: int | None) -> Floats:
        """Taste for the item's category plus shared words, times the logarithm of popularity."""
        taste = np.zeros(self.stream.categories)
        kinds = self.kinds_of[int(self.stream.user[last])]
        if kinds:
            taste[np.fromiter(kinds.keys(), np.int64, len(kinds))] = np.fromiter(kinds.values(), float, len(kinds))
        scores = taste[self.kind]
        for word in self.described[int(self.stream.item[last])]:
            items = self.items_of_word[word]
            scores[items] += 1.0 / (len(items) + 5.0)
        return scores * np.log1p(self.popularity) + self.prior()

    def absorb(self, at: int) -> None:
        """Learn the item's description and the user's taste."""
        s, item = self.stream, int(self.stream.item[at])
        kinds = self.kinds_of[int(s.user[at])]
        self.kind[item] = s.category[at]
        for kind in kinds:
            kinds[kind] *= 0.97
        kinds[int(s.category[at])] = kinds.get(int(s.category[at]), 0.0) + 1.0
        if self.popularity[item] == 0:
            for word in set(s.text[at].lower().split()):
                code = self.words.setdefault(word, len(self.words))
                self.described[item].add(code)
                self.items_of_word[code].append(item)


BASELINES: dict[str, type[Baseline]] = {
    "popularity": Popularity, "counter": Counter, "markov": Markov, "backoff_markov": BackoffMarkov, "periodic": Periodic,
    "spatial": Spatial, "item_cf": ItemCF, "user_cf": UserCF, "content": Content,
}  # fmt: skip
