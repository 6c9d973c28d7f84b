"""One field of a row, parsed strictly: times, numbers and coordinates."""

import math
from datetime import UTC, datetime

CTIME = "%a %b %d %H:%M:%S %z %Y"
_EPOCH_MS_FROM = 1e11  # a Unix time above it is in milliseconds: in seconds it would be after the year 5138
_EPOCH_US_FROM = 1e14  # likewise in microseconds,
_EPOCH_NS_FROM = 1e17  # and in nanoseconds


def parse_time_ms(text: str) -> int:
    """Milliseconds since the Unix epoch from a Unix time, ISO 8601 (UTC unless it says otherwise) or ctime.

    A Unix time is in seconds, milliseconds, microseconds or nanoseconds: whichever puts it before the year 5138.

    >>> parse_time_ms("1333476009"), parse_time_ms("2012-04-03T18:00:09Z"), parse_time_ms("Tue Apr 03 18:00:09 +0000 2012")
    (1333476009000, 1333476009000, 1333476009000)
    >>> parse_time_ms("1333476009000000"), parse_time_ms("2012-04-03 18:00:09 UTC")
    (1333476009000, 1333476009000)

    Raises ValueError for anything else.
    """
    try:
        number = float(text)
    except ValueError:
        return _parse_date_ms(text)
    if not math.isfinite(number):
        raise ValueError(f"is {text!r}, not a time")
    return _unix_time_ms(number)


def parse_number(text: str) -> float:
    """A finite number. Raises ValueError saying what stands there instead."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"is {text!r}, not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"is {text!r}, not a finite number")
    return number


def parse_degrees(text: str, limit: float) -> float:
    """Degrees within +-limit. Raises ValueError."""
    number = parse_number(text)
    if abs(number) > limit:
        raise ValueError(f"is {text!r}, outside -{limit:g} to {limit:g}")
    return number


def _unix_time_ms(number: float) -> int:
    size = abs(number)
    if size < _EPOCH_MS_FROM:
        return round(number * 1000)
    return round(number / (1 if size < _EPOCH_US_FROM else 1_000 if size < _EPOCH_NS_FROM else 1_000_000))


def _parse_date_ms(text: str) -> int:
    for parse in (datetime.fromisoformat, lambda each: datetime.strptime(each, CTIME)):
        try:
            moment = parse(text.removesuffix(" UTC"))
        except ValueError:
            continue
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    raise ValueError(f"is {text!r}, not a time (a Unix time, or ISO 8601)")
