"""What a strategy's answers come to: the rank of every scored event's item, and the lists that were shown."""

from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from chronotope.evaluation.baselines import Strategy
from chronotope.evaluation.ranking import Standing
from chronotope.evaluation.stream import Stream, scored_events
from model_server.fusion.settings import Mode

LIST = 10
Progress = Callable[[str, int], None]


class Result(msgspec.Struct, frozen=True):
    """Of one strategy: the rank of every scored event's item, the first ten shown, and P(explore) of the gate (NaN: none)."""

    ranks: npt.NDArray[np.float64]
    lists: npt.NDArray[np.int64]
    explore: npt.NDArray[np.float64]


class Course(msgspec.Struct, frozen=True):
    """What every strategy goes through: a stream in a mode, which events are scored [n], and the items known before each."""

    stream: Stream
    mode: Mode
    scored: npt.NDArray[np.bool_]
    known_before: npt.NDArray[np.int64]

    @classmethod
    def of(cls, stream: Stream, mode: Mode, warmup: float, score_from: float) -> "Course":
        """Scores the events that lie beyond both shares of the stream."""
        return cls(stream, mode, scored_events(stream, warmup, score_from), np.cumsum(~stream.known) - ~stream.known)


class Collector:
    """Fills a Result as answers come in."""

    def __init__(self, course: Course) -> None:
        self._stream, self._known = course.stream, course.known_before
        self._place = np.cumsum(course.scored) - 1
        n = int(course.scored.sum())
        self.ranks, self.explore = np.full(n, np.inf), np.full(n, np.nan)
        self.lists = np.full((n, LIST), -1, np.int64)

    def take(self, at: int, standing: Standing, explore: float = np.nan) -> None:
        """The answer that was given before event ``at``."""
        place = self._place[at]
        top = standing.top(LIST)
        self.lists[place, : len(top)] = top
        self.explore[place] = explore
        if self._stream.known[at]:
            self.ranks[place] = standing.rank_of(int(self._stream.item[at]), int(self._known[at]))

    def result(self) -> Result:
        """What has been collected."""
        return Result(self.ranks, self.lists, self.explore)


def run_strategy(strategy: Strategy, course: Course, name: str, progress: Progress) -> Result:
    """Test, then train, event by event."""
    stream, refresh = course.stream, course.mode == "refresh"
    collector = Collector(course)
    awaited = np.zeros(len(stream), bool)
    awaited[stream.previous[course.scored]] = True
    pending: dict[int, Standing] = {}
    for at in range(len(stream)):
        user = int(stream.user[at])
        if course.scored[at]:
            collector.take(at, pending.pop(user) if refresh else strategy.recommend(int(stream.previous[at]), at))
        strategy.learn(at)
        if refresh and awaited[at]:
            pending[user] = strategy.recommend(at, None)
        if at % 1000 == 0:
            progress(name, at)
    progress(name, len(stream))
    return collector.result()
