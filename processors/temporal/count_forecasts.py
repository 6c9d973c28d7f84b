"""Forecasts of many entities' counts: models that compete, intervals that keep their coverage, surges and drops."""

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from processors.temporal.arrays import Floats
from processors.temporal.conformal import AdaptiveIntervals
from processors.temporal.forecaster import RestorableForecaster, SeasonalNaive
from processors.temporal.model_choice import PrequentialChoice
from processors.temporal.online_arima import ArimaOrder, OnlineARIMA
from processors.temporal.skill import ForecastSkill
from processors.temporal.surge import Surge, SurgeDetector


class ForecastSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a `ForecastBank`; the defaults suit hourly counts with a daily and a weekly season."""

    seasons: tuple[int, ...] = (24, 168)
    horizon: int = 24
    coverage: float = 0.9
    max_keys: int = 2000

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: names the setting that is out of range.
        """
        for name, is_fine in (
            ("seasons", bool(self.seasons) and min(self.seasons, default=0) >= 2),
            ("horizon", self.horizon >= 1),
            ("coverage", 0 < self.coverage < 1),
            ("max_keys", self.max_keys >= 1),
        ):
            if not is_fine:
                raise ValueError(f"{name} is out of range: {getattr(self, name)!r}")


class CountForecast(NamedTuple):
    """Expected counts of the next bins with their interval, and whether the bin just learned was out of the ordinary.

    ``bins`` were learned, ``support`` is the decayed number of events in them, ``significance`` is that of `ForecastSkill`.
    """

    key: int
    mean: Floats
    low: Floats
    high: Floats
    model: str
    surge: Surge
    bins: int
    support: float
    significance: float


class ForecasterState(msgspec.Struct, frozen=True, array_like=True):
    """What one entity's forecaster has learned."""

    models: list[dict[str, bytes]]
    standing: dict[str, bytes]
    intervals: list[bytes]
    upcoming: float
    surges: list[float]
    skill: list[float]


class _BankState(msgspec.Struct, frozen=True, array_like=True):
    settings: ForecastSettings
    forecasters: dict[int, ForecasterState]
    level: dict[int, float]
    evicted_keys: int


def candidate_models(seasons: tuple[int, ...]) -> list[RestorableForecaster]:
    """Simple first: a baseline per season, ARIMA without a season, seasonal ARIMAs for the shortest and a last one."""
    models: list[RestorableForecaster] = [SeasonalNaive(season) for season in seasons]
    orders = [ArimaOrder(3, 1, 1)]
    orders += [ArimaOrder(1, 0, 1, season, 0, 1, 1) for season in seasons]
    orders += [ArimaOrder(3, 0, 1, seasons[0], 1, 1, 1), ArimaOrder(2, 1, 1, seasons[0], 1, 0, 0)]
    return models + [OnlineARIMA(order) for order in orders]


class CountForecaster:
    """One entity: learns a count and tells what comes next."""

    def __init__(self, settings: ForecastSettings) -> None:
        self.settings = settings
        self.models = candidate_models(settings.seasons)
        self.choice = PrequentialChoice(self.models)
        self.intervals = AdaptiveIntervals(settings.horizon, settings.coverage)
        self.surges = SurgeDetector()
        self.skill = ForecastSkill()
        self._next = np.nan

    def learn(self, key: int, count: float) -> CountForecast:
        """Absorb the count of the next bin. Tens of microseconds."""
        surge: Surge = "none" if np.isnan(self._next) else self.surges.update(count, self._next)
        self.skill.update(count, self._next)
        self.intervals.settle(count)
        self.choice.learn(count)
        mean = np.maximum(self.choice.forecast(self.settings.horizon), 0.0)
        low, high = self.intervals.issue(mean)
        self._next = float(mean[0])
        skill = self.skill
        found = mean, np.maximum(low, 0.0), np.maximum(high, 0.0), self.choice.name, surge
        return CountForecast(key, *found, skill.bins, skill.events, skill.significance)

    @property
    def state(self) -> ForecasterState:
        """What has been learned."""
        states = [model.state for model in self.models]
        told = self.surges.state, self.skill.state
        return ForecasterState(states, self.choice.standing, self.intervals.state, self._next, *told)

    def load(self, state: ForecasterState) -> None:
        """Continue from a state of the same settings.

        Raises:
            ValueError: the state belongs to other settings.
        """
        if len(state.models) != len(self.models):
            raise ValueError(f"state does not fit {len(self.models)} models")
        for model, own in zip(self.models, state.models):
            model.load(own)
        self.choice.load_standing(state.standing)
        self.intervals.load(state.intervals)
        self._next = state.upcoming
        self.surges.load(state.surges)
        self.skill.load(state.skill)


class ForecastBank:
    """A `CountForecaster` per key, at most `max_keys`; beyond, the keys with the smallest recent counts go.

    Feed it the closed bins of a `CountBins`, in order.

    >>> bank = ForecastBank(ForecastSettings(seasons=(4,), horizon=2))
    >>> for step in range(60):
    ...     (forecast,) = bank.update([7], [[0, 5, 9, 2][step % 4]])
    >>> forecast.mean.round().astype(int).tolist(), forecast.surge
    ([0, 5], 'none')
    """

    def __init__(self, settings: ForecastSettings | None = None) -> None:
        self.settings = settings if settings is not None else ForecastSettings()
        self.evicted_keys = 0
        self._forecasters: dict[int, CountForecaster] = {}
        self._level: dict[int, float] = {}

    def __len__(self) -> int:
        """Number of keys held."""
        return len(self._forecasters)

    @property
    def keys(self) -> list[int]:
        """The keys held."""
        return list(self._forecasters)

    def update(self, keys: npt.ArrayLike, counts: npt.ArrayLike) -> list[CountForecast]:
        """Learn one bin (keys int64[n] without repeats, counts[n]); forecasts of these keys that are still held.

        Raises:
            ValueError: lengths differ, a key comes twice, or a count is negative or not finite; nothing is learned then.
        """
        names = np.asarray(keys, np.int64).tolist()
        values = np.asarray(counts, np.float64)
        if values.shape != (len(names),) or len(set(names)) != len(names):
            raise ValueError("keys and counts must be columns of one length without repeated keys")
        if not np.all(np.isfinite(values)) or np.any(values < 0):
            raise ValueError("counts must be finite and not negative")
        for key, value in zip(names, values.tolist()):
            if key not in self._forecasters:
                self._forecasters[key] = CountForecaster(self.settings)
            self._level[key] = 0.9 * self._level.get(key, 0.0) + 0.1 * value
        self._evict()
        held = [(key, value) for key, value in zip(names, values.tolist()) if key in self._forecasters]
        return [self._forecasters[key].learn(key, value) for key, value in held]

    def _evict(self) -> None:
        excess = len(self._forecasters) - self.settings.max_keys
        if excess > 0:
            for key in sorted(self._level, key=lambda one: (self._level[one], one))[:excess]:
                self.forget(key)
            self.evicted_keys += excess

    def forget(self, key: int) -> None:
        """Drop a key that is gone; nothing happens for an unknown one."""
        self._forecasters.pop(key, None)
        self._level.pop(key, None)

    def to_bytes(self) -> bytes:
        """Settings and state; `from_bytes` gives a bank that goes on exactly like this one."""
        states = {key: one.state for key, one in self._forecasters.items()}
        return msgspec.msgpack.encode(_BankState(self.settings, states, self._level, self.evicted_keys))

    @classmethod
    def from_bytes(cls, data: bytes) -> "ForecastBank":
        """A bank from `to_bytes`.

        Raises:
            ValueError: not the state of a bank.
        """
        try:
            state = msgspec.msgpack.decode(data, type=_BankState)
        except msgspec.MsgspecError as error:
            raise ValueError(f"data cannot be decoded: {error}") from error
        bank = cls(state.settings)
        for key, own in state.forecasters.items():
            bank._forecasters[key] = CountForecaster(state.settings)
            bank._forecasters[key].load(own)
        bank._level, bank.evicted_keys = dict(state.level), state.evicted_keys
        return bank

    @staticmethod
    def warm_up() -> None:
        """Compile every kernel."""
        forecaster = CountForecaster(ForecastSettings(seasons=(2, 3), horizon=2))
        for step in range(12):
            forecaster.learn(0, float(step % 3))
