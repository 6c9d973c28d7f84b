"""Stored state as one MessagePack map that names its own format, so that bytes of something else are refused."""

from __future__ import annotations

from typing import Any

import msgspec


def encode_payload(kind: str, parts: dict[str, Any]) -> bytes:
    """The bytes of ``parts``, marked as being of ``kind``.

    >>> decode_payload("example.1", encode_payload("example.1", {"count": 3}))["count"]
    3
    """
    return msgspec.msgpack.encode({"format": kind, **parts})


def decode_payload(kind: str, payload: bytes) -> dict[str, Any]:
    """The parts of a payload of ``kind``. Raises ValueError for anything else."""
    try:
        parts = msgspec.msgpack.decode(payload)
    except msgspec.DecodeError as error:
        raise ValueError(f"payload is not {kind}: {error}") from error
    if not isinstance(parts, dict) or parts.get("format") != kind:
        raise ValueError(f"payload is not {kind}")
    return parts
