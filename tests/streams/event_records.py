"""What the decoding tests share: a good event, and a record as it is fetched."""

from typing import Any

import msgspec

NOW_MS = 1_700_000_000_000
GOOD: dict[str, Any] = {
    "event_id": "e", "user_id": "u", "item_id": "i", "action": "view", "event_time_ms": NOW_MS - 1000,
}  # fmt: skip


class Record(msgspec.Struct):
    """What the decoder reads of a fetched record."""

    offset: int
    value: bytes | None
    timestamp: int = NOW_MS
