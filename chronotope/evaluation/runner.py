"""Runs strategies over a stream and collects the ranks of what came."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from chronotope.evaluation.baselines import BASELINES, Baseline
from chronotope.evaluation.fused import FAMILY, FusedRun
from chronotope.evaluation.metrics import difference_of, intervals_of, metrics_of
from chronotope.evaluation.ranking import Standing
from chronotope.evaluation.stream import Stream, scored_events
from model_server.fusion.settings import FusionSettings, Mode
from streams.pipeline import PatternPipeline

LIST = 10
WITHOUT = "fused-without-"
DEFAULT = (*BASELINES, "sequence", "fused")
Progress = Callable[[str, int], None]


class Result(msgspec.Struct, frozen=True):
    """Of one strategy: the rank of every scored event's item, the first ten shown, and P(explore) of the gate (NaN: none)."""

    ranks: npt.NDArray[np.float64]
    lists: npt.NDArray[np.int64]
    explore: npt.NDArray[np.float64]


class Evaluation(msgspec.Struct, frozen=True):
    """What was scored, and each strategy's results on it."""

    stream: Stream
    mode: Mode
    at: npt.NDArray[np.int64]
    results: dict[str, Result]

    def slices(self) -> dict[str, npt.NDArray[np.bool_]]:
        """The reported parts of the scored events."""
        revisit, known = self.stream.revisit[self.at], self.stream.known[self.at]
        return {
            "all": np.ones(len(self.at), bool),
            "revisit": revisit,
            "discovery": ~revisit,
            "known_discovery": ~revisit & known,
        }

    def report(self) -> dict[str, dict[str, dict[str, object]]]:
        """{strategy: {slice: metrics}}, with bootstrap intervals, coverage and diversity, and the distance to ``fused``."""
        users = self.stream.user[self.at]
        report: dict[str, dict[str, dict[str, object]]] = {}
        for name, result in self.results.items():
            report[name] = {}
            for part, mask in self.slices().items():
                report[name][part] = dict(metrics_of(result.ranks[mask]))
                report[name][part]["ci95"] = intervals_of(result.ranks[mask], users[mask])
            report[name]["all"] |= self._spread(result)
            if name != "fused" and "fused" in self.results and len(self.at):
                fused = self.results["fused"].ranks
                report[name]["all"]["fused_minus_this_ci95"] = difference_of(fused, result.ranks, users)
        return report

    def _spread(self, result: Result) -> dict[str, float]:
        shown = result.lists[result.lists >= 0]
        kind = np.zeros(self.stream.items, np.int64)
        kind[self.stream.item] = self.stream.category
        kinds = np.where(result.lists >= 0, kind[result.lists], -1)
        sample = np.random.default_rng(0).permutation(len(kinds))[:2000]
        apart = [_diversity(kinds[n][kinds[n] >= 0]) for n in sample.tolist()]
        return {
            "coverage@10": round(len(np.unique(shown)) / self.stream.items, 4),
            "diversity@10": round(float(np.mean(apart)) if apart else 0.0, 4),
        }


def _diversity(kinds: npt.NDArray[np.int64]) -> float:
    """The share of pairs in a list that are of different categories."""
    n = len(kinds)
    if n < 2:
        return 0.0
    _, sizes = np.unique(kinds, return_counts=True)
    return 1.0 - float((sizes * (sizes - 1)).sum()) / (n * (n - 1))


def check_names(names: Sequence[str]) -> None:
    """Raises ValueError naming the known strategies if one is unknown."""
    for name in names:
        if name not in BASELINES and name not in FAMILY and not name.startswith(WITHOUT):
            raise ValueError(f"unknown strategy {name!r}: one of {', '.join((*DEFAULT, WITHOUT + 'EXPERT'))}")


def evaluate(
    stream: Stream,
    mode: Mode,
    names: Sequence[str] = DEFAULT,
    *,
    warmup: float = 0.2,
    score_from: float | None = None,
    settings: FusionSettings | None = None,
    patterns: bool = True,
    progress: Progress = lambda name, done: None,
) -> Evaluation:
    """Test-then-train of the named strategies; see docs/evaluation.md for the protocol. ``progress(strategy, events done)``."""
    check_names(names)
    if mode not in ("refresh", "request"):
        raise ValueError(f"mode must be refresh or request, got {mode!r}")
    scored = scored_events(stream, warmup, warmup if score_from is None else score_from)
    known_before = np.cumsum(~stream.known) - ~stream.known
    collected: dict[str, Result] = {}
    family = tuple(name for name in names if name in FAMILY)
    for name in names:
        if name in BASELINES:
            collected[name] = _run_baseline(BASELINES[name](stream), stream, mode, scored, known_before, name, progress)
    settings = msgspec.structs.replace(settings or FusionSettings(), modes=(mode,))
    if family:
        collected |= _run_fused(stream, mode, settings, patterns, family, scored, known_before, "fused", progress)
    for name in names:
        if name.startswith(WITHOUT):
            less = msgspec.structs.replace(settings, without=(name.removeprefix(WITHOUT),))
            found = _run_fused(stream, mode, less, patterns, ("fused",), scored, known_before, name, progress)
            collected[name] = found["fused"]
    return Evaluation(stream, mode, np.flatnonzero(scored), {name: collected[name] for name in names})


class _Collector:
    """Fills a Result as answers come in."""

    def __init__(self, stream: Stream, scored: npt.NDArray[np.bool_], known_before: npt.NDArray[np.int64]) -> None:
        self._stream, self._known = stream, known_before
        self._place = np.cumsum(scored) - 1
        n = int(scored.sum())
        self.ranks, self.explore = np.full(n, np.inf), np.full(n, np.nan)
        self.lists = np.full((n, LIST), -1, np.int64)

    def take(self, at: int, standing: Standing, explore: float = np.nan) -> None:
        place = self._place[at]
        top = standing.top(LIST)
        self.lists[place, : len(top)] = top
        self.explore[place] = explore
        if self._stream.known[at]:
            self.ranks[place] = standing.rank_of(int(self._stream.item[at]), int(self._known[at]))

    def result(self) -> Result:
        return Result(self.ranks, self.lists, self.explore)


def _run_baseline(
    strategy: Baseline,
    stream: Stream,
    mode: Mode,
    scored: npt.NDArray[np.bool_],
    known_before: npt.NDArray[np.int64],
    name: str,
    progress: Progress,
) -> Result:
    collector = _Collector(stream, scored, known_before)
    awaited = np.zeros(len(stream), bool)
    awaited[stream.previous[scored]] = True
    pending: dict[int, Standing] = {}
    for at in range(len(stream)):
        user = int(stream.user[at])
        if scored[at]:
            standing = pending.pop(user) if mode == "refresh" else strategy.recommend(int(stream.previous[at]), at)
            collector.take(at, standing)
        strategy.learn(at)
        if mode == "refresh" and awaited[at]:
            pending[user] = strategy.recommend(at, None)
        if at % 1000 == 0:
            progress(name, at)
    progress(name, len(stream))
    return collector.result()


def _run_fused(
    stream: Stream,
    mode: Mode,
    settings: FusionSettings,
    patterns: bool,
    names: tuple[str, ...],
    scored: npt.NDArray[np.bool_],
    known_before: npt.NDArray[np.int64],
    label: str,
    progress: Progress,
) -> dict[str, Result]:
    pipeline = PatternPipeline(partitions=1) if patterns and "patterns" not in settings.without else None
    run = FusedRun(stream, mode, settings, pipeline, names)
    collectors = {name: _Collector(stream, scored, known_before) for name in names}
    for answer in run.answers(scored):
        for name, standing in answer.rankings.items():
            collectors[name].take(answer.at, standing, answer.explore)
        if answer.at % 100 == 0:
            progress(label, answer.at)
    progress(label, len(stream))
    return {name: collector.result() for name, collector in collectors.items()}
