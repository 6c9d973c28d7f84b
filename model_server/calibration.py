"""From stated probabilities to the frequencies with which such statements came true."""

import bisect

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
PROBABILITY_EDGES = np.concatenate(([0.0], np.geomspace(0.002, 1.0, 20)))
EDGE_LIST = PROBABILITY_EDGES.tolist()


def never_falling(values: Floats, weights: Floats) -> Floats:
    """The nearest never-falling sequence by weighted least squares: pool adjacent violators. O(n).

    >>> never_falling(np.array([1.0, 3.0, 2.0]), np.array([1.0, 1.0, 3.0])).tolist()
    [1.0, 2.25, 2.25]
    """
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist()):
        size = 1
        while pools and pools[-1][0] >= value:
            mean, pooled, more = pools.pop()
            value = (mean * pooled + value * weight) / (pooled + weight)
            weight, size = weight + pooled, size + more
        pools.append((value, weight, size))
    return np.repeat([mean for mean, _, _ in pools], [size for _, _, size in pools])


class Calibrator:
    """Maps a stated probability to the frequency with which such statements came true.

    Decayed bins, made monotone by isotonic regression, linear in between; a bin that has seen little keeps to what was stated
    (a prior of ``prior`` observations). The curve is drawn again after every ``redraw`` lessons.

    >>> calibrator = Calibrator()
    >>> for n in range(1000):
    ...     calibrator.learn(0.5, n % 4 == 0)
    >>> bool(0.24 < calibrator.calibrated(np.array([0.5]))[0] < 0.28)
    True
    """

    def __init__(self, prior: float = 20.0, decay: float = 0.9999, redraw: int = 100) -> None:
        self._prior, self._decay, self._redraw = prior, decay, redraw
        bins = len(PROBABILITY_EDGES) - 1
        # Lists, of which one number at a time is read and written faster than of arrays.
        self._count, self._stated, self._hits = [0.0] * bins, [0.0] * bins, [0.0] * bins
        self._lessons = 0
        self._x, self._y = self._curve()

    def learn(self, stated: float, came_true: bool) -> None:
        """One statement was tested. O(1), amortised."""
        index = min(bisect.bisect_right(EDGE_LIST, stated) - 1, len(self._count) - 1)
        self._count[index] = self._decay * self._count[index] + 1.0
        self._stated[index] = self._decay * self._stated[index] + stated
        self._hits[index] = self._decay * self._hits[index] + came_true
        self._lessons += 1
        if self._lessons % self._redraw == 0:
            self._x, self._y = self._curve()

    def calibrated(self, stated: Floats) -> Floats:
        """The calibrated probabilities of these statements, never decreasing in the statement. O(n log bins)."""
        return np.interp(stated, self._x, self._y)

    def frequency(self, stated: float) -> float:
        """The same of one statement, without an array. O(log bins)."""
        above = bisect.bisect_right(self._x, stated)
        if not 0 < above < len(self._x):
            return self._y[0 if above == 0 else -1]
        x, y, next_x, next_y = self._x[above - 1], self._y[above - 1], self._x[above], self._y[above]
        return y + (stated - x) * (next_y - y) / (next_x - x)

    def error(self) -> float:
        """Expected calibration error of what was stated: mean |frequency - statement|."""
        total = sum(self._count)
        return sum(abs(hits - stated) for hits, stated in zip(self._hits, self._stated)) / total if total else 0.0

    def state(self) -> list[Floats]:
        """What was learned, as arrays."""
        return [np.array(column) for column in (self._count, self._stated, self._hits)]

    def load_state(self, state: list[Floats]) -> None:
        """Take over what ``state`` gave; ValueError if its shape is another."""
        bins = len(self._count)
        if [column.shape for column in state] != [(bins,)] * 3:
            raise ValueError(f"a calibrator's state has three columns of {bins}")
        self._count, self._stated, self._hits = (column.tolist() for column in state)
        self._x, self._y = self._curve()

    def _curve(self) -> tuple[list[float], list[float]]:
        middle = (PROBABILITY_EDGES[1:] + PROBABILITY_EDGES[:-1]) / 2
        count, stated, hits = self.state()
        x = np.where(count > 0, stated / np.maximum(count, 1e-9), middle)
        y = never_falling((hits + self._prior * x) / (count + self._prior), count + 1e-3)
        return [0.0, *x.tolist(), 1.0], [0.0, *y.tolist(), float(y[-1])]
