"""A traced event makes a span that its consumers continue; without OpenTelemetry, or a provider, its context is handed on."""

from collections.abc import Iterator
from typing import Any

import pytest

from model_server.tracing import tracing
from schemas.headers import Headers

pytest.importorskip("opentelemetry.sdk", reason="NOT TESTED HERE: opentelemetry-sdk is not installed")
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS: Headers = [("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01".encode()), ("tracestate", b"shop=1")]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The spans that a provider of this test exports."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()


def test_recommendation_is_a_span_from_its_cause_to_its_confirmation(spans: Any) -> None:
    traced = tracing()(HEADERS, "event", 1_333_238_400_000)
    assert spans.get_finished_spans() == ()
    traced.end(None)
    (span,) = spans.get_finished_spans()
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE_ID, SPAN_ID)
    assert (span.name, span.attributes["chronotope.trigger"]) == ("recommendation", "event")
    assert span.start_time == 1_333_238_400_000 * 1_000_000
    assert dict(traced.headers) == {
        "traceparent": f"00-{TRACE_ID}-{span.context.span_id:016x}-01".encode(), "tracestate": b"shop=1",
    }  # fmt: skip


def test_refused_recommendation_is_a_failed_span(spans: Any) -> None:
    tracing()(HEADERS, "event", 0).end("Broker: Message size too large")
    (span,) = spans.get_finished_spans()
    assert (span.status.is_ok, span.status.description) == (False, "Broker: Message size too large")


def test_cause_without_a_trace_makes_no_span(spans: Any) -> None:
    traced = tracing()([], "due", 0)
    traced.end(None)
    assert (traced.headers, spans.get_finished_spans()) == ([], ())


def test_without_a_provider_the_context_is_handed_on() -> None:
    assert tracing()(HEADERS, "event", 0).headers == HEADERS
