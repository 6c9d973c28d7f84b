"""The region stage: where people gather, in the tiles that one partition owns; the union stage joins the regions.

What a region absorbs, and when, is the union stage's *cut*: rows wait for it. So all regions have absorbed the same rows and
have the same clock when they report, and what their reports add up to is what one window of all positions would hold.
"""

from collections import deque
from collections.abc import Sequence

import msgspec
import numpy as np

from schemas.topics import INTERNAL_UNION
from streams.stages.columns import InternalBatch
from streams.stages.crossing import Cut, Message, decode_message, pieces_of
from streams.stages.internal import OriginGuard
from streams.stages.internal_stage import Rows, concatenated
from streams.stages.output import Routed, StageOutput
from streams.stages.packing import pack_arrays, pack_blobs, unpack_arrays, unpack_blobs
from streams.stages.records import decode_values
from streams.stages.region_window import RegionWindow
from streams.stages.settings import MiningSettings

UNION_PARTITION = 0
MAX_HELD = 400_000


class RegionStage:
    """The state of one partition of the region topic, a function of that partition's records up to ``absorbed_offset``.

    At most ``MAX_HELD`` rows wait for a cut; beyond that they are absorbed early, and reports say that they are not exact until
    a cut has caught up.
    """

    def __init__(self, settings: MiningSettings, partition: int) -> None:
        self.settings = settings
        self.partition = partition
        self.absorbed_offset = -1
        self.guard = OriginGuard(settings.partitions)
        self.window = RegionWindow(settings, partition)
        self._heard = np.full(settings.partitions, -1, np.int64)
        self._reached = np.full(settings.partitions, -1, np.int64)
        self._held: list[Rows] = []
        self._cuts: deque[Cut] = deque()
        self._reports = 0

    @property
    def event_time_s(self) -> float | None:
        """The latest event time that was absorbed, None before the first."""
        return self.window.now_s

    def sizes(self) -> dict[str, int]:
        """How much is held, by kind."""
        return {"points": len(self.window), "rows_in_wait": self._waiting}

    @property
    def _waiting(self) -> int:
        return sum(len(rows["time_ms"]) for rows in self._held)

    def apply(self, messages: Sequence[Message], last_offset: int) -> StageOutput:
        """Absorb messages up to ``last_offset``, one by one: what comes of them does not depend on how they were fetched."""
        counts = {"stale": 0, "received": 0, "admitted": 0, "expired": 0}
        reports: list[Routed] = []
        for message in messages:
            if isinstance(message, InternalBatch):
                self._hold(message, counts)
            elif isinstance(message, Cut):
                self._cuts.append(message)
            while self._cuts and (self._heard >= self._cuts[0].heard).all():
                reports += self._absorb_to(self._cuts.popleft(), counts)
        self.absorbed_offset = last_offset
        return StageOutput(routed=reports, counts=counts)

    def _hold(self, batch: InternalBatch, counts: dict[str, int]) -> None:
        origin = batch.origin_partition
        rows = batch.rows()
        new = self.guard.fresh_rows(origin, np.asarray(rows["origin_offset"]))
        counts["stale"] += new.start
        counts["received"] += new.stop - new.start
        if new.stop > new.start:
            held = {name: np.asarray(column)[new] for name, column in rows.items()}
            self._held.append(held | {"origin": np.full(new.stop - new.start, origin)})
        self._heard[origin] = max(int(self._heard[origin]), batch.through)
        if self._waiting > MAX_HELD:
            self._absorb(concatenated(self._held), counts)
            self._held = []

    def _absorb_to(self, cut: Cut, counts: dict[str, int]) -> list[Routed]:
        heard = np.array(cut.heard)
        if self._held:
            rows = concatenated(self._held)
            ready = (rows["origin_offset"] <= heard[rows["origin"]]) & (rows["time_ms"] <= cut.clock_ms)
            self._held = [] if ready.all() else [{name: column[~ready] for name, column in rows.items()}]
            if ready.any():
                self._absorb({name: column[ready] for name, column in rows.items()}, counts)
        ahead = self.window.now_s is not None and self.window.now_s * 1000.0 > cut.clock_ms
        self.window.advance(cut.clock_ms)
        if not cut.tell:
            return []
        exact = not ahead and bool((self._reached <= heard).all())
        whole = msgspec.structs.replace(self.window.report(cut.bins, cut.full, cut.moves), cut=cut, exact=exact)
        reports = pieces_of(whole, after=self._reports)
        self._reports = reports[-1].number
        return [Routed(INTERNAL_UNION, UNION_PARTITION, report) for report in reports]

    def _absorb(self, rows: Rows, counts: dict[str, int]) -> None:
        order = np.lexsort((rows["origin_offset"], rows["origin"], rows["time_ms"]))
        counts["admitted"] += len(order)
        counts["expired"] += self.window.absorb({name: column[order] for name, column in rows.items()})
        np.maximum.at(self._reached, rows["origin"], rows["origin_offset"])

    # -- state

    def replay(self, first: int, last: int, payload: bytes) -> None:
        """Absorb a chunk of record values; what it gives was published before."""
        del first
        self.apply([decode_message(value) for value in decode_values(payload)], last)

    def to_bytes(self) -> bytes:
        """The whole state of the partition."""
        progress = {
            "absorbed": np.array([self.absorbed_offset]), "guard": self.guard.absorbed, "heard": self._heard,
            "reached": self._reached, "reports": np.array([self._reports]),
        }  # fmt: skip
        return pack_blobs(
            {
                "progress": pack_arrays(progress),
                "window": self.window.to_bytes(),
                "held": pack_arrays(concatenated(self._held) if self._held else {}),
                "cuts": msgspec.msgpack.encode(list(self._cuts)),
            }
        )

    def load(self, data: bytes) -> None:
        """Become the stage of ``to_bytes``. Raises ValueError or msgspec.DecodeError if ``data`` is something else."""
        blobs = unpack_blobs(data)
        if "progress" not in blobs:
            raise ValueError("the state is of a region stage that saw every position: give a new app id and replay")
        progress = unpack_arrays(blobs["progress"])
        self.absorbed_offset = int(progress["absorbed"][0])
        self.guard.absorbed, self._heard, self._reached = progress["guard"], progress["heard"], progress["reached"]
        self._reports = int(progress["reports"][0])
        self.window.load(blobs["window"])
        held = unpack_arrays(blobs["held"])
        self._held = [held] if held else []
        self._cuts = deque(msgspec.msgpack.decode(blobs["cuts"], type=list[Cut]))
