"""Which places are visited together: told when a pair has enough support, and again now and then as its place is visited."""

import msgspec

from processors.quality import PatternBook, best_of
from processors.spatial.covisits import CoVisits
from schemas.patterns import CoVisit, CoVisitUpdate, Pattern
from streams.stages.growth import GrowthLedger
from streams.stages.internal_stage import Rows
from streams.stages.names import Names
from streams.stages.packing import pack_arrays, pack_blobs, unpack_arrays, unpack_blobs
from streams.stages.settings import RegionStageSettings

MS = 1000.0


class CoVisitWatch:
    """The co-visits of everybody, and the places whose pairs have become worth telling, or worth telling anew.

    A place that was told and has no pair with enough support any more is told once without any.
    """

    def __init__(self, settings: RegionStageSettings) -> None:
        self.counts = CoVisits(
            settings.covisit_distance_m, settings.covisit_window_s, min_support=settings.covisit_min_support
        )
        self._ledger = GrowthLedger(
            min_support=1, growth=settings.covisit_growth, at_most=settings.covisit_at_most, max_keys=settings.max_names
        )
        self._paired: set[int] = set()
        self._book = PatternBook(settings.max_names)

    def absorb(self, rows: Rows) -> None:
        """Count visits (columns user, item, time_ms, lat, lon), each user's in order of time."""
        columns = (rows["user"], rows["item"], rows["time_ms"] / MS, rows["lat"], rows["lon"])
        self._paired.update(self.counts.update(*columns).tolist())
        self._paired.update(place for place in self._ledger.due(rows["item"]).tolist() if place in self._book)

    def due(self, names: Names, now_ms: int, version: int) -> list[Pattern]:
        """What became worth telling, or telling anew, since the last call."""
        paired, self._paired = sorted(self._paired), set()
        updates = (self._update(place, names, now_ms, version) for place in paired)
        return [update for update in updates if update is not None]

    def _update(self, place: int, names: Names, now_ms: int, version: int) -> CoVisitUpdate | None:
        name = names.get(place)
        found = [(pair, names.get(pair.other)) for pair in self.counts.neighbours(place, now_ms / MS)]
        if name is None:
            return None
        if not found:
            return self._withdrawn(place, name, now_ms, version)
        return CoVisitUpdate(
            item_id=name, version=version, event_time_ms=now_ms,
            neighbours=[
                CoVisit(other, pair.support, pair.confidence, pair.lift, pair.participation_index)
                for pair, other in found if other is not None
            ],
            quality=self._book.record(
                place, time_s=now_ms / MS, claim=found[0][0].other, support=sum(pair.support for pair, _ in found),
                significance=best_of(max(pair.significance for pair, _ in found), len(found)),
            ),
        )  # fmt: skip

    def _withdrawn(self, place: int, name: str, now_ms: int, version: int) -> CoVisitUpdate | None:
        if place not in self._book:
            return None
        self._book.retire(place)
        return CoVisitUpdate(item_id=name, version=version, event_time_ms=now_ms, neighbours=[])

    def to_bytes(self) -> bytes:
        """Everything, for ``load``."""
        paired = msgspec.msgpack.encode(sorted(self._paired))
        return pack_blobs(
            {
                "counts": self.counts.to_bytes(), "book": self._book.to_bytes(), "paired": paired,
                "ledger": pack_arrays(self._ledger.state()),
            }
        )  # fmt: skip

    def load(self, data: bytes) -> None:
        """Become the object of ``to_bytes``."""
        blobs = unpack_blobs(data)
        self.counts, self._book = CoVisits.from_bytes(blobs["counts"]), PatternBook.from_bytes(blobs["book"])
        self._paired = set(msgspec.msgpack.decode(blobs["paired"], type=list[int]))
        if "ledger" in blobs:  # states written before places were told anew
            self._ledger.load(unpack_arrays(blobs["ledger"]))
