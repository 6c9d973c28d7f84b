"""The user stage: what one partition of the event topic says about its users, and what the other stages need of it."""

import numpy as np

from processors.sequence import NO_STATE, TransitionCounts
from schemas import topics
from streams.stages.admission import Admission
from streams.stages.columns import EventColumns, decode_events
from streams.stages.internal import route
from streams.stages.last_items import LastItems
from streams.stages.names import Names
from streams.stages.output import Routed, StageOutput
from streams.stages.packing import pack_arrays, pack_blobs, unpack_arrays, unpack_blobs
from streams.stages.settings import MiningSettings

MS = 1000.0


class UserStage:
    """Validated events of one source partition: admitted once, absorbed per user, and passed on in columns.

    ``apply`` must be given the partition's events in offset order, each once; ``absorbed_offset`` says how far it has come.
    """

    def __init__(self, settings: MiningSettings, partition: int) -> None:
        self.settings = settings
        self.partition = partition
        self.absorbed_offset = -1
        self.names = Names(4 * settings.user.max_users)
        self.admission = Admission(settings.user.admission)
        self.last_items = LastItems(settings.user.max_users)
        self.transitions = TransitionCounts(settings.user.transitions)

    def apply(self, events: EventColumns, last_offset: int) -> StageOutput:
        """Absorb the events up to ``last_offset``. O(events)."""
        self.names.learn(events.names)
        late, repeated = self.admission.admit(events.time_ms, events.user, events.event_hash)
        admitted = events if not (late.any() or repeated.any()) else events.select(~(late | repeated))
        previous, last = self.last_items.advance(admitted.user, admitted.item, admitted.time_ms)
        time_s = admitted.time_ms / MS
        changes = self.transitions.update(
            np.stack([previous, last], axis=1), admitted.item, time_s, owners=admitted.user
        )
        forgotten = self.last_items.forget_surplus()
        self.absorbed_offset = last_offset
        return StageOutput(
            routed=self._routed(admitted, last),
            late=events.offset[late],
            counts={
                "admitted": len(admitted),
                "late": int(late.sum()),
                "repeated": int(repeated.sum()),
                "evicted_users": len(forgotten),
                "evicted_contexts": len(changes.evicted),
            },
        )

    def _routed(self, admitted: EventColumns, last: np.ndarray) -> list[Routed]:
        follows = np.flatnonzero(last != NO_STATE)
        columns = {
            "origin_offset": admitted.offset[follows],
            "time_ms": admitted.time_ms[follows],
            "user": admitted.user[follows],
            "from_item": last[follows],
            "item": admitted.item[follows],
        }
        origin = (self.partition, self.admission.watermark_ms)
        return route(
            topics.INTERNAL_TRANSITION, columns["from_item"] % self.settings.partitions, columns,
            named=("from_item", "item"), names=self.names, origin=origin,
        )  # fmt: skip

    # -- state

    def replay(self, first: int, last: int, payload: bytes) -> None:
        """Absorb a chunk that ``encode_events`` wrote; what it gives was emitted before."""
        del first
        self.apply(decode_events(payload), last)

    def to_bytes(self) -> bytes:
        """The whole state of the partition."""
        return pack_blobs(
            {
                "offset": pack_arrays({"absorbed": np.array([self.absorbed_offset])}),
                "names": self.names.to_bytes(),
                "admission": pack_arrays(self.admission.state()),
                "last_items": pack_arrays(self.last_items.state()),
                "transitions": self.transitions.to_bytes(),
            }
        )

    def load(self, data: bytes) -> None:
        """Become the stage of ``to_bytes``. Raises ValueError or msgspec.DecodeError if ``data`` is something else."""
        blobs, own = unpack_blobs(data), self.settings.user
        self.absorbed_offset = int(unpack_arrays(blobs["offset"])["absorbed"][0])
        self.names = Names.from_bytes(self.names.max_names, blobs["names"])
        self.admission = Admission.from_state(own.admission, unpack_arrays(blobs["admission"]))
        self.last_items = LastItems.from_state(own.max_users, unpack_arrays(blobs["last_items"]))
        self.transitions = TransitionCounts.from_bytes(blobs["transitions"])
