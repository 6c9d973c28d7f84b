"""What the stages that tell of crowds share, whether they hold the window themselves or ask regions for reports of theirs."""

from collections.abc import Mapping

from schemas.patterns import Pattern
from streams.stages.covisiting import CoVisitWatch
from streams.stages.crowd_teller import CrowdTeller
from streams.stages.internal_stage import InternalStage, Rows
from streams.stages.settings import SUMMARISE_EVERY, MiningSettings
from streams.stages.tiles import Background


class CrowdStage(InternalStage):
    """All positions in one order of time: their crowds are told when enough points are new, and co-visits are counted."""

    def __init__(self, settings: MiningSettings, partition: int) -> None:
        super().__init__(settings, partition, max_names=settings.region.max_names, in_time_order=True)
        self.teller = CrowdTeller(settings.region, partition)
        self.covisits = CoVisitWatch(settings.region)
        self.background = Background()
        self._since_told = 0

    def examine(self, budget: int) -> list[Pattern]:
        """Learn from the closed bins of the public crowds; milliseconds for each unit of the budget."""
        return self.teller.rhythms.examine(budget, self.absorbed_offset)

    @property
    def untested(self) -> int:
        """An upper bound of the budget that ``examine`` may find worth it."""
        return self.teller.rhythms.untested

    def sizes(self) -> dict[str, int]:
        """How much is held, by kind. O(clusters)."""
        return super().sizes() | self.teller.sizes()

    def _absorb(self, rows: Rows) -> dict[str, int]:
        number = len(rows["time_ms"])
        self.background.note(rows["lat"], rows["lon"])
        self.covisits.absorb(rows)
        self.teller.moves.note(number)
        self._since_told += number
        return {}

    def _is_due(self, window_points: int) -> bool:
        """Whether crowds are to be told, which bounds the cost per event: when ``SUMMARISE_EVERY`` of the window is new."""
        return self._since_told > 0 and self._since_told >= SUMMARISE_EVERY * window_points

    def _own_blobs(self) -> dict[str, bytes]:
        return {"teller": self.teller.to_bytes(), "covisits": self.covisits.to_bytes()}

    def _load_blobs(self, blobs: Mapping[str, bytes]) -> None:
        self.teller.load(blobs["teller"])
        self.covisits.load(blobs["covisits"])
