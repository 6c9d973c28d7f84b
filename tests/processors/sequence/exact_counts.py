"""The oracle of decayed transition counts, and streams for it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from processors.sequence import NO_STATE, TransitionCounts

HALF_LIFE_S = 100.0
Key = tuple[int, int, int]


def chain(owner: int, previous: int, last: int) -> list[Key]:
    """The contexts of an event from general to special, order 0 first."""
    keys = [(NO_STATE, NO_STATE, NO_STATE)]
    if owner != NO_STATE:
        keys.append((owner, NO_STATE, NO_STATE))
    if last != NO_STATE:
        keys.append((owner, NO_STATE, last))
        if previous != NO_STATE:
            keys.append((owner, previous, last))
    return keys


class ExactCounts:
    """The oracle: every transition kept, every count and probability computed from its definition."""

    def __init__(self, half_life_s: float) -> None:
        self.half_life_s = half_life_s
        self.events: dict[Key, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, owner: int, previous: int, last: int, state: int, time_s: float) -> None:
        for key in chain(owner, previous, last):
            self.events[key][state].append(time_s)

    def counts(self, key: Key, time_s: float) -> dict[int, float]:
        return {
            state: sum(2.0 ** (-(time_s - t) / self.half_life_s) for t in times)
            for state, times in self.events.get(key, {}).items()
        }

    def probabilities(self, owner: int, previous: int, last: int, time_s: float) -> dict[int, float]:
        zero, *contexts = chain(owner, previous, last)
        popular = self.counts(zero, time_s)
        mixed = {state: count / sum(popular.values()) for state, count in popular.items()}
        for key in contexts:
            escape = 10.0 if key[1] != NO_STATE else 1.0
            counts = self.counts(key, time_s)
            if counts:
                total, types = sum(counts.values()), escape * sum(min(1.0, count) for count in counts.values())
                mixed = {s: (counts.get(s, 0.0) + types * p) / (total + types) for s, p in mixed.items()}
        return mixed


def stream(
    seed: int, n: int, states: int, span_s: float = 1000.0, absent: float = 0.15
) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    columns = {name: rng.integers(-3, states - 3, n) for name in ("owner", "previous", "last", "state")}
    for name in ("owner", "previous", "last"):
        columns[name][rng.random(n) < absent] = NO_STATE
    columns["time_s"] = rng.uniform(0, span_s, n)
    return columns


def feed(counts: TransitionCounts, columns: dict[str, np.ndarray[Any, Any]], cuts: list[int]) -> None:
    contexts = np.stack([columns["previous"], columns["last"]], 1)
    for part in np.split(np.arange(len(contexts)), sorted(cuts)):
        counts.update(contexts[part], columns["state"][part], columns["time_s"][part], owners=columns["owner"][part])


def oracle_of(columns: dict[str, np.ndarray[Any, Any]], half_life_s: float = HALF_LIFE_S) -> ExactCounts:
    oracle = ExactCounts(half_life_s)
    for row in zip(*(columns[name].tolist() for name in ("owner", "previous", "last", "state", "time_s")), strict=True):
        oracle.add(*row)
    return oracle
