"""Behaviour events read from JSON by one kernel: spans and numbers in columns, no object per event.

Only the plain form is read here: no escapes, every field once, nothing nested but the context. That is what producers send
nearly always.
Anything else, wrong or merely unusual, is left to msgspec, so what is accepted, and as what, is the same with and without this
module.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from streams.json_numbers import MOST_DIGITS, NOT_A_NUMBER, float_of, read_number
from streams.words import WORD, below_flags, equal_flags, first_flagged, is_same, word_at

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FIELDS = (
    "event_id", "user_id", "item_id", "action", "category",
    "event_time_ms", "lat", "lon", "session_id", "request_id", "value", "context",
)  # fmt: skip
EVENT_ID, USER, ITEM, ACTION, CATEGORY, TIME, LAT, LON, SESSION, REQUEST, VALUE, CONTEXT = range(len(FIELDS))
TEXTS, UNKNOWN = CATEGORY + 1, len(FIELDS)
REQUIRED = (1 << EVENT_ID) | (1 << USER) | (1 << ITEM) | (1 << ACTION) | (1 << TIME)
_NAMES = np.frombuffer("".join(FIELDS).encode(), np.uint8)
_NAME_STARTS = np.cumsum([0, *map(len, FIELDS)])
_NULL, _TRUE, _FALSE = (np.frombuffer(word, np.uint8) for word in (b"null", b"true", b"false"))
NOT_PLAIN = NOT_A_NUMBER
ABSENT = -1
_PADDING = bytes(WORD)  # so that eight bytes can be read from wherever a value has some


class ScannedEvents(NamedTuple):
    """What was found in each value: ``plain`` says whether it was read at all, the rest holds for those that were.

    ``data`` is all values, and eight bytes behind them that belong to none.

    ``spans`` (int64[n, TEXTS, 2]) are where in ``data`` the texts of ``EVENT_ID`` to ``CATEGORY`` start and end, ABSENT for no
    category; ``places`` (float64[n, 2]) are latitude and longitude, NaN where absent.
    """

    data: bytes
    ends: Ints
    plain: npt.NDArray[np.bool_]
    spans: Ints
    time_ms: Ints
    places: Floats


def scan_events(values: Sequence[bytes | None]) -> ScannedEvents:
    """Read the values of event records. O(bytes), about 3 ns per byte.

    >>> found = scan_events([b'{"event_id":"e","user_id":"u","item_id":"cafe","action":"view","event_time_ms":7}', b"[]"])
    >>> start, end = found.spans[0, ITEM]
    >>> found.plain.tolist(), found.data[start:end], found.time_ms.tolist()[0]
    ([True, False], b'cafe', 7)
    """
    held = [value or b"" for value in values]
    data, count = b"".join([*held, _PADDING]), len(held)
    ends = np.cumsum(np.fromiter(map(len, held), np.int64, count))
    plain, spans = np.zeros(count, np.bool_), np.full((count, TEXTS, 2), ABSENT, np.int64)
    time_ms, places = np.zeros(count, np.int64), np.full((count, 2), np.nan)
    long_numbers, is_wide = np.zeros((count, 2, 2), np.int64), np.zeros(count, np.bool_)
    _scan(np.frombuffer(data, np.uint8), ends, plain, spans, time_ms, places, long_numbers, is_wide)
    is_long = long_numbers[:, :, 1] > 0
    places[is_long] = [float(data[start:end]) for start, end in long_numbers[is_long].tolist()]
    for row in np.flatnonzero(is_wide & plain).tolist():
        plain[row] = _is_utf8(held[row])
    return ScannedEvents(data, ends, plain, spans, time_ms, places)


def which_of(data: bytes, spans: Ints, texts: Sequence[str]) -> Ints:
    """Which of ``texts`` each span of ``data`` holds, -1 for none: int64[n]. O(spans times texts).

    >>> which_of(b"viewbuy", np.array([[0, 4], [4, 7]]), ["buy", "cart"]).tolist()
    [-1, 0]
    """
    known = [text.encode() for text in texts]
    ends = np.cumsum(np.array([0, *map(len, known)], np.int64))
    columns = np.ascontiguousarray(spans)  # or one row would have a layout, and a compiled kernel, of its own
    return _which(np.frombuffer(data, np.uint8), columns, np.frombuffer(b"".join(known), np.uint8), ends)  # type: ignore[no-any-return]


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


@njit(cache=True, nogil=True)
def _scan(data, ends, plain, spans, time_ms, places, long_numbers, is_wide):  # type: ignore[no-untyped-def]
    """Read every value; ``is_wide`` of those with characters that are not ASCII. The thread that fetches goes on meanwhile."""
    start, order = 0, np.zeros(2 * len(FIELDS), np.int64)
    for row in range(len(ends)):
        end = ends[row]
        plain[row] = _event(data, start, end, spans[row], time_ms, places[row], long_numbers[row], row, order)
        if not plain[row]:
            long_numbers[row] = 0
        bits = np.uint8(0)
        for at in range(start, end):
            bits |= data[at]
        is_wide[row] = bits > 127
        start = end


@njit(cache=True)
def _which(data, spans, known, ends):  # type: ignore[no-untyped-def]
    out = np.full(len(spans), -1, np.int64)
    for row in range(len(spans)):
        for text in range(len(ends) - 1):
            if is_same(data, spans[row, 0], spans[row, 1], known, ends[text], ends[text + 1]):
                out[row] = text
    return out


@njit(cache=True, forceinline=True)
def _event(data, at, end, spans, time_ms, place, long_numbers, row, order):  # type: ignore[no-untyped-def]
    """Read one object with nothing behind it; whether it was plain. ``order`` is that of the fields of the one before."""
    at = _space(data, at, end)
    if at >= end or data[at] != 123:  # {
        return False
    seen, number = 0, 0
    at = _space(data, at + 1, end)
    while True:
        field, at = _key(data, at, end, order, min(number, len(order) - 1))
        number += 1
        if field == NOT_PLAIN or (seen >> field & 1 and field != UNKNOWN):
            return False
        seen |= 1 << field
        if field == UNKNOWN:
            at = _any(data, at, end)
        elif field < TEXTS or (field in (SESSION, REQUEST) and at < end and data[at] == 34):
            stop = _text(data, at, end)
            if field < TEXTS:
                spans[field, 0], spans[field, 1] = at + 1, stop - 1
            at = stop
        elif field == CONTEXT:
            at = _context(data, at, end, spans)
        elif field != TIME and at < end and data[at] == 110:  # n
            at = _word(data, at, end, _NULL)
        elif field in (SESSION, REQUEST):
            return False
        else:
            at = _field_number(data, at, end, field, time_ms, place, long_numbers, row)
        if at == NOT_PLAIN:
            return False
        at = _space(data, at, end)
        if at >= end:
            return False
        if data[at] == 125:  # }
            break
        if data[at] != 44:  # ,
            return False
        at = _space(data, at + 1, end)
    return seen & REQUIRED == REQUIRED and _space(data, at + 1, end) == end


@njit(cache=True, forceinline=True)
def _context(data, at, end, spans):  # type: ignore[no-untyped-def]
    """Read an object of texts, of which the category is kept; behind it, or NOT_PLAIN."""
    if at >= end or data[at] != 123:
        return NOT_PLAIN
    at = _space(data, at + 1, end)
    if at < end and data[at] == 125:
        return at + 1
    while True:
        start = at
        at = _text(data, at, end)
        if at == NOT_PLAIN:
            return NOT_PLAIN
        is_category = is_same(data, start + 1, at - 1, _NAMES, _NAME_STARTS[CATEGORY], _NAME_STARTS[CATEGORY + 1])
        at = _colon(data, at, end)
        if at == NOT_PLAIN:
            return NOT_PLAIN
        stop = _text(data, at, end)
        if stop == NOT_PLAIN or (is_category and spans[CATEGORY, 0] != ABSENT):
            return NOT_PLAIN
        if is_category:
            spans[CATEGORY, 0], spans[CATEGORY, 1] = at + 1, stop - 1
        at = _space(data, stop, end)
        if at >= end or (data[at] != 125 and data[at] != 44):
            return NOT_PLAIN
        if data[at] == 125:
            return at + 1
        at = _space(data, at + 1, end)


@njit(cache=True, forceinline=True)
def _key(data, at, end, order, number):  # type: ignore[no-untyped-def]
    """The field that is named here, UNKNOWN for another name, and where its value starts; NOT_PLAIN if nothing is.

    The one that stood here in the event before is looked for first.
    """
    stop = _text(data, at, end)
    if stop == NOT_PLAIN:
        return NOT_PLAIN, at
    behind = _colon(data, stop, end)
    if behind == NOT_PLAIN:
        return NOT_PLAIN, at
    field = order[number]
    if not _is_name(data, at + 1, stop - 1, field):
        field = order[number] = _field_named(data, at + 1, stop - 1)
    return UNKNOWN if field == CATEGORY else field, behind  # the category has its place in the context


@njit(cache=True)
def _field_named(data, start, end):  # type: ignore[no-untyped-def]
    field = 0
    while field < UNKNOWN and not _is_name(data, start, end, field):
        field += 1
    return field


@njit(cache=True, forceinline=True)
def _is_name(data, start, end, field):  # type: ignore[no-untyped-def]
    return field < UNKNOWN and is_same(data, start, end, _NAMES, _NAME_STARTS[field], _NAME_STARTS[field + 1])


@njit(cache=True, forceinline=True)
def _field_number(data, at, end, field, time_ms, place, long_numbers, row):  # type: ignore[no-untyped-def]
    stop, mantissa, digits, power, is_float = read_number(data, at, end)
    if stop == NOT_PLAIN:
        return NOT_PLAIN
    negative = data[at] == 45
    if field == TIME:
        if is_float or negative or digits > MOST_DIGITS:
            return NOT_PLAIN
        time_ms[row] = mantissa
    elif field == VALUE:
        if abs(power) > 200 or digits > 100:  # it might be infinite
            return NOT_PLAIN
    else:
        number, is_sure = float_of(mantissa, digits, power)
        if is_sure:
            place[field - LAT] = -number if negative and (is_float or mantissa) else number  # the integer -0 is 0
        else:
            long_numbers[field - LAT, 0], long_numbers[field - LAT, 1] = at, stop
    return stop


@njit(cache=True, forceinline=True)
def _text(data, at, end):  # type: ignore[no-untyped-def]
    """Behind a text that starts here, NOT_PLAIN if none does, or one with escapes or control characters."""
    if at >= end or data[at] != 34:
        return NOT_PLAIN
    at += 1
    while at < end:
        word = word_at(data, at)
        flags = equal_flags(word, 34) | equal_flags(word, 92) | below_flags(word, 32)
        if flags:
            at += first_flagged(flags)
            return at + 1 if at < end and data[at] == 34 else NOT_PLAIN
        at += WORD
    return NOT_PLAIN


@njit(cache=True, forceinline=True)
def _colon(data, at, end):  # type: ignore[no-untyped-def]
    at = _space(data, at, end)
    if at >= end or data[at] != 58:
        return NOT_PLAIN
    return _space(data, at + 1, end)


@njit(cache=True)
def _any(data, at, end):  # type: ignore[no-untyped-def]
    """Behind a text, a number, true, false or null; NOT_PLAIN for anything else."""
    if at >= end:
        return NOT_PLAIN
    first = data[at]
    if first == 34:
        return _text(data, at, end)
    if first == 110:
        return _word(data, at, end, _NULL)
    if first == 116:
        return _word(data, at, end, _TRUE)
    if first == 102:
        return _word(data, at, end, _FALSE)
    return read_number(data, at, end)[0]


@njit(cache=True)
def _word(data, at, end, word):  # type: ignore[no-untyped-def]
    stop = at + len(word)
    return stop if stop <= end and is_same(data, at, stop, word, 0, len(word)) else NOT_PLAIN


@njit(cache=True, forceinline=True)
def _space(data, at, end):  # type: ignore[no-untyped-def]
    while at < end and (data[at] == 32 or data[at] == 10 or data[at] == 13 or data[at] == 9):
        at += 1
    return at
