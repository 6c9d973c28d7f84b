"""When they come back: periods, hour-of-week profiles, forecasts and surges."""

from processors.temporal.bank import BankChanges, PeriodicityBank
from processors.temporal.examination import PeriodChange
from processors.temporal.periods import Period, PeriodicitySettings

__all__ = ["BankChanges", "Period", "PeriodChange", "PeriodicityBank", "PeriodicitySettings"]
