"""The values of several records as one chunk payload."""

from collections.abc import Sequence

import msgspec

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[bytes])


def encode_values(values: Sequence[bytes]) -> bytes:
    """One payload from the values of a batch's records.

    >>> decode_values(encode_values([b"a", b"b"]))
    [b'a', b'b']
    """
    return _ENCODER.encode(list(values))


def decode_values(payload: bytes) -> list[bytes]:
    """The values of ``encode_values``."""
    return _DECODER.decode(payload)
