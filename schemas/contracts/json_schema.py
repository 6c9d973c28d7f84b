"""JSON Schemas (2020-12) of the message structs."""

from typing import Any

import msgspec


def json_schema(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The self-contained JSON Schema of a message struct; unknown fields are allowed, as the decoder allows them.

    >>> from schemas.events import BehaviorEvent
    >>> json_schema(BehaviorEvent)["$defs"]["BehaviorEvent"]["required"]
    ['event_id', 'user_id', 'item_id', 'action', 'event_time_ms']
    """
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(struct)}
