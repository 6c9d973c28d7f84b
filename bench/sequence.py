"""Transition counts against dictionaries, session-rec's baselines and plain order-1 counts.

    python bench/sequence.py [speed] [moves] [memory] [sessions] [backoff] [--json OUT]

``speed``, ``moves`` and ``memory`` need no data; ``sessions`` and ``backoff`` read the research data beside the checkout
(``../shared/data``, or ``CHRONOTOPE_DATA``) and say so where it is absent.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import statistics
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from session_baselines import AssociationRules, SequentialRules, Session, VectorSessionNeighbours

from processors.sequence import NO_STATE, RecentStates, Sessions, TransitionCounts, moves_between, steps_back, warm_up

DAY_S = 86_400.0
DATA = Path(os.environ.get("CHRONOTOPE_DATA", Path(__file__).parents[2] / "shared" / "data"))
Columns = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


# -- speed


class CountingDictionaries:
    """What one writes first: a dictionary of dictionaries that never forgets."""

    def __init__(self) -> None:
        self.counts: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))

    def update(self, contexts: Any, next_states: Any, time_s: Any) -> None:
        for context, state in zip(contexts.tolist(), next_states.tolist(), strict=True):
            self.counts[context][state] += 1


class DecayingDictionaries:
    """The same with decay: (count, time) per pair, and order 0 beside it."""

    def __init__(self, half_life_s: float = 30 * DAY_S) -> None:
        self.half_life_s = half_life_s
        self.counts: dict[int, dict[int, tuple[float, float]]] = defaultdict(dict)
        self.popular: dict[int, tuple[float, float]] = {}

    def update(self, contexts: Any, next_states: Any, time_s: Any) -> None:
        for context, state, now in zip(contexts.tolist(), next_states.tolist(), time_s.tolist(), strict=True):
            for row in (self.counts[context], self.popular):
                count, then = row.get(state, (0.0, now))
                row[state] = (count * 0.5 ** ((now - then) / self.half_life_s) + 1.0, now)


def transitions(n: int, contexts: int, skewed: bool) -> Columns:
    """Uniform contexts are the worst case for the cache; skewed ones are what shops and cities look like."""
    rng = np.random.default_rng(0)
    last = np.minimum(rng.zipf(1.2, n), contexts) - 1 if skewed else rng.integers(0, contexts, n)
    following = (last * 7 + rng.zipf(1.5, n) % 20) % contexts
    return last, following, np.sort(rng.uniform(0, 20 * DAY_S, n))


def seconds(learner: Any, columns: Columns, batch: int) -> float:
    """Processor seconds: everything here runs on one thread, and other work on the machine must not count."""
    start = time.process_time()
    for i in range(0, len(columns[0]), batch):
        learner.update(*(column[i : i + batch] for column in columns))
    return time.process_time() - start


def bench_speed(rounds: int = 5) -> list[dict[str, Any]]:
    rows = []
    for skewed in (False, True):
        columns = transitions(2_000_000, 100_000, skewed)
        fewer: Columns = tuple(column[:500_000] for column in columns)  # type: ignore[assignment]
        pairs: Columns = (
            np.stack([np.roll(columns[0], 1) % 50, columns[0]], 1)[:1_000_000],
            columns[1][:1_000_000],
            columns[2][:1_000_000],
        )
        runs: dict[str, tuple[Callable[[], Any], Columns, int]] = {
            "ours, order 1, batches of 10,000": (TransitionCounts, columns, 10_000),
            "ours, order 1, batches of 1,000": (TransitionCounts, columns, 1_000),
            "ours, orders 2 and 1, batches of 10,000": (
                lambda: TransitionCounts(max_contexts=1 << 23, max_transitions=1 << 25),
                pairs,
                10_000,
            ),
            "dictionaries, no decay": (CountingDictionaries, fewer, 10_000),
            "dictionaries, decay and order 0": (DecayingDictionaries, fewer, 10_000),
        }
        rates: dict[str, list[float]] = defaultdict(list)
        for _ in range(rounds):
            for name, (make, stream, batch) in runs.items():
                rates[name].append(len(stream[1]) / seconds(make(), stream, batch))
        for name, seen in rates.items():
            ratio = [a / b for a, b in zip(seen, rates["dictionaries, decay and order 0"], strict=True)]
            rows.append(
                {
                    "contexts": "skewed" if skewed else "uniform",
                    "counts": name,
                    "transitions_per_cpu_s": round(statistics.median(seen)),
                    "times_decaying_dictionaries": round(statistics.median(ratio), 2),
                }
            )
    rows.append(settled_rate())
    return rows


def settled_rate() -> dict[str, Any]:
    """The rate once all 100,000 contexts are held, and what prediction takes."""
    columns = transitions(2_000_000, 100_000, skewed=False)
    counts = TransitionCounts()
    seconds(counts, columns, 10_000)
    again = statistics.median(len(columns[0]) / seconds(counts, columns, 10_000) for _ in range(3))
    start = time.process_time()
    for context in columns[0][:5000].tolist():
        counts.predict(context, 20 * DAY_S, k=10)
    each = (time.process_time() - start) / 5000
    return {
        "contexts": "uniform",
        "counts": f"ours, order 1, {counts.n_contexts:,} contexts held before",
        "transitions_per_cpu_s": round(again),
        "bytes_per_transition_held": round(counts.nbytes / counts.n_transitions, 1),
        "predict_us": round(each * 1e6, 1),
    }


# -- moves


def walked(users: Any, states: Any, time_ms: Any, gap_ms: int) -> dict[tuple[int, int], list[int]]:
    """What one writes first: each user's last state and time in a dictionary, the people of each move in a list."""
    last: dict[int, tuple[int, int]] = {}
    went: dict[tuple[int, int], list[int]] = defaultdict(list)
    order = np.argsort(time_ms, kind="stable")
    for user, state, now in zip(*(column[order].tolist() for column in (users, states, time_ms)), strict=True):
        before, then = last.get(user, (state, now))
        if before != state and now - then <= gap_ms:
            went[before, state].append(user)
        last[user] = state, now
    return {pair: [len(who), len(set(who))] for pair, who in went.items()}


def bench_moves(points: int = 100_000, crowds: int = 500, rounds: int = 9) -> list[dict[str, Any]]:
    """One count over a window of a week, as the workers do when a fifth of it is new."""
    rng = np.random.default_rng(0)
    users = rng.integers(0, 1 << 62, points // 20)[rng.integers(0, points // 20, points)]
    states, turns = rng.integers(0, crowds, points), np.zeros(points, np.int64)
    time_ms, gap_ms = np.sort(rng.integers(0, round(7 * DAY_S * 1000), points)), 3 * 3600 * 1000
    ours, theirs = list[float](), list[float]()
    for _ in range(rounds):
        start = time.process_time()
        moves = moves_between(users, states, time_ms, turns, gap_ms)
        middle = time.process_time()
        plain = walked(users, states, time_ms, gap_ms)
        ours.append(middle - start)
        theirs.append(time.process_time() - middle)
    assert dict(zip(zip(*(c.tolist() for c in moves[:2])), zip(*(c.tolist() for c in moves[2:])))) == {
        pair: tuple(seen) for pair, seen in plain.items()
    }
    each_us = statistics.median(ours) * 1e6 / (points / 5)
    return [
        {
            "points": points, "pairs": len(moves.times), "ms": round(statistics.median(ours) * 1e3, 1),
            "us_per_new_point": round(each_us, 2),
            "times_dictionaries": round(statistics.median(b / a for a, b in zip(ours, theirs, strict=True)), 1),
        }
    ]  # fmt: skip


# -- memory


def bench_memory(events: int = 4_000_000) -> list[dict[str, Any]]:
    """A stream in which every context and every state is new, and one in which a single context never ends."""
    rows = []
    for name, contexts in (("all new", np.arange(events)), ("one endless context", np.zeros(events, np.int64))):
        counts = TransitionCounts(max_contexts=100_000, max_transitions=1_000_000, max_states=100_000)
        states, times = np.arange(events) + 10**12, np.arange(events) * 0.01
        sizes, took = [], 0.0
        for i in range(0, events, 100_000):
            part = slice(i, i + 100_000)
            took += seconds(counts, (contexts[part], states[part], times[part]), 10_000)
            sizes.append(counts.nbytes)
        few = min(events, 400_000)
        tracemalloc.start()
        dictionaries = DecayingDictionaries()
        seconds(dictionaries, (contexts[:few], states[:few], times[:few]), 10_000)
        grown = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        rows.append(
            {
                "stream": name,
                "ours_mb_after_quarter": round(sizes[len(sizes) // 4] / 1e6, 1),
                "ours_mb_at_end": round(sizes[-1] / 1e6, 1),
                "ours_mb_peak": round(max(sizes) / 1e6, 1),
                "ours_transitions_per_cpu_s": round(events / took),
                "dictionaries_bytes_per_event": round(grown / few),
            }
        )
    return rows


# -- data


def read_events(folder: str, file: str, user: str, item: str, when: str) -> Columns | None:
    """User, item and time columns in time order, ids as codes; None where the data is absent."""
    path = DATA / folder / file
    if not path.exists():
        print(f"skipped: {path} is absent (set CHRONOTOPE_DATA)")
        return None
    with gzip.open(path, "rt") as lines:
        rows = list(csv.DictReader(lines))
    times = np.array([float(row[when]) for row in rows])
    order = np.argsort(times, kind="stable")
    users = np.unique([row[user] for row in rows], return_inverse=True)[1]
    items = np.unique([row[item] for row in rows], return_inverse=True)[1]
    return users[order], items[order], times[order]


def yoochoose() -> Columns | None:
    return read_events("yoochoose", "train.csv.gz", "SessionId", "ItemId", "Time")


def foursquare() -> Columns | None:
    return read_events("foursquare_nyc", "checkins.csv.gz", "user_id", "venue_id", "time_unix_s")


# -- against session-rec's baselines


def split_sessions(columns: Columns, days_test: float = 1.0, support: int = 5) -> tuple[list[Session], list[Session]]:
    """session-rec's split: items of 5 events, sessions of 2, the last day's sessions are the test, known items only."""
    users, items, times = columns
    kept = np.isin(items, np.flatnonzero(np.bincount(items) >= support))
    sessions: dict[int, tuple[list[float], list[int]]] = defaultdict(lambda: ([], []))
    for user, item, when in zip(users[kept].tolist(), items[kept].tolist(), times[kept].tolist(), strict=True):
        sessions[user][0].append(when)
        sessions[user][1].append(item)
    whole = sorted((when[-1], found) for when, found in sessions.values() if len(found) >= 2)
    cut = whole[-1][0] - days_test * DAY_S
    train = [session for session in whole if session[0] < cut]
    known = {item for _, found in train for item in found}
    test = [(when, [item for item in found if item in known]) for when, found in whole if when >= cut]
    return train, [session for session in test if len(session[1]) >= 2]


class OursOnSessions:
    """TransitionCounts on whole sessions; ``steps`` > 1 also counts what follows later, weighted by 1 / steps.

    It predicts from the last state (``recent`` 1), the last two (order 2), or a mixture over the last ``recent`` states.
    """

    def __init__(self, order: int = 1, steps: int = 1, recent: int = 1) -> None:
        self.order, self.steps, self.recent = order, steps, recent
        self.counts = TransitionCounts()
        self.now = 0.0

    def fit(self, sessions: list[Session]) -> None:
        self.learn(sessions)

    def learn(self, sessions: list[Session]) -> None:
        lengths = [len(items) for _, items in sessions]
        users = np.repeat(np.arange(len(sessions)), lengths)
        items = np.concatenate([items for _, items in sessions])
        times = np.repeat([when for when, _ in sessions], lengths)
        columns = Sessions(gap_s=np.inf).update(users, items, times)
        if self.steps == 1:
            self.counts.update(columns.contexts if self.order == 2 else columns.contexts[:, 1], items, times)
        else:
            before, _, _ = RecentStates(self.steps, np.inf).update(users, items, times)
            earlier, later, when, weights = steps_back(before, items, times)
            self.counts.update(earlier, later, when, weights=weights)
        self.now = float(times.max())

    def scores(self, items: list[int]) -> dict[int, float]:
        if self.recent > 1:
            latest = list(dict.fromkeys(reversed(items)))[: self.recent]
            states, probabilities = self.counts.predict_recent(latest, self.now, k=20)
        else:
            context = (items[-2], items[-1]) if self.order == 2 and len(items) > 1 else items[-1]
            states, probabilities = self.counts.predict(context, self.now, k=20)
        return dict(zip(states.tolist(), probabilities.tolist(), strict=True))


def hits_of(model: Any, test: list[Session], learns: bool = False) -> tuple[np.ndarray[Any, Any], float]:
    """The rank (0 for a miss) within the best 20 of every next item of the test; and microseconds per prediction."""
    ranks, spent = [], 0.0
    for session in test:
        items = session[1]
        for place in range(1, len(items)):
            start = time.process_time()
            scores = model.scores(items[:place])
            best = sorted(scores, key=lambda item: (-scores[item], item))[:20]
            spent += time.process_time() - start
            ranks.append(best.index(items[place]) + 1 if items[place] in best else 0)
        if learns:
            model.learn([session])
    return np.array(ranks), spent / len(ranks) * 1e6


def bench_sessions() -> list[dict[str, Any]]:
    columns = yoochoose()
    if columns is None:
        return []
    train, test = split_sessions(columns)
    models: list[tuple[str, Any, bool]] = [
        ("AR", AssociationRules(), False),
        ("SR", SequentialRules(), False),
        ("V-SKNN", VectorSessionNeighbours(), False),
        ("ours, order 1", OursOnSessions(), False),
        ("ours, order 2", OursOnSessions(order=2), False),
        ("ours, order 1, 10 steps", OursOnSessions(steps=10), False),
        ("ours, mixture of the last 8", OursOnSessions(recent=8), False),
        ("ours, mixture of the last 8, 10 steps", OursOnSessions(steps=10, recent=8), False),
        ("V-SKNN, learning on", VectorSessionNeighbours(), True),
        ("ours, order 1, learning on", OursOnSessions(), True),
        ("ours, mixture of the last 8, learning on", OursOnSessions(recent=8), True),
        ("ours, mixture of the last 8, 10 steps, learning on", OursOnSessions(steps=10, recent=8), True),
    ]
    rows = []
    for name, model, learns in models:
        model.fit(train)
        ranks, each = hits_of(model, test, learns)
        reciprocal = np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0.0)
        rows.append(
            {
                "model": name,
                "train_sessions": len(train),
                "predictions": len(ranks),
                "hr@20": round(float((ranks > 0).mean()), 4),
                "mrr@20": round(float(reciprocal.mean()), 4),
                "predict_us": round(each),
            }
        )
    return rows


# -- back-off against plain counts, test then train


def reciprocal_ranks(columns: Columns, gap_s: float, warm_up_share: float, models: dict[str, Any]) -> dict[str, Any]:
    """1 / expected rank of every event after the warm-up among the states seen before; unseen targets are misses."""
    users, items, times = columns
    sessions = Sessions(gap_s=gap_s)
    seen = np.zeros(items.max() + 1, np.bool_)
    scored: list[int] = []
    found: dict[str, list[float]] = {name: [] for name in models}
    for i in range(len(items)):
        contexts = sessions.update(users[i : i + 1], items[i : i + 1], times[i : i + 1]).contexts[0]
        context, target, owner = tuple(contexts.tolist()), int(items[i]), int(users[i])
        if i >= warm_up_share * len(items) and contexts[1] != NO_STATE:
            scored.append(owner)
            known = np.flatnonzero(seen)
            for name, model in models.items():
                found[name].append(reciprocal_rank(model.score(context, known, times[i], owner), known, target))
        for model in models.values():
            model.learn(context, target, times[i], owner)
        seen[target] = True
    return {"owner": np.array(scored), **{name: np.array(ranks) for name, ranks in found.items()}}


def reciprocal_rank(scores: np.ndarray[Any, Any], known: np.ndarray[Any, Any], target: int) -> float:
    place = np.searchsorted(known, target)
    if place == len(known) or known[place] != target:
        return 0.0
    mine = scores[place]
    return 1 / (int((scores > mine).sum()) + (int((scores == mine).sum()) + 1) / 2)


class PlainOrder1:
    """Counts of what followed the last state and nothing else; ``half_life_s`` infinite never forgets."""

    def __init__(self, half_life_s: float) -> None:
        self.counts = TransitionCounts(half_life_s=half_life_s)

    def score(self, context: tuple[int, int], known: Any, now: float, owner: int) -> np.ndarray[Any, Any]:
        states, counts = self.counts.counts_of(context[1], now)
        scores = np.zeros(len(known))
        scores[np.searchsorted(known, states)] = counts
        return scores

    def learn(self, context: tuple[int, int], target: int, now: float, owner: int) -> None:
        self.counts.update(np.array([context[1]]), np.array([target]), np.array([now]))


class BackOff:
    """TransitionCounts as it comes: orders 2, 1 and 0, the population's or each owner's own."""

    def __init__(self, order: int = 2, personal: bool = False, half_life_s: float = 30 * DAY_S) -> None:
        self.order, self.personal = order, personal
        self.counts = TransitionCounts(half_life_s=half_life_s)

    def _context(self, context: tuple[int, int]) -> tuple[int, int]:
        return context if self.order == 2 else (NO_STATE, context[1])

    def score(self, context: tuple[int, int], known: Any, now: float, owner: int) -> np.ndarray[Any, Any]:
        return self.counts.probabilities(self._context(context), known, now, owner if self.personal else None)

    def learn(self, context: tuple[int, int], target: int, now: float, owner: int) -> None:
        owners = np.array([owner]) if self.personal else None
        self.counts.update(np.array([self._context(context)]), np.array([target]), np.array([now]), owners)


def interval(difference: np.ndarray[Any, Any], owner: np.ndarray[Any, Any], rounds: int = 2000) -> tuple[float, float]:
    """95 % interval of a mean difference: a paired bootstrap over owners, whose events hang together."""
    _, group = np.unique(owner, return_inverse=True)
    sums, sizes = np.bincount(group, difference), np.bincount(group)
    rng = np.random.default_rng(0)
    means = []
    for _ in range(rounds):
        drawn = rng.integers(0, len(sums), len(sums))
        means.append(sums[drawn].sum() / sizes[drawn].sum())
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def bench_backoff() -> list[dict[str, Any]]:
    rows = []
    for name, columns, gap_s in (("yoochoose", yoochoose(), np.inf), ("foursquare_nyc", foursquare(), np.inf)):
        if columns is None:
            continue
        models: dict[str, Any] = {
            "plain order 1, never forgets": PlainOrder1(np.inf),
            "plain order 1, decayed": PlainOrder1(30 * DAY_S),
            "order 1 backed off to 0": BackOff(order=1),
            "orders 2, 1, 0 backed off": BackOff(order=2),
        }
        if name == "foursquare_nyc":
            models["each user's own, backed off"] = BackOff(order=2, personal=True)
        ranks = reciprocal_ranks(columns, gap_s, 0.2, models)
        plain = max(("plain order 1, never forgets", "plain order 1, decayed"), key=lambda name: ranks[name].mean())
        for model in models:
            low, high = interval(ranks[model] - ranks[plain], ranks["owner"])
            rows.append(
                {
                    "data": name,
                    "model": model,
                    "events": len(ranks[model]),
                    "mrr": round(float(ranks[model].mean()), 4),
                    "hit@20": round(float((ranks[model] >= 1 / 20).mean()), 4),
                    "better_plain_mrr_difference": [round(low, 4), round(high, 4)],
                }
            )
    return rows


# -- output


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{title}")
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


def main() -> None:
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "speed": bench_speed,
        "moves": bench_moves,
        "memory": bench_memory,
        "sessions": bench_sessions,
        "backoff": bench_backoff,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}; all by default")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the tables as JSON")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - parts.keys():
        parser.error(f"unknown part {', '.join(sorted(unknown))}")
    warm_up()
    tables = {}
    for name in chosen.parts or parts:
        tables[name] = parts[name]()
        if tables[name]:
            print_table(name, tables[name])
    if chosen.json:
        chosen.json.write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
