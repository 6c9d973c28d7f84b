"""Surges and drops: when a series leaves what was forecast for it, for one bin or for good."""

from typing import Literal

from river import drift, stats

Surge = Literal["none", "surge", "drop"]

# Typical errors: one bin so far out is a surge by itself.
_AT_ONCE = 6.0
_TOLERATED = 0.5
_THRESHOLD = 15.0
_MIN_BINS = 30
_SCALE_MEMORY = 0.98


class SurgeDetector:
    """Watches forecast errors with river's Page-Hinkley tests, one for each direction.

    An error is measured in typical errors, at least those of a Poisson count, so that a place with two events per bin
    does not surge with four. A change is told once: the test starts anew after it, and the forecaster adapts. O(1).

    >>> detector = SurgeDetector()
    >>> [detector.update(10.0 + step % 2, 10.0) for step in range(60)].count("none")
    60
    >>> detector.update(40.0, 10.0)
    'surge'
    """

    def __init__(self) -> None:
        self._up = _page_hinkley("up")
        self._down = _page_hinkley("down")
        self._scale = 0.0
        self._bins = 0

    def update(self, value: float, forecast: float) -> Surge:
        """Whether this bin is, or completes, a surge or a drop against its forecast."""
        error = value - forecast
        typical = max(self._scale, max(forecast, 1.0) ** 0.5 * 0.8)
        relative = error / typical
        memory = min(_SCALE_MEMORY, self._bins / (self._bins + 1.0))
        self._scale = memory * self._scale + (1.0 - memory) * min(abs(error), 4.0 * typical)
        self._bins += 1
        self._up.update(min(relative, _AT_ONCE))
        self._down.update(max(relative, -_AT_ONCE))
        if self._bins <= _MIN_BINS:
            return "none"
        if relative > _AT_ONCE or self._up.drift_detected:
            return "surge"
        if relative < -_AT_ONCE or self._down.drift_detected:
            return "drop"
        return "none"

    @property
    def state(self) -> list[float]:
        """All sums, to go on from."""
        return [self._scale, float(self._bins), *_sums(self._up), *_sums(self._down)]

    def load(self, state: list[float]) -> None:
        """Continue from a state.

        Raises:
            ValueError: the state is none of a detector.
        """
        if len(state) != 2 + 2 * _N_SUMS:
            raise ValueError(f"state of a surge detector must be {2 + 2 * _N_SUMS} numbers, got {len(state)}")
        self._scale, self._bins = state[0], int(state[1])
        _restore(self._up, state[2 : 2 + _N_SUMS])
        _restore(self._down, state[2 + _N_SUMS :])


# river keeps these to itself; a detector that began anew at every restart would be blind for 30 bins.
_N_SUMS = 7


def _sums(test: drift.PageHinkley) -> list[float]:
    mean = test._x_mean
    sums = [test._sum_increase, test._sum_decrease, test._min_increase, test._max_decrease]
    return [mean.n, mean.get(), *sums, float(test.drift_detected)]


def _restore(test: drift.PageHinkley, sums: list[float]) -> None:
    test._x_mean = stats.Mean._from_state(sums[0], sums[1])
    test._sum_increase, test._sum_decrease, test._min_increase, test._max_decrease = sums[2:6]
    test._drift_detected = bool(sums[6])


def _page_hinkley(direction: str) -> drift.PageHinkley:
    return drift.PageHinkley(min_instances=_MIN_BINS, delta=_TOLERATED, threshold=_THRESHOLD, alpha=1.0, mode=direction)
