"""The messages that the model server writes: recommendations with their reasons, and predictions of the next behaviour."""

from typing import Literal

import msgspec

from schemas.patterns import NamedShare

Trigger = Literal["event", "pattern", "due", "request"]


class Reason(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which pattern gave how much of the score, in words that a person can read.

    >>> Reason(pattern="period", weight=0.4, text="you come here on Friday evenings").weight
    0.4
    """

    pattern: str
    weight: float
    text: str


class RecommendedItem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One item of a recommendation; ``score`` is the probability that it is the user's next one."""

    item_id: str
    score: float
    reasons: list[Reason] = msgspec.field(default_factory=list)


class Recommendation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a user should be shown now; of two for one user the one with the larger ``version`` holds.

    ``source_partition`` and ``source_offset`` name the last behaviour event that it knows of (-1: none). A ``limited`` one
    answers a request within limits of its own (categories, a radius): it is not what the user should be shown elsewhere.
    """

    user_id: str
    version: int
    request_id: str
    generated_at_ms: int
    trigger: Trigger
    model_version: str
    strategy: str
    expires_at_ms: int
    source_partition: int
    source_offset: int
    items: list[RecommendedItem]
    limited: bool = False


class NextBehaviour(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What, where and when next: distributions over items, categories and clusters, and quantiles of the next time.

    ``when_ms`` maps a probability ("0.1", "0.5", "0.9") to the time by which the next event comes with that probability.
    """

    user_id: str
    version: int
    generated_at_ms: int
    model_version: str
    items: list[NamedShare]
    categories: list[NamedShare] = msgspec.field(default_factory=list)
    clusters: list[NamedShare] = msgspec.field(default_factory=list)
    when_ms: dict[str, int] = msgspec.field(default_factory=dict)
    explore_probability: float = 0.0
