"""The forecaster that has been best so far, by test-then-train error."""

from collections.abc import Sequence

import numpy as np

from processors.temporal.arrays import Floats
from processors.temporal.forecaster import Forecaster


class PrequentialChoice:
    """A forecaster that forecasts with whichever of its models has the smallest decayed one-step error.

    Every model is tested on each value before it learns it (Dawid 1984), so the choice needs no hold-out data and
    follows the series when it changes. Ties go to the earlier model: put the simplest first.
    """

    def __init__(self, models: Sequence[Forecaster], memory: float = 0.99) -> None:
        if not models:
            raise ValueError("models must not be empty")
        if not 0.0 < memory < 1.0:
            raise ValueError(f"memory must be in (0, 1), got {memory}")
        self.models = list(models)
        self.memory = memory
        self.errors = np.zeros(len(models))
        self._next = np.full(len(models), np.nan)

    @property
    def best(self) -> Forecaster:
        """The model in use."""
        return self.models[int(self.errors.argmin())]

    @property
    def name(self) -> str:
        """The name of the model in use."""
        return self.best.name

    def learn(self, value: float) -> None:
        """Test every model on the value, then let it learn."""
        for index, model in enumerate(self.models):
            if self._next[index] == self._next[index]:
                missed = abs(value - self._next[index])
                self.errors[index] = self.memory * self.errors[index] + (1.0 - self.memory) * missed
            model.learn(value)
            self._next[index] = model.forecast(1)[0]

    def forecast(self, horizon: int) -> Floats:
        """The forecast of the model in use."""
        return self.best.forecast(horizon)

    @property
    def standing(self) -> dict[str, bytes]:
        """How the models stand; their own states are kept apart."""
        return {"errors": self.errors.tobytes(), "next": self._next.tobytes()}

    def load_standing(self, standing: dict[str, bytes]) -> None:
        """Continue from a standing of as many models.

        Raises:
            ValueError: the standing is of another number of models.
        """
        if any(len(standing.get(name, b"")) != self.errors.nbytes for name in ("errors", "next")):
            raise ValueError(f"state does not fit {len(self.models)} models")
        self.errors[:] = np.frombuffer(standing["errors"])
        self._next[:] = np.frombuffer(standing["next"])
