"""One verb pair for every forecaster of a regularly sampled series, and the baseline it has to beat."""

from collections import deque
from typing import Protocol

import numpy as np

from processors.temporal.arrays import Floats


class Forecaster(Protocol):
    """Learns a series one value at a time and looks ahead from where it stands."""

    @property
    def name(self) -> str:
        """What the model is, in one word or formula."""

    def learn(self, value: float) -> None:
        """Absorb the next value of the series."""

    def forecast(self, horizon: int) -> Floats:
        """Expected values of the next `horizon` steps, float64[horizon]."""


class RestorableForecaster(Forecaster, Protocol):
    """A forecaster whose learned state can be kept and loaded into one that was built alike."""

    @property
    def state(self) -> dict[str, bytes]:
        """The learned arrays, by name."""

    def load(self, state: dict[str, bytes]) -> None:
        """Continue from a state; ValueError when it belongs to another model."""


class SeasonalNaive:
    """The value of one season ago; the latest value until a season has been seen.

    >>> model = SeasonalNaive(3)
    >>> for value in (1.0, 2.0, 3.0, 4.0):
    ...     model.learn(value)
    >>> model.forecast(4).tolist()
    [2.0, 3.0, 4.0, 2.0]
    """

    def __init__(self, season: int) -> None:
        if season < 1:
            raise ValueError(f"season must be at least 1, got {season}")
        self.season = season
        self.latest: deque[float] = deque(maxlen=season)

    @property
    def name(self) -> str:
        """The baseline and its season."""
        return f"naive({self.season})"

    def learn(self, value: float) -> None:
        """Absorb the next value. O(1)."""
        self.latest.append(value)

    def forecast(self, horizon: int) -> Floats:
        """The latest season again and again; zeros before the first value."""
        if not self.latest:
            return np.zeros(horizon)
        if len(self.latest) < self.season:
            return np.full(horizon, self.latest[-1])
        return np.resize(np.asarray(self.latest), horizon)

    @property
    def state(self) -> dict[str, bytes]:
        """The latest season."""
        return {"latest": np.array(self.latest, np.float64).tobytes()}

    def load(self, state: dict[str, bytes]) -> None:
        """Continue from a state of the same season.

        Raises:
            ValueError: the state belongs to another model.
        """
        data = state.get("latest")
        if data is None or len(data) % 8 or len(data) > 8 * self.season:
            raise ValueError(f"state does not fit {self.name}")
        self.latest = deque(np.frombuffer(data).tolist(), maxlen=self.season)
