"""Prediction intervals that keep their coverage whatever the series does."""

import numpy as np
from numba import njit

from processors.temporal.arrays import Floats

_STEP = 0.08
_FIRST_STEP = 0.5
_SCALE_MEMORY = 0.98


@njit(cache=True)
def _settle(value: float, issued: Floats, bounds: Floats, scale: Floats, seen: Floats, miss: float) -> None:
    for h in range(len(scale)):
        error = value - issued[h, h]
        if np.isnan(error):
            continue
        if seen[h] > 0:
            rate = max(_STEP, _FIRST_STEP / np.sqrt(seen[h] + 1.0))
            relative = error / max(scale[h], 1e-9)
            bounds[0, h] += rate * ((1.0 if relative < -bounds[0, h] else 0.0) - miss)
            bounds[1, h] += rate * ((1.0 if relative > bounds[1, h] else 0.0) - miss)
        memory = min(_SCALE_MEMORY, seen[h] / (seen[h] + 1.0))
        scale[h] = memory * scale[h] + (1.0 - memory) * abs(error)
        seen[h] += 1.0


class AdaptiveIntervals:
    """Intervals around forecasts for steps 1..horizon, calibrated by quantile tracking.

    Each bound follows the quantile of the errors of its own step: it moves out when the truth lies beyond it and creeps
    in otherwise, in proportions that make the long-run share beyond it the one asked for, for any series (adaptive
    conformal inference, Gibbs and Candes 2021; quantile tracking, Angelopoulos et al. 2023). Bounds are in units of
    the step's typical error, so they follow changes of scale at once. O(horizon) per value.
    """

    def __init__(self, horizon: int, coverage: float = 0.9) -> None:
        if horizon < 1:
            raise ValueError(f"horizon must be at least 1, got {horizon}")
        if not 0.0 < coverage < 1.0:
            raise ValueError(f"coverage must be in (0, 1), got {coverage}")
        self.horizon = horizon
        self.miss = (1.0 - coverage) / 2
        self._issued = np.full((horizon, horizon), np.nan)
        self._bounds = np.full((2, horizon), 2.0)
        self._scale = np.zeros(horizon)
        self._seen = np.zeros(horizon)

    def settle(self, value: float) -> None:
        """Learn from the errors of the forecasts that were issued for this value."""
        _settle(value, self._issued, self._bounds, self._scale, self._seen, self.miss)

    def issue(self, forecast: Floats) -> tuple[Floats, Floats]:
        """(low, high) of a forecast for the next `horizon` steps; remembers it for calibration."""
        self._issued[1:] = self._issued[:-1]
        self._issued[0] = forecast
        return forecast - self._bounds[0] * self._scale, forecast + self._bounds[1] * self._scale

    @property
    def state(self) -> list[bytes]:
        """The calibration."""
        return [array.tobytes() for array in (self._issued, self._bounds, self._scale, self._seen)]

    def load(self, state: list[bytes]) -> None:
        """Continue from a state of the same horizon.

        Raises:
            ValueError: the state belongs to another horizon.
        """
        arrays = (self._issued, self._bounds, self._scale, self._seen)
        if [len(data) for data in state] != [array.nbytes for array in arrays]:
            raise ValueError(f"state does not fit a horizon of {self.horizon}")
        for array, data in zip(arrays, state):
            array[:] = np.frombuffer(data).reshape(array.shape)
