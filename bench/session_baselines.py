"""session-rec's simple baselines, written anew from their papers: AR, SR and V-SKNN on whole sessions.

AR and SR: Kamehkhosh, Jannach, Ludewig, "A comparison of frequent pattern techniques and a deep learning method for
session-based recommendation", RecTemp 2017. V-SKNN: Ludewig, Jannach, "Evaluation of session-based recommendation
algorithms", UMUAI 28, 2018. Parameters are the defaults of github.com/rn5l/session-rec.
"""

from __future__ import annotations

from collections import Counter, defaultdict

Session = tuple[float, list[int]]
"""Time of the last event, items in order."""


class AssociationRules:
    """Items that share a session, by how many pairs of events they share."""

    def __init__(self, keep: int = 20) -> None:
        self.keep = keep
        self.rules: dict[int, Counter[int]] = defaultdict(Counter)

    def fit(self, sessions: list[Session]) -> None:
        for _, items in sessions:
            for place, item in enumerate(items):
                for other in items[:place]:
                    self.rules[item][other] += 1
                    self.rules[other][item] += 1
        self.rules = {item: Counter(dict(found.most_common(self.keep))) for item, found in self.rules.items()}

    def scores(self, items: list[int]) -> dict[int, float]:
        return dict(self.rules.get(items[-1], {}))


class SequentialRules:
    """Items that follow within ``steps`` events, weighted by 1 / steps."""

    def __init__(self, steps: int = 10, keep: int = 20) -> None:
        self.steps, self.keep = steps, keep
        self.rules: dict[int, Counter[int]] = defaultdict(Counter)

    def fit(self, sessions: list[Session]) -> None:
        for _, items in sessions:
            for place, item in enumerate(items):
                for step, other in enumerate(reversed(items[max(0, place - self.steps) : place]), 1):
                    self.rules[other][item] += 1 / step  # type: ignore[assignment]
        self.rules = {item: Counter(dict(found.most_common(self.keep))) for item, found in self.rules.items()}

    def scores(self, items: list[int]) -> dict[int, float]:
        return dict(self.rules.get(items[-1], {}))


class VectorSessionNeighbours:
    """V-SKNN: the ``k`` most similar of the ``sample`` latest sessions that share an item; later clicks weigh more."""

    def __init__(self, k: int = 100, sample: int = 1000) -> None:
        self.k, self.sample = k, sample
        self.sessions: list[tuple[float, set[int]]] = []
        self.of_item: dict[int, set[int]] = defaultdict(set)

    def fit(self, sessions: list[Session]) -> None:
        self.learn(sessions)

    def learn(self, sessions: list[Session]) -> None:
        for time, items in sessions:
            self.sessions.append((time, set(items)))
            for item in items:
                self.of_item[item].add(len(self.sessions) - 1)

    def scores(self, items: list[int]) -> dict[int, float]:
        sharing = set().union(*(self.of_item.get(item, set()) for item in items))
        latest = sorted(sharing, key=lambda number: (-self.sessions[number][0], number))[: self.sample]
        weight = {item: place / len(items) for place, item in enumerate(items, 1)}
        similar = []
        for number in latest:
            shared = self.sessions[number][1] & weight.keys()
            similar.append((sum(weight[item] for item in shared) / len(weight), number))
        similar.sort(key=lambda pair: (-pair[0], pair[1]))
        scores: dict[int, float] = defaultdict(float)
        for similarity, number in similar[: self.k]:
            theirs = self.sessions[number][1]
            step = next(step for step, item in enumerate(reversed(items), 1) if item in theirs)
            for item in theirs:
                scores[item] += similarity / step
        return dict(scores)
