"""What a stage gives back for a batch, and where each message goes."""

import msgspec
import numpy as np
import numpy.typing as npt

from schemas import patterns, topics
from schemas.patterns import Pattern
from schemas.topics import TopicSpec
from streams.stages.crossing import Message

NO_OFFSETS: npt.NDArray[np.int64] = np.empty(0, np.int64)


_TOPICS: dict[type[Pattern], TopicSpec] = {
    patterns.ClusterUpdate: topics.SPATIAL,
    patterns.CoVisitUpdate: topics.SPATIAL,
    patterns.PeriodicityUpdate: topics.TEMPORAL,
    patterns.ForecastUpdate: topics.TEMPORAL,
    patterns.ProfileUpdate: topics.PROFILE,
    patterns.TransitionUpdate: topics.TRANSITION,
    patterns.SequenceUpdate: topics.TRANSITION,
}


class Routed(msgspec.Struct, frozen=True):
    """A message between stages, most are batches of rows, and the partition of the internal topic that it goes to."""

    topic: TopicSpec
    partition: int
    batch: Message


class StageOutput(msgspec.Struct, frozen=True, kw_only=True):
    """``patterns`` to publish, ``routed`` batches for the next stages, source offsets of ``late`` events, and counts.

    ``counts`` are events by what became of them: admitted, late, repeated, stale (absorbed before), evicted keys.
    """

    patterns: list[Pattern] = msgspec.field(default_factory=list)
    routed: list[Routed] = msgspec.field(default_factory=list)
    late: npt.NDArray[np.int64] = msgspec.field(default_factory=lambda: NO_OFFSETS)
    counts: dict[str, int] = msgspec.field(default_factory=dict)


def topic_of(pattern: Pattern) -> TopicSpec:
    """The topic on which a pattern is published."""
    return _TOPICS[type(pattern)]


def key_of(pattern: Pattern) -> str:
    """The message key of a pattern: two messages with one key are versions of one pattern.

    >>> update = patterns.TransitionUpdate(
    ...     state_kind="item", from_state="cafe", version=1, event_time_ms=0, next_states=[], total=0.0, user_id="u1")
    >>> key_of(update)
    'u1\\x1fitem\\x1fcafe'
    """
    match pattern:  # the most frequent ones first
        case patterns.ProfileUpdate():
            return pattern.user_id
        case patterns.TransitionUpdate():
            return f"{pattern.user_id or ''}\x1f{pattern.state_kind}\x1f{pattern.from_state}"
        case patterns.ClusterUpdate():
            return pattern.cluster_id
        case patterns.CoVisitUpdate():
            return f"covisit\x1f{pattern.item_id}"
        case patterns.PeriodicityUpdate():
            return f"{pattern.entity_kind}\x1f{pattern.entity}"
        case patterns.ForecastUpdate():
            return f"forecast\x1f{pattern.entity_kind}\x1f{pattern.entity}"
        case patterns.SequenceUpdate():
            return "\x1f".join([pattern.state_kind, *pattern.states])
