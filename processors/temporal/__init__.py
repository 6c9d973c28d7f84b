"""When they come back: periods, hour-of-week profiles, forecasts and surges."""

from processors.temporal.bank import BankChanges, PeriodicityBank
from processors.temporal.conformal import AdaptiveIntervals
from processors.temporal.count_bins import ClosedBin, CountBins
from processors.temporal.count_forecasts import CountForecast, CountForecaster, ForecastBank, ForecastSettings
from processors.temporal.examination import PeriodChange
from processors.temporal.forecaster import Forecaster, SeasonalNaive
from processors.temporal.hour_profile import HourProfiles, HourProfileSettings
from processors.temporal.local_time import nautical_offset_s
from processors.temporal.model_choice import PrequentialChoice
from processors.temporal.online_arima import ArimaOrder, OnlineARIMA
from processors.temporal.periods import Period, PeriodicitySettings
from processors.temporal.snarimax import RiverSnarimax
from processors.temporal.surge import SurgeDetector

__all__ = [
    "AdaptiveIntervals",
    "ArimaOrder",
    "BankChanges",
    "ClosedBin",
    "CountBins",
    "CountForecast",
    "CountForecaster",
    "ForecastBank",
    "ForecastSettings",
    "Forecaster",
    "HourProfileSettings",
    "HourProfiles",
    "OnlineARIMA",
    "Period",
    "PeriodChange",
    "PeriodicityBank",
    "PeriodicitySettings",
    "PrequentialChoice",
    "RiverSnarimax",
    "SeasonalNaive",
    "SurgeDetector",
    "nautical_offset_s",
]
