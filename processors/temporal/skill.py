"""Whether forecasts are better than the level of the series, beyond chance."""

import math

from processors.quality import normal_significance

_MEMORY = 0.99
_MIN_BINS = 10


class ForecastSkill:
    """The Diebold-Mariano test (1995) of one-step forecasts against the series' own decayed mean, as the bins come.

    What is averaged is by how much a forecast's squared error is below that of the mean; bins decay by 1 % a bin. O(1).

    >>> skill = ForecastSkill()
    >>> for step in range(60):
    ...     skill.update(count=float(step % 2), forecast=float(step % 2))
    >>> skill.significance > 10, round(skill.events)
    (True, 23)
    """

    def __init__(self) -> None:
        self.bins = 0
        self.events = 0.0
        self._weight = self._squared_weight = 0.0
        self._gain = self._squared_gain = 0.0

    def update(self, count: float, forecast: float) -> None:
        """Compare a forecast, made before its bin, with the bin's count; NaN for a bin without a forecast."""
        level = self.events / self._decayed_bins if self.bins else math.nan
        if level == level and forecast == forecast:
            gain = (count - level) ** 2 - (count - forecast) ** 2
            self._weight = _MEMORY * self._weight + 1.0
            self._squared_weight = _MEMORY**2 * self._squared_weight + 1.0
            self._gain = _MEMORY * self._gain + gain
            self._squared_gain = _MEMORY * self._squared_gain + gain**2
        self.bins += 1
        self.events = _MEMORY * self.events + count

    @property
    def _decayed_bins(self) -> float:
        return (1.0 - _MEMORY**self.bins) / (1.0 - _MEMORY)

    @property
    def significance(self) -> float:
        """-log10 of the p-value that the forecasts are no better than the level; 0 for the first bins."""
        if self.bins < _MIN_BINS or self._weight == 0.0:
            return 0.0
        mean = self._gain / self._weight
        variance = self._squared_gain / self._weight - mean**2
        if variance <= 1e-12 * mean**2:
            return 0.0
        return normal_significance(mean / math.sqrt(variance * self._squared_weight) * self._weight)

    @property
    def state(self) -> list[float]:
        """All sums, to go on from."""
        sums = [self._weight, self._squared_weight, self._gain, self._squared_gain]
        return [float(self.bins), self.events, *sums]

    def load(self, state: list[float]) -> None:
        """Continue from a state.

        Raises:
            ValueError: the state is none of a skill.
        """
        if len(state) != 6:
            raise ValueError(f"state of a forecast's skill must be 6 numbers, got {len(state)}")
        self.bins, self.events = int(state[0]), state[1]
        self._weight, self._squared_weight, self._gain, self._squared_gain = state[2:]
