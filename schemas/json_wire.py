"""The default wire format: JSON by msgspec, decoded strictly into the structs of a topic."""

from functools import cache
from typing import Any

import msgspec

from schemas.topics import TopicSpec, value_type

_ENCODER = msgspec.json.Encoder()


def encode(message: msgspec.Struct) -> bytes:
    """The JSON bytes of a message struct, fields in declared order.

    >>> from schemas.events import RecommendationFeedback
    >>> encode(RecommendationFeedback(request_id="r", user_id="u", item_id="i", kind="click", event_time_ms=1))[:18]
    b'{"request_id":"r",'
    """
    return _ENCODER.encode(message)


@cache
def decoder(spec: TopicSpec) -> "msgspec.json.Decoder[Any]":
    """The decoder of a topic's values; it raises msgspec.DecodeError (ValidationError for a wrong type or a missing field).

    >>> from schemas.topics import EVENTS
    >>> decoder(EVENTS).decode(b'{"event_id":"e","user_id":"u","item_id":"i","action":"view","event_time_ms":1}').action
    'view'
    """
    return msgspec.json.Decoder(value_type(spec))
