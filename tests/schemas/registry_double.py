"""An HTTP server that speaks the one call of the schema registry's API that a reader makes: GET /schemas/ids/{id}."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from schemas.contracts.avro import avro_schema
from schemas.events import BehaviorEvent

SCHEMA_ID = 7


class _Registry(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.path.startswith(f"/schemas/ids/{SCHEMA_ID}")
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


@contextmanager
def running_registry() -> Iterator[str]:
    """The address of a registry that knows the event schema as ``SCHEMA_ID``, while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
