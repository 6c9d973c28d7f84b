"""What a stage says of entities whose visits are counted: how many come next, and with what period they become busy."""

from collections.abc import Callable, Iterable

import numpy as np

from processors.temporal import ClosedBin, PeriodicitySettings
from processors.temporal.onsets import Onsets
from schemas.patterns import EntityKind, Pattern
from streams.stages.forecasting import ForecastWatch
from streams.stages.packing import pack_blobs, unpack_blobs
from streams.stages.periodicity import PeriodWatch
from streams.stages.settings import ForecastWatchSettings


class CountRhythms:
    """Forecasts and periods of the busiest entities of one kind, from the same counts.

    Of an entity that many visit, single visits say little; its events are the hours in which it goes from quiet to busy. The
    entities are those that are forecast, and periods of twice as many are remembered.
    """

    def __init__(
        self, settings: ForecastWatchSettings, entity_kind: EntityKind, naming: Callable[[int], str | None]
    ) -> None:
        self.forecasts = ForecastWatch(settings, entity_kind, naming)
        self.onsets = Onsets(max(settings.seasons))

        def named(key: int) -> dict[str, str] | None:
            name = naming(key)
            return None if name is None else {"entity_kind": entity_kind, "entity": name}

        self.periods = PeriodWatch(PeriodicitySettings(max_keys=2 * settings.max_keys), named)

    def __len__(self) -> int:
        """Number of entities forecast."""
        return len(self.forecasts)

    def update(self, keys: np.ndarray, time_s: np.ndarray) -> int:
        """Count events of keys (int64[n], float64[n]) into bins; the number of keys that were too many. O(events)."""
        closed, evicted = self.forecasts.count(keys, time_s)
        self.close(closed)
        return evicted

    def close(self, closed: Iterable[ClosedBin]) -> None:
        """Take in bins that were counted elsewhere, in order of time."""
        bins = list(closed)
        self.forecasts.close(bins)
        if bins:
            onsets = [self.onsets.update(one) for one in bins]
            self.periods.update(np.concatenate([keys for keys, _ in onsets]), np.concatenate([at for _, at in onsets]))

    @property
    def untested(self) -> int:
        """An upper bound of the budget that ``examine`` may find worth it."""
        return self.forecasts.untested + self.periods.untested

    def examine(self, budget: int, version: int) -> list[Pattern]:
        """Learn what waits and look for periods, at most ``budget`` examinations' worth; half of it each if both need it."""
        half = max(budget - self.periods.untested, -(-budget // 2))
        learned = min(half, self.forecasts.untested)
        return self.forecasts.examine(learned) + self.periods.examine(budget - learned, version)

    def to_bytes(self) -> bytes:
        """All of it; ``load`` gives one that goes on exactly like this one."""
        return pack_blobs(
            {
                "forecasts": self.forecasts.to_bytes(),
                "onsets": self.onsets.to_bytes(),
                "periods": self.periods.to_bytes(),
            }
        )

    def load(self, data: bytes) -> None:
        """Become the one of ``to_bytes``. Raises ValueError or msgspec.DecodeError if ``data`` is something else."""
        blobs = unpack_blobs(data)
        if "forecasts" not in blobs:  # states written before counts had periods are the forecasts alone
            self.forecasts.load(data)
            return
        self.forecasts.load(blobs["forecasts"])
        self.onsets = Onsets.from_bytes(blobs["onsets"])
        self.periods.load(blobs["periods"])
