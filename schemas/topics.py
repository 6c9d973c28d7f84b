"""Every topic of Chronotope, declared once: name, value types, partitions, retention and cleanup policy."""

from typing import Any

import msgspec

from schemas import events, patterns, recommendations

DAY_MS = 86_400_000
# A batch of the most records that a worker takes at a time, in columns.
INTERNAL_MAX_BYTES = 8_388_608


class TopicSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The declaration of one topic; ``retention_ms`` of -1 keeps records for ever.

    ``max_message_bytes`` of None leaves the broker's own limit. ``values`` lists the structs that travel on it (several are told
    apart by their tag, none means raw bytes).
    """

    name: str
    key: str
    values: tuple[type[msgspec.Struct], ...]
    summary: str
    partitions: int = 4
    cleanup_policy: str = "delete"
    retention_ms: int = 7 * DAY_MS
    max_message_bytes: int | None = None

    @property
    def config(self) -> dict[str, str]:
        """The broker's topic configuration as the admin client takes it."""
        largest = {} if self.max_message_bytes is None else {"max.message.bytes": str(self.max_message_bytes)}
        return {"cleanup.policy": self.cleanup_policy, "retention.ms": str(self.retention_ms)} | largest


EVENTS = TopicSpec(
    name="behavior.event.raw.v1",
    key="user_id",
    values=(events.BehaviorEvent,),
    summary="Behaviour events as producers write them.",
)
REJECTED = TopicSpec(
    name="behavior.event.rejected.v1", key="as received", values=(), retention_ms=30 * DAY_MS,
    summary="Records that could not be decoded or validated: the original bytes, the reason in headers.",
)  # fmt: skip
LATE = TopicSpec(
    name="behavior.event.late.v1", key="user_id", values=(events.BehaviorEvent,), retention_ms=30 * DAY_MS,
    summary="Valid events that came after the watermark had passed their allowed lateness.",
)  # fmt: skip
CATALOG = TopicSpec(
    name="catalog.item.v1", key="item_id", values=(events.Item,), cleanup_policy="compact", retention_ms=-1,
    summary="The catalogue: text, categories, tags, place, price and modality vectors of each item.",
)  # fmt: skip
SPATIAL = TopicSpec(
    name="pattern.spatial.v1", key="cluster or item id", values=(patterns.ClusterUpdate, patterns.CoVisitUpdate),
    cleanup_policy="compact,delete", summary="Where people gather, and which places are visited together.",
)  # fmt: skip
TEMPORAL = TopicSpec(
    name="pattern.temporal.v1", key="entity", values=(patterns.PeriodicityUpdate, patterns.ForecastUpdate),
    cleanup_policy="compact,delete", summary="When people come back, and how many will come.",
)  # fmt: skip
TRANSITION = TopicSpec(
    name="pattern.transition.v1", key="from-state", values=(patterns.TransitionUpdate, patterns.SequenceUpdate),
    cleanup_policy="compact,delete", summary="What follows what.",
)  # fmt: skip
PROFILE = TopicSpec(
    name="pattern.profile.v1", key="user_id", values=(patterns.ProfileUpdate,), cleanup_policy="compact,delete",
    summary="Who a user is: preferences, anchors, range, habits.",
)  # fmt: skip
REQUESTS = TopicSpec(
    name="recommendation.request.v1", key="user_id", values=(events.RecommendationRequest,), retention_ms=DAY_MS,
    summary="A user asks now, with time and place.",
)  # fmt: skip
RECOMMENDATIONS = TopicSpec(
    name="recommendation.user.v1", key="user_id", values=(recommendations.Recommendation,), cleanup_policy="compact,delete",
    summary="The latest recommendation of each user.",
)  # fmt: skip
PREDICTIONS = TopicSpec(
    name="prediction.user.v1", key="user_id", values=(recommendations.NextBehaviour,), cleanup_policy="compact,delete",
    summary="What, where and when next, with probabilities.",
)  # fmt: skip
FEEDBACK = TopicSpec(
    name="recommendation.feedback.v1", key="user_id", values=(events.RecommendationFeedback,),
    summary="Impressions, clicks and dismissals of recommendations.",
)  # fmt: skip
INTERNAL_REGION = TopicSpec(
    name="internal.region.v1", key="none: partition chosen by us", values=(), retention_ms=DAY_MS,
    max_message_bytes=INTERNAL_MAX_BYTES,
    summary="Columnar batches by map tile, and the cuts up to which all regions absorb them.",
)  # fmt: skip
INTERNAL_UNION = TopicSpec(
    name="internal.union.v1", key="none: partition chosen by us", values=(), retention_ms=DAY_MS,
    max_message_bytes=INTERNAL_MAX_BYTES,
    summary="What the stage that joins the regions reads: all positions, and the regions' reports of their crowds.",
)  # fmt: skip
INTERNAL_TRANSITION = TopicSpec(
    name="internal.transition.v1", key="none: partition chosen by us", values=(), retention_ms=DAY_MS,
    max_message_bytes=INTERNAL_MAX_BYTES,
    summary="Columnar batches by from-state.",
)  # fmt: skip
INTERNAL_PLACE = TopicSpec(
    name="internal.place.v1", key="none: partition chosen by us", values=(), retention_ms=DAY_MS,
    max_message_bytes=INTERNAL_MAX_BYTES,
    summary="Columnar batches by item.",
)  # fmt: skip

PUBLIC_TOPICS: tuple[TopicSpec, ...] = (
    EVENTS, REJECTED, LATE, CATALOG, SPATIAL, TEMPORAL, TRANSITION, PROFILE, REQUESTS, RECOMMENDATIONS, PREDICTIONS,
    FEEDBACK,
)  # fmt: skip
INTERNAL_TOPICS: tuple[TopicSpec, ...] = (INTERNAL_REGION, INTERNAL_UNION, INTERNAL_TRANSITION, INTERNAL_PLACE)
ALL_TOPICS = PUBLIC_TOPICS + INTERNAL_TOPICS
PATTERN_TOPICS: tuple[TopicSpec, ...] = (SPATIAL, TEMPORAL, TRANSITION, PROFILE)


def value_type(spec: TopicSpec) -> Any:
    """The type to decode the values of a topic to: its struct, or the union of its tagged structs.

    >>> value_type(EVENTS).__name__
    'BehaviorEvent'

    Raises ValueError for a topic whose values are raw bytes.
    """
    if not spec.values:
        raise ValueError(f"topic {spec.name} carries raw bytes, not structs")
    union: Any = spec.values[0]
    for struct in spec.values[1:]:
        union = union | struct
    return union
