"""river's SNARIMAX behind the forecaster interface."""

import numpy as np
from river import time_series

from processors.temporal.arrays import Floats
from processors.temporal.online_arima import ArimaOrder


class RiverSnarimax:
    """river's SNARIMAX (a scaled linear regression by stochastic gradient on the lags).

    Slower than `OnlineARIMA` and, with river's default regressor, less accurate; here for those who bring a regressor of
    their own and as the yardstick. Its forecast is the latest value until river has one.
    """

    def __init__(self, order: ArimaOrder) -> None:
        self.order = order
        self.model = time_series.SNARIMAX(
            p=order.p, d=order.d, q=order.q, m=order.season, sp=order.sp, sd=order.sd, sq=order.sq
        )
        self._latest = 0.0
        self._seen = 0

    @property
    def name(self) -> str:
        """The order."""
        return f"snarimax{self.order.name}"

    def learn(self, value: float) -> None:
        """Absorb the next value."""
        self.model.learn_one(value)
        self._latest = value
        self._seen += 1

    def forecast(self, horizon: int) -> Floats:
        """Expected values of the next steps."""
        needed = self.order.d + self.order.season * self.order.sd
        if self._seen <= needed:
            return np.full(horizon, self._latest)
        ahead = np.asarray(self.model.forecast(horizon=horizon), np.float64)
        return np.where(np.isfinite(ahead), ahead, self._latest)
