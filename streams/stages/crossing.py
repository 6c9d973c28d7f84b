"""What travels between the region and union stages besides rows: the cut that all regions share, and their reports of it.

Rows, cuts and reports are told apart by the first element of their MessagePack array: rows begin with a number.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from processors.code_index import Ints
from processors.spatial import TileReport
from streams.stages.columns import InternalBatch, decode_internal, encode_internal
from streams.stages.crowd_counts import NO_BINS, Bins, PackedVisits, VisitCounts, pack_visits, unpack_visits
from streams.stages.crowd_moves import Whereabouts, pack_whereabouts, unpack_whereabouts
from streams.stages.crowd_parts import NO_LABELS, NO_PARTS, CrowdParts, pack_parts, unpack_listed, unpack_parts


class Cut(msgspec.Struct, frozen=True, array_like=True, tag="cut"):
    """All rows with an origin offset up to ``heard[origin]`` and an event time up to ``clock_ms``: what each region is to absorb.

    With ``tell`` each region reports what it holds then, which is of one moment for all, and the visits in ``bins``; with
    ``full`` it reports everything; with ``moves`` who was in which crowd when.
    """

    number: int
    heard: list[int]
    clock_ms: int
    tell: bool
    full: bool
    bins: Bins = NO_BINS
    moves: bool = False


class RegionReport(msgspec.Struct, frozen=True):
    """A region's crowds at a cut: the structure of its clusters (None: as before), the own parts that changed, and in ``gone``
    the labels of those of which no point is the region's own (any more). ``visits`` are those of the region's own points in the
    cut's bins (None: another piece has them), ``whereabouts`` those of its own points that are in any crowd (None: the cut does
    not ask, or other pieces have them).

    ``points`` counts the window's own points; ``exact`` is false if the region had absorbed more than the cut's rows. ``number``
    counts a region's reports from 1: one that is sent again, by whoever owned the region before, has the number that it had.
    ``more`` says that this is one of several pieces of a report, and not the last: the others hold the rest of the parts.
    """

    partition: int
    points: int
    structure: TileReport | None
    parts: CrowdParts
    visits: VisitCounts | None
    cut: Cut | None = None
    exact: bool = True
    number: int = 0
    more: bool = False
    whereabouts: Whereabouts | None = None
    gone: Ints = NO_LABELS


class _PackedReport(msgspec.Struct, frozen=True, array_like=True, tag="report"):
    partition: int
    points: int
    structure: bytes | None
    # Older reports: a list of labels with their parts, packed one by one, None for what is gone.
    parts: bytes | list[tuple[int, tuple[Any, ...] | None]]
    visits: PackedVisits | None
    cut: Cut
    exact: bool
    number: int
    more: bool
    whereabouts: bytes | None = None
    gone: list[int] = []


Message = InternalBatch | Cut | RegionReport
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Cut | _PackedReport)
_FIXSTR, _KIND = 0xA0, 0xE0
PIECE_BYTES = 500_000
_WHEREABOUTS_BYTES = 26


def encode_message(message: Message) -> bytes:
    """The value of an internal topic's record."""
    if isinstance(message, InternalBatch):
        return encode_internal(message)
    return _ENCODER.encode(_packed(message) if isinstance(message, RegionReport) else message)


def decode_message(data: bytes) -> Message:
    """The message of an internal topic's record. Raises ValueError if the bytes are not one."""
    if len(data) < 2 or data[1] & _KIND != _FIXSTR:
        return decode_internal(data)
    try:
        found = _DECODER.decode(data)
        return found if isinstance(found, Cut) else _unpacked(found)
    except msgspec.DecodeError as error:
        raise ValueError(f"not an internal message: {error}") from error


def pieces_of(report: RegionReport, after: int = 0) -> list[RegionReport]:
    """A report in pieces that a broker takes: each ends with the part that exceeds ``PIECE_BYTES``. Numbers follow ``after``.

    The first one holds the structure, the visits and what is gone, the last ones who was where. The structure is not divided:
    16 bytes for each core at a border.
    """
    pieces, held = [list[int]()], 0
    for row, size in enumerate(report.parts.nbytes.tolist()):
        if held > PIECE_BYTES:
            pieces.append([])
            held = 0
        pieces[-1].append(row)
        held += size
    contents: list[tuple[CrowdParts, Whereabouts | None]] = [
        (report.parts.select(np.array(rows, np.int64)) if len(pieces) > 1 else report.parts, None) for rows in pieces
    ]
    where = report.whereabouts
    if where is not None and held + _WHEREABOUTS_BYTES * len(where.labels) <= PIECE_BYTES:
        contents[-1] = (contents[-1][0], where)
    elif where is not None:
        contents += [(NO_PARTS, some) for some in where.pieces(PIECE_BYTES // _WHEREABOUTS_BYTES + 1)]
    first, *others = (
        msgspec.structs.replace(report, parts=parts, whereabouts=some, number=after + at, more=at < len(contents))
        for at, (parts, some) in enumerate(contents, 1)
    )
    rest = (msgspec.structs.replace(piece, structure=None, visits=None, gone=NO_LABELS) for piece in others)
    return [first, *rest]


def rows_among(messages: Sequence[Message]) -> list[InternalBatch]:
    """The batches of rows among messages, in order."""
    return [message for message in messages if isinstance(message, InternalBatch)]


def _packed(report: RegionReport) -> _PackedReport:
    assert report.cut is not None
    structure = None if report.structure is None else report.structure.to_bytes()
    visits = None if report.visits is None else pack_visits(report.visits)
    return _PackedReport(
        report.partition, report.points, structure, pack_parts(report.parts), visits, report.cut, report.exact,
        report.number, report.more, None if report.whereabouts is None else pack_whereabouts(report.whereabouts),
        report.gone.tolist(),
    )  # fmt: skip


def _unpacked(packed: _PackedReport) -> RegionReport:
    structure = None if packed.structure is None else TileReport.from_bytes(packed.structure)
    gone, parts = packed.gone, packed.parts
    if isinstance(parts, list):
        gone = [label for label, part in parts if part is None]
        held = unpack_listed((label, part) for label, part in parts if part is not None)
    else:
        held = unpack_parts(parts)
    visits = None if packed.visits is None else unpack_visits(packed.visits)
    return RegionReport(
        packed.partition, packed.points, structure, held, visits, packed.cut, packed.exact, packed.number,
        packed.more, None if packed.whereabouts is None else unpack_whereabouts(packed.whereabouts),
        np.array(gone, np.int64),
    )  # fmt: skip
