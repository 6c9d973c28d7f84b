"""The union stage: what all regions absorb at a time, and the crowds of the whole map from what they report of it.

It reads every position, though not to look for crowds: it puts those of all origins in one order of time and tells the
regions up to where to absorb them (a *cut*). Now and then a cut asks for reports. These are of the same rows and the same
clock whatever the worker and its speed, so the crowds that they add up to are those of a single window. Co-visits know no
tiles and are counted here.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from schemas.patterns import Pattern
from schemas.topics import INTERNAL_REGION
from streams.stages.alignment import UNHEARD_MS
from streams.stages.crossing import Cut, Message, RegionReport, decode_message, rows_among
from streams.stages.crowd_counts import NO_BINS
from streams.stages.crowd_stage import CrowdStage
from streams.stages.internal_stage import Rows
from streams.stages.output import Routed, StageOutput, key_of
from streams.stages.packing import pack_arrays, unpack_arrays
from streams.stages.records import decode_values
from streams.stages.settings import MiningSettings
from streams.stages.tiles import Background

# So many rows may wait for their cut: a telling should not have to wait until the regions have absorbed too many.
MAX_UNCUT = 1_000
# A telling that is not answered for so long is repeated: the reports may be of cuts that another version of the code had made.
UNANSWERED_MS = 60_000


class UnionStage(CrowdStage):
    """The state of the union's one partition, a function of its records up to ``absorbed_offset``.

    One telling is under way at a time: a cut with ``tell``, answered by every region. If a region has absorbed more than the cut
    (it had taken in an earlier copy of it before this stage's worker crashed), the telling is repeated in full.
    """

    def __init__(self, settings: MiningSettings, partition: int) -> None:
        super().__init__(settings, partition)
        self.clock_ms = UNHEARD_MS
        self._heard = np.full(settings.partitions, -1, np.int64)
        self._reports = np.zeros(settings.partitions, np.int64)
        self._number = 0
        self._asked: Cut | None = None
        self._answers: dict[int, bool] = {}
        self._again = False

    @property
    def event_time_s(self) -> float | None:
        """The latest event time that was absorbed, None before the first."""
        return None if self.clock_ms == UNHEARD_MS else self.clock_ms / 1000.0

    def apply(self, messages: Sequence[Message], last_offset: int) -> StageOutput:
        """Absorb rows and reports up to ``last_offset``: the patterns that are due, and a cut if one is."""
        patterns: list[Pattern] = [*self.teller.tell_moves(last_offset)]
        batches = rows_among(messages)
        for batch in batches:
            self._heard[batch.origin_partition] = max(int(self._heard[batch.origin_partition]), batch.through)
        before, counts = self._since_told, self._take_in(batches)
        self.absorbed_offset = last_offset
        for message in messages:
            if isinstance(message, RegionReport):
                patterns += self._answered(message)
        many = self._since_told // MAX_UNCUT > before // MAX_UNCUT
        routed = self._next_cut(many)
        newest = {key_of(pattern): pattern for pattern in [*patterns, *self._due_patterns(last_offset)]}
        return StageOutput(patterns=list(newest.values()), routed=routed, counts=counts)

    def _absorb(self, rows: Rows) -> dict[str, int]:
        self.clock_ms = max(self.clock_ms, int(rows["time_ms"].max()))
        return super()._absorb(rows)

    def _due_patterns(self, version: int) -> list[Pattern]:
        return self.covisits.due(self.names, self.clock_ms, version)

    def _next_cut(self, many: bool) -> list[Routed]:
        if self._asked is not None and (self._sent_ms - self._told_ms).max() > UNANSWERED_MS:
            self._asked, self._again = None, True
        tell = self._asked is None and (self._again or self._is_due(self.teller.window_points))
        if not (many or tell):
            return []
        self._number += 1
        bins = self.teller.counts.bins_due(self.clock_ms) if tell else NO_BINS
        moves = tell and self.teller.asks_for_moves()
        cut = Cut(self._number, self._heard.tolist(), self.clock_ms, tell, tell and self._again, bins, moves)
        if tell:
            self._asked, self._answers, self._again = cut, {}, False
            self._note_telling()
        return [Routed(INTERNAL_REGION, region, cut) for region in range(self.settings.partitions)]

    def _answered(self, report: RegionReport) -> Sequence[Pattern]:
        """Take a region's report; what there is to tell once all have answered."""
        if report.number <= self._reports[report.partition]:
            return []
        self._reports[report.partition] = report.number
        self.teller.take(report)
        if report.more or report.cut != self._asked:
            return []
        self._answers[report.partition] = report.exact
        if len(self._answers) < self.settings.partitions:
            return []
        asked, self._asked = self._asked, None
        assert asked is not None
        if not all(self._answers.values()):
            self._again = True
            return []
        return self.teller.tell(asked.clock_ms, self.background.area_m2, self.names, self.absorbed_offset)

    # -- state

    def replay(self, first: int, last: int, payload: bytes) -> None:
        """Absorb a chunk of record values; what it gives was published before."""
        del first
        self.apply([decode_message(value) for value in decode_values(payload)], last)

    def _own_blobs(self) -> dict[str, bytes]:
        progress = [self.clock_ms, self._number, self._since_told, self._asked, self._answers, self._again]
        arrays = {"heard": self._heard, "reports": self._reports, "tiles": self.background.numbers}
        return super()._own_blobs() | {
            "arrays": pack_arrays(arrays),
            "progress": msgspec.msgpack.encode(progress),
        }

    def _load_blobs(self, blobs: Mapping[str, bytes]) -> None:
        super()._load_blobs(blobs)
        arrays = unpack_arrays(blobs["arrays"])
        self._heard, self._reports = arrays["heard"], arrays["reports"]
        self.background = Background(arrays["tiles"])
        kinds = tuple[int, int, int, Cut | None, dict[int, bool], bool]
        progress = msgspec.msgpack.decode(blobs["progress"], type=kinds)
        self.clock_ms, self._number, self._since_told, self._asked, self._answers, self._again = progress
