"""What the output topics have said so far: live crowds, periodic entities, transitions, recommendations, and how fresh."""

from array import array

import msgspec
import numpy as np

from chronotope.kafka.producer import SendTimes
from schemas.events import Item
from schemas.json_wire import decoder
from schemas.patterns import ClusterUpdate, PeriodicityUpdate, TransitionUpdate
from schemas.recommendations import Recommendation
from schemas.topics import CATALOG, LATE, RECOMMENDATIONS, REJECTED, SPATIAL, TEMPORAL, TRANSITION, TopicSpec

WATCHED: tuple[TopicSpec, ...] = (RECOMMENDATIONS, SPATIAL, TEMPORAL, TRANSITION, REJECTED, LATE, CATALOG)
ENDED = ("died", "merged")


class _Slip(msgspec.Struct):
    """The few fields of a recommendation that are needed from each; the rest is skipped undecoded."""

    user_id: str
    trigger: str
    source_partition: int
    source_offset: int


_SLIP = msgspec.json.Decoder(_Slip)
_RECOMMENDATION = decoder(RECOMMENDATIONS)


class Board:
    """``note`` one record at a time; everything else is read. One thread writes, others may read.

    Memory grows with the distinct users, items and patterns, and by 8 bytes per measured recommendation.
    """

    def __init__(self, times: SendTimes) -> None:
        self.rejected = 0
        self.late = 0
        self.recommendations = 0
        self.users: set[str] = set()
        self.clusters: dict[str, ClusterUpdate] = {}
        self.periodic: dict[str, PeriodicityUpdate] = {}
        self.transitions: dict[str, TransitionUpdate] = {}
        self.records = 0
        self._times = times
        self._freshness_ms = array("d")
        self._categories: dict[str, str] = {}
        self._latest: bytes | None = None

    def note(self, topic: str, key: bytes | None, value: bytes | None, time_ms: int) -> None:
        """Take in one record of a watched topic. O(size of the record). Raises msgspec.DecodeError for a malformed one."""
        self.records += 1
        if topic == RECOMMENDATIONS.name and value is not None:
            self._note_recommendation(value, time_ms)
        elif topic == SPATIAL.name:
            self._note_cluster(key, value)
        elif topic == TEMPORAL.name:
            self._note_period(key, value)
        elif topic == TRANSITION.name:
            self._note_transition(key, value)
        elif topic == CATALOG.name and value is not None:
            item: Item = decoder(CATALOG).decode(value)
            self._categories[item.item_id] = item.text or ", ".join(item.categories)
        elif topic == REJECTED.name:
            self.rejected += 1
        elif topic == LATE.name:
            self.late += 1

    def freshness_ms(self) -> tuple[float, float] | None:
        """The median and the 99th percentile of the milliseconds from an event's sending to the recommendation that knows it.

        None before the first one. Only recommendations that an event triggered count.
        """
        values = np.array(self._freshness_ms)
        if not len(values):
            return None
        return float(np.percentile(values, 50)), float(np.percentile(values, 99))

    def latest(self) -> Recommendation | None:
        """The latest recommendation that an event triggered, whole."""
        value = self._latest
        return None if value is None else _RECOMMENDATION.decode(value)

    def describe(self, item_id: str) -> str:
        """What an item is, from the catalogue: never where it is."""
        return self._categories.get(item_id) or item_id

    def _note_recommendation(self, value: bytes, time_ms: int) -> None:
        slip = _SLIP.decode(value)
        self.recommendations += 1
        self.users.add(slip.user_id)
        if slip.trigger != "event":
            return
        self._latest = value
        sent_ms = self._times.get(slip.source_partition, slip.source_offset)
        if sent_ms is not None:
            self._freshness_ms.append(max(0, time_ms - sent_ms))

    def _note_cluster(self, key: bytes | None, value: bytes | None) -> None:
        name = (key or b"").decode(errors="replace")
        update = None if value is None else decoder(SPATIAL).decode(value)
        if update is None:
            self.clusters.pop(name, None)
        elif isinstance(update, ClusterUpdate):
            if update.change in ENDED:
                self.clusters.pop(update.cluster_id, None)
            else:
                self.clusters[update.cluster_id] = update

    def _note_period(self, key: bytes | None, value: bytes | None) -> None:
        name = (key or b"").decode(errors="replace")
        update = None if value is None else decoder(TEMPORAL).decode(value)
        if update is None or (isinstance(update, PeriodicityUpdate) and not update.periods):
            self.periodic.pop(name, None)
        elif isinstance(update, PeriodicityUpdate):
            self.periodic[name] = update

    def _note_transition(self, key: bytes | None, value: bytes | None) -> None:
        name = (key or b"").decode(errors="replace")
        update = None if value is None else decoder(TRANSITION).decode(value)
        if update is None or (isinstance(update, TransitionUpdate) and not update.next_states):
            self.transitions.pop(name, None)
        elif isinstance(update, TransitionUpdate):
            self.transitions[name] = update
