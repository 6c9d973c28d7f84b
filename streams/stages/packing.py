"""States as bytes: named arrays, and named blobs."""

from collections.abc import Mapping

import msgspec
import numpy as np

_ENCODER = msgspec.msgpack.Encoder()
_ARRAYS = msgspec.msgpack.Decoder(dict[str, tuple[str, bytes]])
_BLOBS = msgspec.msgpack.Decoder(dict[str, bytes])


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """One value from 1-D arrays of plain numbers, of any lengths.

    >>> unpack_arrays(pack_arrays({"a": np.array([1.5])}))["a"].tolist()
    [1.5]
    """
    return _ENCODER.encode({name: (array.dtype.str, array.tobytes()) for name, array in arrays.items()})


def unpack_arrays(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of ``pack_arrays``, writable."""
    return {name: np.frombuffer(raw, np.dtype(kind)).copy() for name, (kind, raw) in _ARRAYS.decode(data).items()}


def pack_blobs(blobs: Mapping[str, bytes]) -> bytes:
    """One value from named byte strings."""
    return _ENCODER.encode(blobs)


def unpack_blobs(data: bytes) -> dict[str, bytes]:
    """The byte strings of ``pack_blobs``. Raises msgspec.DecodeError if ``data`` is something else."""
    return _BLOBS.decode(data)
