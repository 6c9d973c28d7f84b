"""All stages in one process without Kafka: the same stages in the same order as the live agents."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from schemas.events import BehaviorEvent
from schemas.partitioning import partition_of
from schemas.patterns import Pattern
from schemas.topics import INTERNAL_PLACE, INTERNAL_REGION, INTERNAL_TRANSITION, INTERNAL_UNION
from streams.decoding import EventDecoder, Reject
from streams.stages.crossing import Message
from streams.stages.factory import STAGES, crowd_stage, stage_factory
from streams.stages.output import Routed
from streams.stages.settings import MiningSettings

BEHIND = {
    INTERNAL_REGION.name: "region",
    INTERNAL_UNION.name: "union",
    INTERNAL_TRANSITION.name: "transition",
    INTERNAL_PLACE.name: "place",
}


def pass_on(stages: Mapping[str, Sequence[Any]], routed: Sequence[Routed]) -> list[Pattern]:
    """Give messages to the stages behind, all of one stage's partition at once, and what these pass on too, until nothing is."""
    patterns: list[Pattern] = []
    while routed:
        groups: dict[tuple[str, int], list[Message]] = {}
        for one in routed:
            groups.setdefault((BEHIND[one.topic.name], one.partition), []).append(one.batch)
        routed = []
        for (name, partition), messages in groups.items():
            stage = stages[name][partition]
            output = stage.apply(messages, stage.absorbed_offset + len(messages))
            patterns += output.patterns
            routed += output.routed
    return patterns


class PatternPipeline:
    """Events in, patterns out: what the stream workers publish, without a broker.

    Partitions are those of the live topics (users by murmur2), so a replay of a topic gives the states that its workers hold.
    ``examinations_per_1000_events`` bounds the search for periods, which costs milliseconds per key.

    >>> pipeline = PatternPipeline(partitions=1)
    >>> events = [BehaviorEvent(event_id=f"e{i}", user_id="u", item_id="cafe", action="view", event_time_ms=10**12 + i)
    ...           for i in range(6)]
    >>> sorted({type(pattern).__name__ for pattern in pipeline.update(events)})
    ['ProfileUpdate', 'TransitionUpdate']
    """

    def __init__(
        self,
        settings: MiningSettings | None = None,
        *,
        partitions: int | None = None,
        examinations_per_1000_events: float = 10.0,
    ) -> None:
        settings = settings or MiningSettings()
        if partitions is not None:
            settings = msgspec.structs.replace(settings, partitions=partitions)
        self.settings = settings
        self.rejects: list[Reject] = []
        self._decoder = EventDecoder(settings.limits)
        self._examinations_per_event = examinations_per_1000_events / 1000.0
        self._credit = 0.0
        self._next_offset = [0] * settings.partitions
        self.stages = {
            name: [stage_factory(name, settings)(partition, None) for partition in range(settings.partitions)]
            for name in STAGES
        }
        self.pass_on([one for stage in self.stages["user"] for one in stage.announce(caught_up=True)])

    def update(self, events: Sequence[BehaviorEvent]) -> list[Pattern]:
        """Absorb events in the order given; the patterns that changed materially, in the order of their publication.

        Events that are outside the limits are left out and added to ``rejects``. O(events).
        """
        patterns: list[Pattern] = []
        routed: list[Routed] = []
        for partition, mine in self._by_partition(events):
            offsets = np.arange(self._next_offset[partition], self._next_offset[partition] + len(mine))
            self._next_offset[partition] += len(mine)
            clock_ms = np.full(len(mine), int(time.time() * 1000))
            columns, rejects = self._decoder.columns_of(mine, offsets, clock_ms)
            self.rejects += rejects
            output = self.stages["user"][partition].apply(columns, int(offsets[-1]), caught_up=True)
            patterns += output.patterns
            routed += output.routed
        patterns += self.pass_on(routed)
        for stage in self.stages[crowd_stage(self.settings.partitions)]:
            patterns += stage.tell_moves()
        self._credit += len(events) * self._examinations_per_event
        if self._credit >= 1:
            patterns += self.examine(int(self._credit))
            self._credit %= 1
        return patterns

    def examine(self, budget: int) -> list[Pattern]:
        """Spend ``budget`` examinations of keys on the stages that look for periods, those with most to do first."""
        searching = [stage for stages in self.stages.values() for stage in stages if getattr(stage, "untested", 0)]
        total = sum(stage.untested for stage in searching)
        shares = [(stage, -(-budget * stage.untested // total)) for stage in searching]
        return [pattern for stage, share in shares for pattern in stage.examine(share)]

    def pass_on(self, routed: Sequence[Routed]) -> list[Pattern]:
        """Give messages to the stages behind; what these publish."""
        return pass_on(self.stages, routed)

    def _by_partition(self, events: Sequence[BehaviorEvent]) -> list[tuple[int, list[BehaviorEvent]]]:
        if self.settings.partitions == 1:
            return [(0, list(events))] if events else []
        groups: dict[int, list[BehaviorEvent]] = {}
        known: dict[str, int] = {}
        for event in events:
            user = event.user_id
            if user not in known:
                known[user] = partition_of(user.encode(), self.settings.partitions)
            groups.setdefault(known[user], []).append(event)
        return sorted(groups.items())
