"""``/healthz``, ``/readyz`` and ``/metrics`` from a thread of their own: they answer while the worker computes."""

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

ALIVE_WITHIN_S = 30.0


class Heartbeat:
    """When the event loop was last seen alive, and whether the worker is ready."""

    def __init__(self) -> None:
        self._beaten_at = time.monotonic()
        self.ready = False

    def beat(self) -> None:
        """The event loop is alive now."""
        self._beaten_at = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether the event loop has run within ``ALIVE_WITHIN_S``."""
        return time.monotonic() - self._beaten_at < ALIVE_WITHIN_S


class HealthServer:
    """Serves the heartbeat and a metrics registry over HTTP on one address. Raises OSError that names it if it is taken."""

    def __init__(self, host: str, port: int, heartbeat: Heartbeat, registry: CollectorRegistry) -> None:
        answers: dict[str, Callable[[], tuple[int, bytes, str]]] = {
            "/healthz": lambda: _verdict(heartbeat.alive),
            "/readyz": lambda: _verdict(heartbeat.alive and heartbeat.ready),
            "/metrics": lambda: (200, generate_latest(registry), CONTENT_TYPE_LATEST),
        }
        try:
            self._server = ThreadingHTTPServer((host, port), _handler(answers))
        except OSError as error:
            raise OSError(error.errno, f"{host}:{port}: {error.strerror}") from error
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Answer from now on, in a thread."""
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()


def _verdict(good: bool) -> tuple[int, bytes, str]:
    return (200, b"ok\n", "text/plain") if good else (503, b"not yet\n", "text/plain")


def _handler(answers: dict[str, Callable[[], tuple[int, bytes, str]]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path)
            code, body, kind = answer() if answer else (404, b"not found\n", "text/plain")
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: probes come every second."""

    return Handler
