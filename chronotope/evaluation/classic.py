"""The classic reference: one feature model of river ranks a shortlist of candidates, learned online against sampled ones."""

from abc import abstractmethod
from collections import defaultdict

import numpy as np

from chronotope.evaluation.baselines import DAY_S, Counts, Floats, Ints, Markov
from chronotope.evaluation.stream import Stream
from processors.profile import FactorisationMachine, LogisticRegression
from processors.profile.cleaning import Columns
from processors.profile.feature_models import FeatureModel

OWN, POPULAR, FOLLOWING = 20, 5, 5
SAMPLED = 4
RECOUNT_EVERY = 500


class FeatureRanker(Markov):
    """Ranks the user's latest items, what followed the last one and what is popular by P(chosen) of a feature model.

    It learns from every event: the item that came against ``SAMPLED`` candidates that did not. Everything beyond the
    candidates ties by popularity behind them.
    """

    def __init__(self, stream: Stream, timed: bool = False) -> None:
        super().__init__(stream)
        self.timed = timed
        self.model = self.build()
        self.own_after = Counts()
        self._last_at: dict[int, dict[int, int]] = defaultdict(dict)
        self._kind = np.zeros(stream.items, np.int64)
        self._lat, self._lon = np.full(stream.items, np.nan), np.full(stream.items, np.nan)
        self._popular: list[int] = []
        self._random = np.random.default_rng(0)

    @abstractmethod
    def build(self) -> FeatureModel:
        """The untrained model."""

    def scores(self, last: int, target: int | None) -> Floats:
        """1 + P(chosen) of the candidates, then popularity."""
        scores = self.prior()
        candidates = self._candidates(last)
        scores[candidates] = 1.0 + self.model.predict(self._columns(last, target, candidates))
        return scores

    def absorb(self, at: int) -> None:
        """Learn the choice, then remember the event."""
        s, item, user = self.stream, int(self.stream.item[at]), int(self.stream.user[at])
        before = int(s.previous[at])
        if before >= 0 and self.popularity[item] > 0:
            others = self._candidates(before)
            others = others[others != item]
            drawn = self._random.choice(others, min(SAMPLED, len(others)), replace=False)
            chosen = np.r_[item, drawn]
            columns = self._columns(before, at if self.timed else None, chosen)
            self.model.update(columns, np.r_[1.0, np.zeros(len(drawn))])
        super().absorb(at)
        if before >= 0:
            self.own_after.add(user * s.items + int(s.item[before]), item)
        latest = self._last_at[user]
        latest.pop(item, None)
        latest[item] = at  # the order of the keys is that of the latest visits
        self._kind[item], self._lat[item], self._lon[item] = s.category[at], s.lat[at], s.lon[at]
        if at % RECOUNT_EVERY == 0:
            self._popular = np.argsort(-self.popularity, kind="stable")[:POPULAR].tolist()

    def _candidates(self, last: int) -> Ints:
        s = self.stream
        own = list(self._last_at[int(s.user[last])])[-OWN:]
        after = self.after.rows.get(int(s.item[last]), {})
        following = sorted(after, key=lambda item: -after[item])[:FOLLOWING]
        found = list(dict.fromkeys([*own, *following, *self._popular]))
        return np.array([item for item in found if self.popularity[item] > 0], np.int64)

    def _columns(self, last: int, target: int | None, items: Ints) -> Columns:
        s, user, here = self.stream, int(self.stream.user[last]), int(self.stream.item[last])
        known = last if target is None else target
        own, after = self.own.rows.get(user, {}), self.after.rows.get(here, {})
        own_after = self.own_after.rows.get(user * s.items + here, {})
        latest = self._last_at[user]
        ids = items.tolist()
        idle_s = [s.time_s[known] - s.time_s[latest[item]] if item in latest else 1e9 for item in ids]
        km = np.hypot((self._lat[items] - s.lat[last]) * 110.6, (self._lon[items] - s.lon[last]) * 85.0)
        hour = str(int(s.week_h[known] % 24))
        return {
            "own": np.log1p([own.get(item, 0.0) for item in ids]),
            "own_after": np.log1p([own_after.get(item, 0.0) for item in ids]),
            "after": np.log1p([after.get(item, 0.0) for item in ids]),
            "popularity": np.log1p(self.popularity[items]),
            "idle_days": np.log1p(np.array(idle_s) / DAY_S),
            "log_km": np.log1p(np.nan_to_num(km) / 0.3),
            "same": (items == here).astype(float),
            "hour_kind": np.array([f"{hour}:{kind}" for kind in self._kind[items].tolist()], object),
            **self.words(user, hour, items),
        }

    def words(self, user: int, hour: str, items: Ints) -> Columns:
        """More columns, for a model that can cross them."""
        return {}


class LogisticRanker(FeatureRanker):
    """Logistic regression on counts, transitions, recency, distance, and hour by category."""

    def build(self) -> FeatureModel:
        """See FeatureRanker."""
        return LogisticRegression(learning_rate=0.1)


class FactorisationRanker(FeatureRanker):
    """A factorisation machine on the same and on the ids of user, item and hour, which it crosses."""

    def build(self) -> FeatureModel:
        """See FeatureRanker."""
        return FactorisationMachine(factors=8, learning_rate=0.05)

    def words(self, user: int, hour: str, items: Ints) -> Columns:
        """Ids."""
        ids = np.array([f"i{item}" for item in items.tolist()], object)
        return {"user": np.full(len(ids), f"u{user}", object), "item": ids, "hour": np.full(len(ids), hour, object)}


CLASSIC: dict[str, type[FeatureRanker]] = {
    "logistic_regression": LogisticRanker,
    "factorisation_machine": FactorisationRanker,
}
