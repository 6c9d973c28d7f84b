"""Record headers: W3C trace context and CloudEvents binary-mode attributes, and which of them travel on."""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

TRACE_HEADERS = ("traceparent", "tracestate")
CLOUDEVENTS_PREFIX = "ce_"

Headers = list[tuple[str, bytes]]


def trace_headers(headers: Iterable[tuple[str, bytes | None]] | None) -> Headers:
    """The W3C trace context of a record: what follows from the record carries it too.

    >>> trace_headers([("traceparent", b"00-ab"), ("ce_id", b"1")])
    [('traceparent', b'00-ab')]
    """
    return [(name, value) for name, value in headers or () if value is not None and name in TRACE_HEADERS]


def kept_headers(headers: Iterable[tuple[str, bytes | None]] | None) -> Headers:
    """The headers of a record that every record derived from it carries too, in order.

    >>> kept_headers([("traceparent", b"00-ab"), ("ce_id", b"1"), ("x", b"y"), ("ce_type", None)])
    [('traceparent', b'00-ab'), ('ce_id', b'1')]
    """
    return [
        (name, value)
        for name, value in headers or ()
        if value is not None and (name in TRACE_HEADERS or name.startswith(CLOUDEVENTS_PREFIX))
    ]


def cloudevents_headers(topic: str, source: str, event_id: str, time_ms: int) -> Headers:
    """The attributes that make a record a CloudEvent 1.0 in binary mode.

    >>> for name, value in cloudevents_headers("recommendation.user.v1", "chronotope/serve", "r-1", 1_333_238_400_000):
    ...     print(name, value.decode())
    ce_specversion 1.0
    ce_type chronotope.recommendation.user.v1
    ce_source chronotope/serve
    ce_id r-1
    ce_time 2012-04-01T00:00:00.000Z
    content-type application/json
    """
    first, second, third, time = _shared_attributes(topic, source, time_ms)
    return [first, second, third, ("ce_id", event_id.encode()), time, ("content-type", b"application/json")]


@lru_cache(maxsize=16)
def _shared_attributes(topic: str, source: str, time_ms: int) -> Headers:
    """The attributes that all records of a batch share."""
    time = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", f"chronotope.{topic}".encode()),
        ("ce_source", source.encode()),
        ("ce_time", time.encode()),
    ]
