"""Runs strategies over a stream and collects the ranks of what came."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from chronotope.evaluation.baselines import BASELINES
from chronotope.evaluation.beside import Beside, build
from chronotope.evaluation.classic import CLASSIC
from chronotope.evaluation.fused import FAMILY, FUSED, SEQUENCE, FusedRun
from chronotope.evaluation.metrics import difference_of, intervals_of, metrics_of
from chronotope.evaluation.pairs import Heard
from chronotope.evaluation.results import Collector, Course, Progress, Result, run_strategy
from chronotope.evaluation.stream import Stream
from model_server.fusion.settings import FusionSettings, Mode
from streams.pipeline import PatternPipeline

WITHOUT = "fused-without-"
AFTER = "fused-after-"
DEFAULT = (*BASELINES, SEQUENCE, FUSED)
WORTH_A_PROCESS = 10_000  # events


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

    def learning_curve(self, bins: int = 24) -> dict[str, object]:
        """The MRR in equal stretches of the stream: {"until": [share of the stream], "mrr": {strategy: [...]}}."""
        first = self.at.min() if len(self.at) else 0
        stretch = np.minimum((self.at - first) * bins // max(len(self.stream) - first, 1), bins - 1)
        held = np.maximum(np.bincount(stretch, minlength=bins), 1)
        until = (first + (np.arange(bins) + 1) / bins * (len(self.stream) - first)) / len(self.stream)
        found = {name: np.bincount(stretch, 1.0 / result.ranks, bins) / held for name, result in self.results.items()}
        return {
            "until": until.round(4).tolist(),
            "mrr": {name: values.round(4).tolist() for name, values in found.items()},
        }

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


def check_names(names: Sequence[str], mode: Mode = "request") -> None:
    """Raises ValueError naming the known strategies if one is unknown, or is none of this mode."""
    if mode == "refresh" and any(name.startswith(AFTER) for name in names):
        raise ValueError(f"{AFTER}SECONDS delays the events before a request: it needs mode request")
    for name in names:
        if name.startswith(WITHOUT):
            FusionSettings(without=(name.removeprefix(WITHOUT),))
        elif name.startswith(AFTER):
            delay_of(name)
        elif name not in (*BASELINES, *CLASSIC, *FAMILY) and not _is_pair(name):
            known = (*DEFAULT, *CLASSIC, "A+B", WITHOUT + "EXPERT", AFTER + "SECONDS")
            raise ValueError(f"unknown strategy {name!r}: one of {', '.join(known)}")


def _is_pair(name: str) -> bool:
    parts = name.split("+")
    return len(set(parts)) == len(parts) > 1 and all(part in BASELINES or part == SEQUENCE for part in parts)


def delay_of(name: str) -> float:
    """The delay in seconds of a strategy like ``fused-after-60``. Raises ValueError if it is no number above or equal to 0."""
    try:
        delay_s = float(name.removeprefix(AFTER))
    except ValueError:
        delay_s = -1.0
    if not 0 <= delay_s < float("inf"):
        raise ValueError(f"{name!r} names no delay in seconds, like {AFTER}3600")
    return delay_s


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
    if mode not in ("refresh", "request"):
        raise ValueError(f"mode must be refresh or request, got {mode!r}")
    check_names(names, mode)
    course = Course.of(stream, mode, warmup, warmup if score_from is None else score_from)
    fusion = _Fusion(course, msgspec.structs.replace(settings or FusionSettings(), modes=(mode,)), patterns)
    fused = [name for name in names if name in FAMILY or name.startswith((WITHOUT, AFTER))]
    listening = [name for name in names if SEQUENCE in name.split("+") and name not in fused]
    classic = [name for name in names if name not in fused and name not in listening]
    beside = Beside(course, classic, progress) if classic and fused and len(stream) >= WORTH_A_PROCESS else None

    def told(name: str, done: int) -> None:
        progress(name, done)
        if beside is not None:
            beside.drain()

    collected: dict[str, Result] = {}
    heard = Heard(stream) if listening else None
    family = tuple(name for name in names if name in FAMILY)
    if family or listening:
        collected |= fusion.run(family, "fused", told, heard=heard)
    for name in fused:
        if name not in FAMILY:
            collected |= fusion.variant(name, told)
    if beside is None:
        collected |= {name: run_strategy(build(name, course), course, name, progress) for name in classic}
    collected |= {name: run_strategy(build(name, course, heard), course, name, told) for name in listening}
    if beside is not None:
        collected |= beside.results()
    return Evaluation(stream, mode, np.flatnonzero(course.scored), {name: collected[name] for name in names})


class _Fusion(msgspec.Struct, frozen=True):
    """The fusion on one course, whole or changed."""

    course: Course
    settings: FusionSettings
    patterns: bool

    def variant(self, name: str, progress: Progress) -> dict[str, Result]:
        """{name: result} of ``fused-without-EXPERT`` or ``fused-after-SECONDS``."""
        if name.startswith(AFTER):
            return {name: self.run((FUSED,), name, progress, delay_s=delay_of(name))[FUSED]}
        less = msgspec.structs.replace(self.settings, without=(name.removeprefix(WITHOUT),))
        return {name: _Fusion(self.course, less, self.patterns).run((FUSED,), name, progress)[FUSED]}

    def run(
        self,
        names: tuple[str, ...],
        label: str,
        progress: Progress,
        *,
        delay_s: float | None = None,
        heard: Heard | None = None,
    ) -> dict[str, Result]:
        """One pass for all of these strategies of the family; ``heard`` is told what the sequence model says."""
        course, stream = self.course, self.course.stream
        mined = self.patterns and "patterns" not in self.settings.without
        pipeline = PatternPipeline(partitions=1) if mined else None
        run = FusedRun(stream, course.mode, self.settings, pipeline, names if heard is None else (*names, SEQUENCE))
        collectors = {name: Collector(course) for name in names}
        for answer in run.answers(course.scored) if delay_s is None else run.late_answers(course.scored, delay_s):
            for name in names:
                collectors[name].take(answer.at, answer.rankings[name], answer.explore)
            if heard is not None:
                heard.note(int(stream.previous[answer.at]), answer.rankings[SEQUENCE])
            if answer.at % 100 == 0:
                progress(label, answer.at)
        progress(label, len(stream))
        return {name: collector.result() for name, collector in collectors.items()}
