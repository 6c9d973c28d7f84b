"""The result of a demo run, as its JSON has it."""

import msgspec


class Freshness(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds from an event's sending to the recommendation that knows it: median and 99th percentile."""

    p50: float | None
    p99: float | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent, what became of it, what was found and how fast; every number was read from the running system.

    ``events_repeated`` are those of the processed ones whose event_id had been there before: nothing is learned from them.
    ``events_per_s`` is the rate from the first event sent to the last one processed by the workers.
    """

    events_sent: int
    events_processed: int
    events_repeated: int
    events_rejected: int
    events_late: int
    clusters_live: int
    periodic_entities: int
    transition_states: int
    recommendations_published: int
    users_with_recommendations: int
    freshness_ms: Freshness
    events_per_s: float

    @property
    def lost(self) -> int:
        """Events sent that were neither processed, nor rejected, nor late."""
        return self.events_sent - self.events_processed - self.events_rejected - self.events_late
