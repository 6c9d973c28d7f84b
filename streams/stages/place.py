"""The place stage: when the items of one partition are visited."""

import math
from collections.abc import Mapping

from schemas.patterns import Pattern
from streams.stages.internal_stage import InternalStage, Rows
from streams.stages.periodicity import PeriodWatch
from streams.stages.settings import MiningSettings

MS = 1000.0


class PlaceStage(InternalStage):
    """Per item the periods of its visits, whoever comes."""

    def __init__(self, settings: MiningSettings, partition: int) -> None:
        super().__init__(settings, partition, max_names=2 * settings.place.periodicity.max_keys, in_time_order=True)
        self.periods = PeriodWatch(settings.place.periodicity, self._name_of_item)

    def examine(self, budget: int) -> list[Pattern]:
        """Look for changed periods among the keys that may have some, at most ``budget`` of them; milliseconds per key."""
        return self.periods.examine(budget, self.absorbed_offset)

    @property
    def untested(self) -> int:
        """An upper bound of the keys that ``examine`` may find worth it."""
        return self.periods.untested

    @property
    def event_time_s(self) -> float | None:
        """The latest event time that was absorbed, None before the first."""
        latest_s = self.periods.bank.latest_s
        return latest_s if math.isfinite(latest_s) else None

    def sizes(self) -> dict[str, int]:
        """How much is held, by kind."""
        return super().sizes() | {"periodic_keys": len(self.periods.bank)}

    def _absorb(self, rows: Rows) -> dict[str, int]:
        return {"evicted_periods": self.periods.update(rows["item"], rows["time_ms"] / MS)}

    def _due_patterns(self, version: int) -> list[Pattern]:
        return []

    def _name_of_item(self, code: int) -> dict[str, str] | None:
        name = self.names.get(code)
        return None if name is None else {"entity_kind": "item", "entity": name, "item_id": name}

    def _own_blobs(self) -> dict[str, bytes]:
        return {"periods": self.periods.to_bytes()}

    def _load_blobs(self, blobs: Mapping[str, bytes]) -> None:
        self.periods.load(blobs["periods"])
