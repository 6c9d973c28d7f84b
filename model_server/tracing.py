"""The trace of a recommendation: that of its cause, handed on as it is, or with a span of our own where OpenTelemetry is."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

from schemas.headers import Headers


class Traced(NamedTuple):
    """Headers for the outgoing record, and what to call with an error, or None, once it is confirmed."""

    headers: Headers
    end: Callable[[str | None], None]


Tracing = Callable[[Headers, str, int], Traced]


def tracing() -> Tracing:
    """What turns (trace headers of the cause, trigger, wall time of the cause in milliseconds) into a ``Traced``.

    A cause without a trace makes none. With the package ``opentelemetry`` installed each traced recommendation is a span, from
    its cause until Kafka has confirmed it, of whatever tracer provider the process was given; without a provider, or without
    the package, consumers get the producer's own context.

    >>> tracing()([], "event", 0).headers
    []
    """
    return _as_span if find_spec("opentelemetry") is not None else _handed_on


def _handed_on(headers: Headers, trigger: str, since_ms: int) -> Traced:
    return Traced(headers, _nothing_to_end)


def _nothing_to_end(error: str | None) -> None:
    pass


def _as_span(headers: Headers, trigger: str, since_ms: int) -> Traced:
    if not headers:
        return _handed_on(headers, trigger, since_ms)
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()
    cause = propagator.extract({name: value.decode(errors="replace") for name, value in headers})
    span = trace.get_tracer("chronotope").start_span(
        "recommendation",
        cause,
        trace.SpanKind.PRODUCER,
        {"chronotope.trigger": trigger},
        start_time=since_ms * 1_000_000,
    )
    carrier: dict[str, str] = {}
    propagator.inject(carrier, trace.set_span_in_context(span, cause))

    def end(error: str | None) -> None:
        if error is not None:
            span.set_status(trace.Status(trace.StatusCode.ERROR, error))
        span.end()

    return Traced([(name, value.encode()) for name, value in carrier.items()], end)
