"""The place stage: when the items of one partition are visited, and how many visits they and the categories will have."""

import math
from collections.abc import Mapping

from processors.sequence import NO_STATE
from schemas.patterns import Pattern
from streams.stages.count_rhythms import CountRhythms
from streams.stages.forecasting import ForecastWatch
from streams.stages.internal_stage import InternalStage, Rows
from streams.stages.periodicity import PeriodWatch
from streams.stages.settings import MiningSettings

MS = 1000.0


class PlaceStage(InternalStage):
    """Per item the periods of its visits, whoever comes; per item and category forecasts of its counts; when categories are busy.

    A row is a visit of its item, of its category, or of both: those that live in this partition.
    """

    def __init__(self, settings: MiningSettings, partition: int) -> None:
        super().__init__(settings, partition, max_names=2 * settings.place.periodicity.max_keys, in_time_order=True)
        own = settings.place
        self.periods = PeriodWatch(own.periodicity, self._name_of_item)
        self.item_forecasts = ForecastWatch(own.forecasts, "item", self._name_of)
        self.categories = CountRhythms(own.forecasts, "category", self._name_of)
        self._turns: tuple[PeriodWatch | ForecastWatch | CountRhythms, ...]
        self._turns = (self.periods, self.item_forecasts, self.categories)

    def examine(self, budget: int) -> list[Pattern]:
        """Spend ``budget`` on keys whose periods may have changed and on bins to learn from; milliseconds for each unit."""
        patterns: list[Pattern] = []
        self._turns = self._turns[1:] + self._turns[:1]
        waiting = [watch for watch in self._turns if watch.untested]
        for at, watch in enumerate(waiting):
            share = min(-(-budget // (len(waiting) - at)), watch.untested)
            budget -= share
            if isinstance(watch, ForecastWatch):
                patterns += watch.examine(share)
            else:
                patterns += watch.examine(share, self.absorbed_offset)
        return patterns

    @property
    def untested(self) -> int:
        """An upper bound of the budget that ``examine`` may find worth it."""
        return sum(watch.untested for watch in self._turns)

    @property
    def event_time_s(self) -> float | None:
        """The latest event time that was absorbed, None before the first."""
        latest_s = self.periods.bank.latest_s
        return latest_s if math.isfinite(latest_s) else None

    def sizes(self) -> dict[str, int]:
        """How much is held, by kind."""
        return super().sizes() | {
            "periodic_keys": len(self.periods.bank) + len(self.categories.periods.bank),
            "forecast_keys": len(self.item_forecasts) + len(self.categories),
        }

    def _absorb(self, rows: Rows) -> dict[str, int]:
        time_s, visited, kind = rows["time_ms"] / MS, rows["item"] != NO_STATE, rows["category"] != NO_STATE
        evicted = self.item_forecasts.update(rows["item"][visited], time_s[visited])
        evicted += self.categories.update(rows["category"][kind], time_s[kind])
        return {
            "admitted": int(visited.sum()),
            "evicted_periods": self.periods.update(rows["item"][visited], time_s[visited]),
            "evicted_forecasts": evicted,
        }

    def _due_patterns(self, version: int) -> list[Pattern]:
        return []

    def _name_of(self, code: int) -> str | None:
        return self.names.get(code)

    def _name_of_item(self, code: int) -> dict[str, str] | None:
        name = self.names.get(code)
        return None if name is None else {"entity_kind": "item", "entity": name, "item_id": name}

    def _own_blobs(self) -> dict[str, bytes]:
        return {
            "periods": self.periods.to_bytes(),
            "item_forecasts": self.item_forecasts.to_bytes(),
            "category_forecasts": self.categories.to_bytes(),
        }

    def _load_blobs(self, blobs: Mapping[str, bytes]) -> None:
        self.periods.load(blobs["periods"])
        for name, watch in (("item_forecasts", self.item_forecasts), ("category_forecasts", self.categories)):
            if name in blobs:  # states written before there were forecasts
                watch.load(blobs[name])
