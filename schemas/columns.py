"""Columnar record batches: how internal topics and packed state carry many rows in one value.

Layout (MessagePack): ``[version, rows, {name: [dtype, bytes]}]``; numeric columns are little-endian numpy buffers, text
columns are ``"str"`` with a uint32 length per row followed by the UTF-8 bytes of all rows.
"""

import struct
from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

WIRE_VERSION = 1
Column = npt.NDArray[np.generic] | list[str]
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(tuple[int, int, dict[str, tuple[str, bytes]]])
_KINDS = ("<i8", "<f8", "<i4", "<f4", "<u4", "<u8", "|u1", "|i1", "|b1", "<u2", "<i2")
_DTYPES: dict[str, np.dtype[np.generic]] = {kind: np.dtype(kind) for kind in _KINDS}
_WIDTHS = {kind: dtype.itemsize for kind, dtype in _DTYPES.items()}
_KIND_OF = {dtype: kind for kind, dtype in _DTYPES.items()}


def encode_columns(columns: Mapping[str, Column]) -> bytes:
    """One value from equally long columns: numpy arrays (1-D) or lists of str. O(bytes).

    >>> batch = encode_columns({"t": np.array([1.5, 2.5]), "user": ["a", "b"]})
    >>> decode_columns(batch)["user"]
    ['a', 'b']

    Raises ValueError if the columns differ in length or a dtype is not a plain number.
    """
    rows, packed = -1, {}
    for name, column in columns.items():
        if len(column) != rows and rows >= 0:
            break
        rows = len(column)
        packed[name] = _pack(name, column)
    if len(packed) != len(columns) or not packed:
        raise ValueError(f"columns differ in length: { {name: len(column) for name, column in columns.items()} }")
    return _ENCODER.encode((WIRE_VERSION, rows, packed))


def decode_columns(data: bytes) -> dict[str, Column]:
    """The columns of a value that ``encode_columns`` wrote; numeric columns are read-only views of ``data``.

    Raises ValueError if the bytes are not such a value.
    """
    try:
        version, rows, packed = _DECODER.decode(data)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a columnar batch: {error}") from error
    if version != WIRE_VERSION:
        raise ValueError(f"columnar batch of version {version}, this reads {WIRE_VERSION}")
    return {name: _unpack(name, kind, buffer, rows) for name, (kind, buffer) in packed.items()}


def _pack(name: str, column: Column) -> tuple[str, bytes]:
    if isinstance(column, np.ndarray):
        kind = _KIND_OF.get(column.dtype)
        if kind is None or column.ndim != 1:
            raise ValueError(f"column {name} has dtype {column.dtype} and {column.ndim} dimensions")
        return kind, column.tobytes()
    encoded = [text.encode() for text in column]
    return "str", struct.pack(f"<{len(encoded)}I", *map(len, encoded)) + b"".join(encoded)


def _unpack(name: str, kind: str, buffer: bytes, rows: int) -> Column:
    if kind == "str":
        head = 4 * rows
        if len(buffer) < head:
            raise ValueError(f"column {name} is cut short")
        ends = np.cumsum(np.frombuffer(buffer, np.uint32, rows), dtype=np.int64) + head
        if rows and ends[-1] != len(buffer):
            raise ValueError(f"column {name} holds {len(buffer)} bytes, {int(ends[-1])} expected")
        starts = [head, *ends[:-1].tolist()]
        return [buffer[start:end].decode() for start, end in zip(starts, ends.tolist(), strict=False)]
    width = _WIDTHS.get(kind)
    if width is None:
        raise ValueError(f"column {name} has unknown dtype {kind}")
    if len(buffer) != rows * width:
        raise ValueError(f"column {name} holds {len(buffer)} bytes, {rows * width} expected")
    return np.frombuffer(buffer, _DTYPES[kind])
