"""The transition stage: what follows what in the whole population, for the from-states of one partition."""

from collections.abc import Mapping

import numpy as np

from processors.sequence import NO_STATE
from schemas.patterns import Pattern
from streams.stages.following import Following
from streams.stages.internal_stage import InternalStage, Rows
from streams.stages.packing import pack_arrays, pack_blobs, unpack_arrays, unpack_blobs
from streams.stages.settings import MiningSettings

MS = 1000.0


class TransitionStage(InternalStage):
    """Decayed counts of what follows what: items by their from-item, categories all in one partition.

    A row may speak of items, of categories, or of both; of what it does not speak, its from-state is NO_STATE.
    """

    optional_columns = ("user", "previous_item", "category", "from_category", "previous_category")

    def __init__(self, settings: MiningSettings, partition: int) -> None:
        super().__init__(settings, partition, max_names=settings.transition.counts.max_contexts)
        self.items = Following("item", settings.transition, settings.partitions)
        self.categories = Following("category", settings.transition, 1)
        self._now_s = 0.0

    @property
    def event_time_s(self) -> float | None:
        """The latest event time that was absorbed, None before the first."""
        return self._now_s or None

    def sizes(self) -> dict[str, int]:
        """How much is held, by kind."""
        categories = {f"category_{kind}": number for kind, number in self.categories.sizes().items()}
        return super().sizes() | self.items.sizes() | categories

    def _absorb(self, rows: Rows) -> dict[str, int]:
        self._now_s = max(self._now_s, float(rows["time_ms"].max()) / MS)
        evicted = _absorbed(self.items, rows, "previous_item", "from_item", "item")
        evicted += _absorbed(self.categories, rows, "previous_category", "from_category", "category")
        return {"evicted_contexts": evicted}

    def _due_patterns(self, version: int) -> list[Pattern]:
        items = self.items.due(version, self._now_s, self.names)
        return items + self.categories.due(version, self._now_s, self.names)

    def _own_blobs(self) -> dict[str, bytes]:
        categories = pack_blobs(self.categories.blobs())
        return self.items.blobs() | {"categories": categories, "now": pack_arrays({"now_s": np.array([self._now_s])})}

    def _load_blobs(self, blobs: Mapping[str, bytes]) -> None:
        self.items.load(blobs)
        if "categories" in blobs:  # states written before categories had transitions
            self.categories.load(unpack_blobs(blobs["categories"]))
        self._now_s = float(unpack_arrays(blobs["now"])["now_s"][0])


def _absorbed(following: Following, rows: Rows, previous: str, last: str, state: str) -> int:
    spoken = rows[last] != NO_STATE
    if not spoken.all():
        rows = {name: rows[name][spoken] for name in (previous, last, state, "user", "time_ms")}
    if not len(rows[last]):
        return 0
    return following.absorb(rows[previous], rows[last], rows[state], rows["user"], rows["time_ms"] / MS)
