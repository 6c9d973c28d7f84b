"""Writers' schemas come over HTTP from something that speaks the registry's API; its absence is no fault of the record."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from schemas.avro_wire import (
    ConfluentAvroDecoder,
    RegistrySchemaSource,
    RegistryUnavailableError,
    WireFormatError,
    frame,
)
from schemas.contracts.avro import avro_schema
from schemas.events import BehaviorEvent

EVENT = BehaviorEvent(event_id="e", user_id="u", item_id="i", action="view", event_time_ms=1)


class _Registry(BaseHTTPRequestHandler):
    """The one call of the registry's REST API that a reader makes: GET /schemas/ids/{id}."""

    def do_GET(self) -> None:
        known = self.path.startswith("/schemas/ids/7")
        body = (
            {"schema": json.dumps(avro_schema(BehaviorEvent))}
            if known
            else {"error_code": 40403, "message": "not found"}
        )
        data = json.dumps(body).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Requests are not logged."""


@pytest.fixture
def registry_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_event_is_decoded_with_the_schema_of_the_registry(registry_url: str) -> None:
    decoder = ConfluentAvroDecoder(BehaviorEvent, RegistrySchemaSource({"url": registry_url}))
    assert decoder.decode(frame(7, EVENT)) == EVENT


def test_unknown_schema_id_is_a_fault_of_the_record(registry_url: str) -> None:
    decoder = ConfluentAvroDecoder(BehaviorEvent, RegistrySchemaSource({"url": registry_url}))
    with pytest.raises(WireFormatError, match="does not know schema 8"):
        decoder.decode(frame(8, EVENT))


def test_absent_registry_is_not_a_fault_of_the_record() -> None:
    config = {"url": "http://127.0.0.1:9", "max.retries": 0, "timeout": 2}
    with pytest.raises(RegistryUnavailableError):
        ConfluentAvroDecoder(BehaviorEvent, RegistrySchemaSource(config)).decode(frame(7, EVENT))
