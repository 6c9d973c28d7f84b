"""The classic strategies in a second process, while the fusion runs in the first: two cores, half the time."""

import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection

from chronotope.evaluation.baselines import BASELINES, Strategy
from chronotope.evaluation.classic import CLASSIC
from chronotope.evaluation.pairs import Heard, Pair
from chronotope.evaluation.results import Course, Progress, Result, run_strategy

SEQUENCE = "sequence"


def build(name: str, course: Course, heard: Heard | None = None) -> Strategy:
    """The untrained strategy of this name; ``A+B`` is a mixture. ``heard`` speaks for the sequence model in one."""
    if "+" in name:
        parts = [heard if part == SEQUENCE else BASELINES[part](course.stream) for part in name.split("+")]
        return Pair(course.stream, [part for part in parts if part is not None])
    if name in CLASSIC:
        return CLASSIC[name](course.stream, course.mode == "request")
    return BASELINES[name](course.stream)


class Beside:
    """Strategies in a child process, which dies with this one; ``drain`` passes its progress on, ``results`` waits for it."""

    def __init__(self, course: Course, names: Sequence[str], progress: Progress) -> None:
        context = multiprocessing.get_context("spawn")
        self._progress, self._results, self._names = progress, dict[str, Result](), tuple(names)
        self._connection, theirs = context.Pipe(duplex=False)
        self._child = context.Process(target=_work, args=(theirs, course, self._names), daemon=True)
        self._child.start()
        theirs.close()

    def drain(self) -> None:
        """Take what has come, without waiting."""
        while len(self._results) < len(self._names) and self._connection.poll():
            self._take()

    def results(self) -> dict[str, Result]:
        """Every strategy's result. Raises RuntimeError if the child died."""
        while len(self._results) < len(self._names):
            self._take()
        self._child.join()
        return self._results

    def _take(self) -> None:
        try:
            name, told = self._connection.recv()
        except EOFError:
            raise RuntimeError("the process of the classic strategies died") from None
        if isinstance(told, Result):
            self._results[name] = told
        else:
            self._progress(name, told)


def _work(connection: Connection, course: Course, names: Sequence[str]) -> None:
    for name in names:
        result = run_strategy(build(name, course), course, name, lambda *told: connection.send(told))
        connection.send((name, result))
