"""Which record headers travel on: W3C trace context and CloudEvents binary-mode attributes."""

from collections.abc import Iterable

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
