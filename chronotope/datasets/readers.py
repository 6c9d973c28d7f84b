"""A file of any known format as behaviour events in time order."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from chronotope.datasets.errors import DatasetError, Refused
from chronotope.datasets.layouts import LAYOUTS
from chronotope.datasets.tables import Table
from chronotope.datasets.text_files import numbered_lines
from schemas.events import BehaviorEvent

FORMATS: dict[str, str] = {name: layout.summary for name, layout in LAYOUTS.items()} | {
    "jsonl": "one BehaviorEvent as JSON per line, as it travels on behavior.event.raw.v1"
}
T = TypeVar("T")
_JSON = msgspec.json.Decoder(BehaviorEvent)


class _OnlyTime(msgspec.Struct):
    event_time_ms: int


_JSON_TIME = msgspec.json.Decoder(_OnlyTime)


def read_events(path: Path, format: str, refused: Refused | None = None) -> Iterator[BehaviorEvent]:
    """The events of a file in time order (stable: rows of one time keep their order); ``.gz`` is read as it is.

    A file that is in time order is streamed, after one quick pass over its times; another is read whole and sorted. Raises
    ValueError for an unknown format, DatasetError with file, line and reason for what cannot be read; with ``refused`` a row that
    cannot be read is left out and told there instead.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}: one of {', '.join(FORMATS)}")
    times, events = _source(path, format, refused)
    ordered, rows = _scan(times())
    if not rows and refused is None:
        raise DatasetError(path, None, "holds no events")
    found = events() if ordered else iter(sorted(events(), key=lambda event: event.event_time_ms))
    return _entered(found) if format in LAYOUTS and LAYOUTS[format].entered_only else found


def _entered(events: Iterator[BehaviorEvent]) -> Iterator[BehaviorEvent]:
    """The events that bring a user somewhere else than the one before."""
    here: dict[str, str] = {}
    for event in events:
        if here.get(event.user_id) != event.item_id:
            here[event.user_id] = event.item_id
            yield event


def _source(
    path: Path, format: str, refused: Refused | None
) -> tuple[Callable[[], Iterator[int]], Callable[[], Iterator[BehaviorEvent]]]:
    unseen = None if refused is None else _leave_out  # both passes meet a bad row: one tells of it
    if format == "jsonl":
        return (
            lambda: (each.event_time_ms for each in _decoded(path, _JSON_TIME, unseen)),
            lambda: _decoded(path, _JSON, refused),
        )
    table = Table(path, LAYOUTS[format])
    return lambda: table.times_ms(unseen), lambda: table.events(refused)


def _leave_out(error: DatasetError) -> None:
    pass


def _scan(times: Iterator[int]) -> tuple[bool, int]:
    ordered, rows, last = True, 0, -(1 << 63)
    for rows, time_ms in enumerate(times, start=1):  # noqa: B007
        ordered = ordered and time_ms >= last
        last = time_ms
    return ordered, rows


def _decoded(path: Path, decoder: "msgspec.json.Decoder[T]", refused: Refused | None) -> Iterator[T]:
    for number, line in numbered_lines(path):
        try:
            decoded = decoder.decode(line)
        except msgspec.DecodeError as error:
            bad = DatasetError(path, number, str(error))
            if refused is None:
                raise bad from None
            refused(bad)
        else:
            yield decoded
