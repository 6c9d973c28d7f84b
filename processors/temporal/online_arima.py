"""Seasonal ARIMA whose coefficients are learned online by Newton steps."""

import msgspec
import numpy as np
from numba import njit

from processors.temporal.arrays import Floats, Ints

_PRIOR_VARIANCE = 0.3
_MAX_TRACE = 1e6
# An error teaches no more than one of so many typical ones.
_MAX_ERROR = 4.0
# A value further out than so many typical errors is an outlier and remembered as one just so far out, unless the
# previous one was out on the same side too: then the level has changed.
_OUTLIER = 10.0
_MIN_KNOWN = 30
_SCALE_MEMORY = 0.99


class ArimaOrder(msgspec.Struct, frozen=True):
    """(p, d, q)(sp, sd, sq)[season] as in the textbooks; seasonal lags are multiples of `season`."""

    p: int = 2
    d: int = 0
    q: int = 1
    season: int = 1
    sp: int = 0
    sd: int = 0
    sq: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: an order is negative, or a seasonal order comes without a season.
        """
        if min(self.p, self.d, self.q, self.sp, self.sd, self.sq) < 0 or self.season < 1:
            raise ValueError(f"orders must not be negative and season at least 1: {self}")
        if self.season == 1 and self.sp + self.sd + self.sq:
            raise ValueError(f"seasonal orders need a season of at least 2: {self}")

    @property
    def name(self) -> str:
        """For example (2,1,1)(1,0,0)[24]."""
        seasonal = f"({self.sp},{self.sd},{self.sq})[{self.season}]" if self.season > 1 else ""
        return f"({self.p},{self.d},{self.q}){seasonal}"

    def differences(self) -> Floats:
        """Coefficients of (1 - B)^d (1 - B^season)^sd, the one of lag 0 first."""
        polynomial = np.ones(1)
        seasonal = np.zeros(self.season + 1)
        seasonal[0], seasonal[-1] = 1.0, -1.0
        for _ in range(self.d):
            polynomial = np.convolve(polynomial, [1.0, -1.0])
        for _ in range(self.sd):
            polynomial = np.convolve(polynomial, seasonal)
        return polynomial

    def value_lags(self) -> Ints:
        """Lags of the differenced series; a seasonal lag comes with its neighbour, as in the multiplied-out model."""
        seasonal = [k * self.season + j for k in range(1, self.sp + 1) for j in (0, 1)]
        return np.unique(np.array([*range(1, self.p + 1), *seasonal], np.int64))

    def error_lags(self) -> Ints:
        """Lags of the one-step errors."""
        seasonal = [k * self.season for k in range(1, self.sq + 1)]
        return np.unique(np.array([*range(1, self.q + 1), *seasonal], np.int64))


@njit(cache=True)
def _features(differenced: Floats, errors: Floats, value_lags: Ints, error_lags: Ints, scale: float, x: Floats) -> None:
    x[0] = 1.0
    n = 1
    for lag in value_lags:
        x[n] = differenced[len(differenced) - lag] / scale
        n += 1
    for lag in error_lags:
        x[n] = errors[len(errors) - lag] / scale
        n += 1


@njit(cache=True)
def _undifferenced(step: float, values: Floats, differences: Floats) -> float:
    for lag in range(1, len(differences)):
        step -= differences[lag] * values[len(values) - lag]
    return step


@njit(cache=True)
def _push(series: Floats, value: float) -> None:
    series[:-1] = series[1:]
    series[-1] = value


@njit(cache=True)
def _learn(
    value: float,
    values: Floats,
    differenced: Floats,
    errors: Floats,
    differences: Floats,
    value_lags: Ints,
    error_lags: Ints,
    weights: Floats,
    inverse_hessian: Floats,
    scales: Floats,
    seen: int,
    forgetting: float,
) -> None:
    """One step of recursive least squares.

    scales = (typical size of the differenced series, of the errors relative to it, direction of the latest outlier).
    """
    step = value
    for lag in range(1, len(differences)):
        step += differences[lag] * values[len(values) - lag]
    known = seen - len(differences) + 1
    if known >= 0:
        memory = min(_SCALE_MEMORY, 1.0 - 1.0 / (known + 2.0))
        size = abs(step)
        if known > _MIN_KNOWN and scales[0] > 0.0:
            size = min(size, _OUTLIER * scales[0])
        scales[0] = memory * scales[0] + (1.0 - memory) * size
        scale = max(scales[0], 1e-9)
        x = np.empty(len(weights))
        _features(differenced, errors, value_lags, error_lags, scale, x)
        error = step / scale - weights @ x
        beyond = abs(error) > _OUTLIER * max(scales[1], 1e-9) and known > _MIN_KNOWN
        direction = np.sign(error) if beyond else 0.0
        if beyond and scales[2] != direction:
            usual = direction * _OUTLIER * max(scales[1], 1e-9)
            value -= (error - usual) * scale
            step -= (error - usual) * scale
            error = usual
        scales[2] = direction
        scales[1] = memory * scales[1] + (1.0 - memory) * abs(error)
        limit = _MAX_ERROR * max(scales[1], 1e-9)
        px = inverse_hessian @ x
        gain = px / (forgetting + x @ px)
        weights += gain * min(max(error, -limit), limit)
        inverse_hessian -= np.outer(gain, px)
        if np.trace(inverse_hessian) < _MAX_TRACE:
            inverse_hessian /= forgetting
        _push(errors, error * scale)
        _push(differenced, step)
    _push(values, value)


@njit(cache=True)
def _forecast(
    horizon: int,
    values: Floats,
    differenced: Floats,
    errors: Floats,
    differences: Floats,
    value_lags: Ints,
    error_lags: Ints,
    weights: Floats,
    scale: float,
) -> Floats:
    values = values.copy()
    differenced = differenced.copy()
    errors = errors.copy()
    x = np.empty(len(weights))
    ahead = np.empty(horizon)
    for h in range(horizon):
        _features(differenced, errors, value_lags, error_lags, scale, x)
        step = (weights @ x) * scale
        ahead[h] = _undifferenced(step, values, differences)
        _push(values, ahead[h])
        _push(differenced, step)
        _push(errors, 0.0)
    return ahead


class OnlineARIMA:
    """Forecasts a series with a seasonal ARIMA model that adapts with every value and has no step size to tune.

    The squared one-step error is minimised by online Newton steps (recursive least squares with forgetting), as in
    ARIMA-ONS (Liu et al., AAAI 2016); like ARIMA-AdaFTRL (Mathematics 9(13):1523) it adapts to the scale of the series.
    The moving-average part regresses on the model's own past errors. An error counts at most as four typical ones, and
    a lone outlier is pulled in, so that it does not come back a season later. `learn` is O(k^2 + longest lag) for k
    coefficients, a few microseconds.

    >>> model = OnlineARIMA(ArimaOrder(p=2, d=1, q=1))
    >>> for step in range(50):
    ...     model.learn(10.0 + 2.0 * step)
    >>> model.forecast(2).round(0).tolist()
    [110.0, 112.0]
    """

    def __init__(self, order: ArimaOrder, forgetting: float = 0.999) -> None:
        if not 0.5 < forgetting <= 1.0:
            raise ValueError(f"forgetting must be in (0.5, 1], got {forgetting}")
        self.order = order
        self.forgetting = forgetting
        self.seen = 0
        self._differences = order.differences()
        self._value_lags, self._error_lags = order.value_lags(), order.error_lags()
        n = 1 + len(self._value_lags) + len(self._error_lags)
        self._values = np.zeros(max(1, len(self._differences) - 1))
        self._differenced = np.zeros(max(1, self._value_lags.max(initial=1)))
        self._errors = np.zeros(max(1, self._error_lags.max(initial=1)))
        self._weights = np.zeros(n)
        self._inverse_hessian = np.eye(n) * _PRIOR_VARIANCE
        self._scales = np.zeros(3)

    @property
    def name(self) -> str:
        """The order."""
        return f"arima{self.order.name}"

    def learn(self, value: float) -> None:
        """Absorb the next value.

        Raises:
            ValueError: the value is not finite; nothing is learned then.
        """
        if not np.isfinite(value):
            raise ValueError(f"value must be finite, got {value}")
        _learn(
            float(value),
            self._values,
            self._differenced,
            self._errors,
            self._differences,
            self._value_lags,
            self._error_lags,
            self._weights,
            self._inverse_hessian,
            self._scales,
            self.seen,
            self.forgetting,
        )
        self.seen += 1

    def forecast(self, horizon: int) -> Floats:
        """Expected values of the next steps; the latest value until the differences are defined."""
        if self.seen < len(self._differences):
            return np.full(horizon, self._values[-1] if self.seen else 0.0)
        return _forecast(
            horizon,
            self._values,
            self._differenced,
            self._errors,
            self._differences,
            self._value_lags,
            self._error_lags,
            self._weights,
            max(float(self._scales[0]), 1e-9),
        )

    @property
    def state(self) -> dict[str, bytes]:
        """The learned arrays, by name."""
        return {name: getattr(self, name).tobytes() for name in _LEARNED} | {"seen": self.seen.to_bytes(8, "little")}

    def load(self, state: dict[str, bytes]) -> None:
        """Continue from a state of the same order.

        Raises:
            ValueError: the state belongs to another order.
        """
        for name in _LEARNED:
            if len(state.get(name, b"")) != getattr(self, name).nbytes:
                raise ValueError(f"state does not fit {self.name}: {name}")
        for name in _LEARNED:
            array = getattr(self, name)
            array[:] = np.frombuffer(state[name]).reshape(array.shape)
        self.seen = int.from_bytes(state["seen"], "little")


_LEARNED = ("_values", "_differenced", "_errors", "_weights", "_inverse_hessian", "_scales")
