"""Codes with the ids that they stand for, as slices of a buffer: no Python text for an id that nobody reads."""

from collections.abc import Iterable, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.columns import decode_columns
from streams.stages.id_map import NOT_A_MAP, read_map, write_map

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
LONGEST_HEAD = 5  # bytes before the entries of a map, and before a text
LONGEST_CODE = 9
SHORTEST_ENTRY = 2
_COLUMNAR = b"\x93"
_NAMES = msgspec.msgpack.Decoder(dict[int, str])


class CodedIds(msgspec.Struct, frozen=True, eq=False):
    """Codes, int64[n], and where in ``text`` (UTF-8) the id of each starts and ends, int64[n, 2].

    >>> CodedIds.of({7: "cafe", 9: "gym"}).as_dict()
    {7: 'cafe', 9: 'gym'}
    """

    codes: Ints
    spans: Ints
    text: Bytes

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def of(cls, ids: Mapping[int, str]) -> "CodedIds":
        """Those of a mapping. O(ids)."""
        parts = [name.encode() for name in ids.values()]
        lengths = np.fromiter(map(len, parts), np.int64, len(parts))
        ends = np.cumsum(lengths)
        codes = np.fromiter(ids.keys(), np.int64, len(parts))
        return cls(codes, np.stack([ends - lengths, ends], axis=1), np.frombuffer(b"".join(parts), np.uint8))

    @classmethod
    def joined(cls, parts: Iterable["CodedIds"]) -> "CodedIds":
        """All of several, in order; a code may come more than once."""
        held, shift, spans = list(parts), 0, list[Ints]()
        for part in held:
            spans.append(part.spans + shift)
            shift += len(part.text)
        codes, texts = [part.codes for part in held], [part.text for part in held]
        return cls(np.concatenate(codes), np.concatenate(spans), np.concatenate(texts))

    def select(self, rows: npt.NDArray[np.bool_] | Ints) -> "CodedIds":
        """Those of a mask or an index, sharing ``text``."""
        return CodedIds(self.codes[rows], self.spans[rows], self.text)

    def as_dict(self) -> dict[int, str]:
        """Code to id. O(ids)."""
        return _NAMES.decode(encode_ids(self))


def encode_ids(ids: CodedIds) -> bytes:
    """One value from codes and their ids, a MessagePack map. O(bytes of the ids).

    >>> decode_ids(encode_ids(CodedIds.of({7: "cafe"}))).as_dict()
    {7: 'cafe'}
    """
    text_bytes = int((ids.spans[:, 1] - ids.spans[:, 0]).sum())
    out = np.empty(LONGEST_HEAD + (LONGEST_HEAD + LONGEST_CODE) * len(ids) + text_bytes, np.uint8)
    return out[: write_map(ids.codes, ids.spans, ids.text, out)].tobytes()


def decode_ids(data: bytes) -> CodedIds:
    """The codes and ids that ``encode_ids`` wrote. O(bytes). Raises ValueError if the bytes are something else."""
    if data[:1] == _COLUMNAR:  # written before ids were a map
        columns = decode_columns(data)
        held, names = np.asarray(columns["code"]).tolist(), columns["name"]
        return CodedIds.of(dict(zip(held, names, strict=True)))  # type: ignore[arg-type]
    text, most = np.frombuffer(data, np.uint8), len(data) // SHORTEST_ENTRY
    codes, spans = np.empty(most, np.int64), np.empty((most, 2), np.int64)
    found, is_ascii = read_map(text, codes, spans)
    if found == NOT_A_MAP or not is_ascii:
        return _read_with_care(data)
    return CodedIds(codes[:found].copy(), spans[:found].copy(), text)


def warm_up() -> None:
    """Compile the kernels ahead of the first event."""
    decode_ids(encode_ids(CodedIds.of({1: "a"})))


def _read_with_care(data: bytes) -> CodedIds:
    """What the kernel does not read, or has not looked at: whether texts are UTF-8."""
    try:
        return CodedIds.of(_NAMES.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError) as error:
        raise ValueError(f"not ids of codes: {error}") from error
