"""Rows of a delimited text file as behaviour events, by the layout of its format."""

import csv
import itertools
import math
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from chronotope.datasets.cells import parse_degrees, parse_number, parse_time_ms
from chronotope.datasets.errors import DatasetError, Refused
from chronotope.datasets.layouts import ITEM_CELL_DEG, Layout
from chronotope.datasets.text_files import numbered_lines
from schemas.events import BehaviorEvent

ABSENT = -1
T = TypeVar("T")


class Table:
    """A delimited text file whose columns are known: built from its first line, read as often as you like.

    Raises DatasetError for an empty file or a missing column.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        first = next(numbered_lines(path), None)
        if first is None:
            raise DatasetError(path, None, "is empty")
        self._path = path
        self._layout = layout
        self._delimiter = delimiter_of(first[1])
        self._width = 0
        _, header = next(self._records())
        self._width = len(header)
        self._columns, self._first_row = _columns_of(path, header, layout)

    def times_ms(self, refused: Refused | None = None) -> Iterator[int]:
        """The event time of each row. Raises DatasetError at the first that is none, or leaves it out and tells ``refused``."""
        return self._read(self._time_ms, refused)

    def events(self, refused: Refused | None = None) -> Iterator[BehaviorEvent]:
        """The event of each row. Raises DatasetError naming the line, the column and what is wrong with it, or leaves the row
        out and tells ``refused``."""
        return self._read(self._event, refused)

    def _read(self, parse: Callable[[int, list[str]], T], refused: Refused | None) -> Iterator[T]:
        width = self._width
        for number, cells in itertools.islice(self._records(), self._first_row, None):
            try:
                if len(cells) != width:
                    raise DatasetError(self._path, number, f"has {len(cells)} columns, {width} expected")
                parsed = parse(number, cells)
            except DatasetError as error:
                if refused is None:
                    raise
                refused(error)
            else:
                yield parsed

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """The cells of each record with the line that it starts at: a quoted cell may hold line ends."""
        delimiter, lines = self._delimiter, numbered_lines(self._path)
        for number, line in lines:
            yield number, self._quoted(number, line, lines) if '"' in line else line.split(delimiter)

    def _quoted(self, number: int, line: str, lines: Iterator[tuple[int, str]]) -> list[str]:
        """The cells of a record that has quotes; takes the lines over which it goes on."""
        try:
            return next(csv.reader(self._with_rest(number, line, lines), delimiter=self._delimiter))
        except csv.Error as error:
            raise DatasetError(self._path, number, f"is no row of cells: {error}") from None

    def _with_rest(self, number: int, line: str, lines: Iterator[tuple[int, str]]) -> Iterator[str]:
        """The line, and those that follow while a cell is open. A quote that is never closed must not swallow rows."""
        yield f"{line}\n"
        for below, more in lines:
            if more.count(self._delimiter) + 1 == self._width:
                raise DatasetError(
                    self._path, number, f"a quote is not closed before line {below}, which looks like a row"
                )
            yield f"{more}\n"
        raise DatasetError(self._path, number, "a quote is never closed")

    def _time_ms(self, number: int, cells: list[str]) -> int:
        try:
            return parse_time_ms(cells[self._columns["time"]].strip())
        except ValueError as error:
            raise DatasetError(self._path, number, f"time {error}") from None

    def _event(self, number: int, cells: list[str]) -> BehaviorEvent:
        layout = self._layout
        for name in layout.required:
            if not self._text(cells, name):
                raise DatasetError(self._path, number, f"{name} is empty")
        lat, lon = self._place(number, cells)
        time_ms = self._time_ms(number, cells)
        item = cell_id(lat, lon) if layout.place_is_item else self._text(cells, "item")
        context = {name: text for name in ("category", "text") if (text := self._text(cells, name))}
        return BehaviorEvent(
            event_id=self._text(cells, "event_id") or row_id(self._path.name, number, time_ms, item),
            user_id=self._text(cells, "user"),
            item_id=item,
            action=self._text(cells, "action").lower() or layout.action,
            event_time_ms=time_ms,
            lat=lat,
            lon=lon,
            session_id=self._text(cells, "session") or None,
            value=self._value(number, cells),
            context=context,
        )

    def _text(self, cells: list[str], field: str) -> str:
        column = self._columns.get(field, ABSENT)
        return "" if column == ABSENT else cells[column].strip()

    def _place(self, number: int, cells: list[str]) -> tuple[float | None, float | None]:
        lat, lon = self._text(cells, "lat"), self._text(cells, "lon")
        if not lat and not lon:
            return None, None
        return self._degrees(number, "lat", lat, 90.0), self._degrees(number, "lon", lon, 180.0)

    def _degrees(self, number: int, name: str, text: str, limit: float) -> float:
        try:
            return parse_degrees(text, limit)
        except ValueError as error:
            raise DatasetError(self._path, number, f"{name} {error}") from None

    def _value(self, number: int, cells: list[str]) -> float | None:
        text = self._text(cells, "value")
        try:
            return parse_number(text) if text else None
        except ValueError as error:
            raise DatasetError(self._path, number, f"value {error}") from None


def delimiter_of(line: str) -> str:
    """What separates the cells of a first line: tabs if there are any, else the most frequent of comma, semicolon and bar.

    >>> delimiter_of("user;item;time"), delimiter_of("user,item,time"), delimiter_of("user")
    (';', ',', ',')
    """
    return "\t" if "\t" in line else max(",;|", key=line.count)


def row_id(name: str, number: int, time_ms: int, item: str) -> str:
    """The id of a row that brings none: file and line, so that a file that is sent twice counts once, and what happened when,
    so that another file of the same name is another one. Who it was is left out: ids travel where users are pseudonyms.

    >>> row_id("clicks.csv", 2, 1333476009000, "cafe-7")
    'clicks.csv:2:7ab90af2'
    """
    return f"{name}:{number}:{zlib.crc32(f'{time_ms} {item}'.encode()):08x}"


def cell_id(lat: float | None, lon: float | None) -> str:
    """The item of a track point: the square of ``ITEM_CELL_DEG`` degrees it lies in, named by its south-west corner.

    >>> cell_id(39.921712, 116.472343)
    'cell:39.920,116.472'

    Raises ValueError without a place.
    """
    if lat is None or lon is None:
        raise ValueError("a track point needs lat and lon")
    south = math.floor(lat / ITEM_CELL_DEG) * ITEM_CELL_DEG
    west = math.floor(lon / ITEM_CELL_DEG) * ITEM_CELL_DEG
    return f"cell:{south:.3f},{west:.3f}"


def _columns_of(path: Path, header: list[str], layout: Layout) -> tuple[dict[str, int], int]:
    """{field: column}, and which line is the first row: 1 after a header, 0 in an original file without one."""
    lowered = [re.sub(r"[\s-]+", "_", name.strip().lower()) for name in header]
    columns: dict[str, int] = {}
    for field, aliases in layout.columns.items():
        found = [lowered.index(alias) for alias in aliases if alias in lowered]
        free = [column for column in found if column not in columns.values()]
        if free:
            columns[field] = free[0]
    if not columns and len(header) == len(layout.original):
        return {field: column for column, field in enumerate(layout.original) if field}, 0
    missing = [field for field in layout.required if field not in columns]
    if missing:
        wanted = "; ".join(f"{field} ({', '.join(layout.columns[field])})" for field in missing)
        raise DatasetError(path, 1, f"the header lacks a column for {wanted}; it has: {', '.join(header)[:160]}")
    return columns, 1
