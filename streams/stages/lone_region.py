"""The region stage of an application with one partition: the whole map in one window, and nobody to agree with."""

from collections.abc import Mapping

import numpy as np

from schemas.patterns import Pattern
from streams.stages.crowd_stage import CrowdStage
from streams.stages.internal_stage import Rows
from streams.stages.packing import pack_arrays, unpack_arrays
from streams.stages.region_window import RegionWindow
from streams.stages.settings import MiningSettings
from streams.stages.tiles import Background

MS = 1000.0


class LoneRegionStage(CrowdStage):
    """The sliding window of all positions, its crowds and the co-visits."""

    def __init__(self, settings: MiningSettings, partition: int) -> None:
        super().__init__(settings, partition)
        self.window = RegionWindow(settings, partition)

    @property
    def event_time_s(self) -> float | None:
        """The latest event time that was absorbed, None before the first."""
        return self.window.now_s

    def sizes(self) -> dict[str, int]:
        """How much is held, by kind. O(clusters)."""
        return super().sizes() | {"points": len(self.window)}

    def _absorb(self, rows: Rows) -> dict[str, int]:
        super()._absorb(rows)
        expired = self.window.absorb(rows)
        self._since_told -= expired
        return {"expired": expired}

    def _due_patterns(self, version: int) -> list[Pattern]:
        if self.window.now_s is None:
            return []
        now_ms = round(self.window.now_s * MS)
        due: list[Pattern] = [*self.teller.tell_moves(version), *self.covisits.due(self.names, now_ms, version)]
        if not self._is_due(len(self.window)):
            return due
        self._note_telling()
        self.teller.take(self.window.report(self.teller.counts.bins_due(now_ms), moves=self.teller.asks_for_moves()))
        return [*self.teller.tell(now_ms, self.background.area_m2, self.names, version), *due]

    def _own_blobs(self) -> dict[str, bytes]:
        own = {"since": np.array([self._since_told]), "tiles": self.background.numbers}
        return super()._own_blobs() | {"window": self.window.to_bytes(), "own": pack_arrays(own)}

    def _load_blobs(self, blobs: Mapping[str, bytes]) -> None:
        super()._load_blobs(blobs)
        self.window.load(blobs["window"])
        own = unpack_arrays(blobs["own"])
        self._since_told = int(own["since"][0])
        self.background = Background(own["tiles"])
