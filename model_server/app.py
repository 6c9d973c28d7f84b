"""The model server process: build it from the settings, serve until a signal, leave cleanly."""

import gc
import signal
import threading
from types import FrameType

import structlog

from model_server.http.server import HttpServer
from model_server.memory_allocator import keep_freed_memory
from model_server.metrics import ServerMetrics
from model_server.serving import Server
from model_server.settings import ServerSettings

log = structlog.get_logger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_server(settings: ServerSettings) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; then flush the sinks, commit the offsets and return.

    Raises ValueError for settings that cannot be served (an unknown strategy, topics of unequal partitions), KafkaException if
    the topics do not exist or nobody answers, OSError if the HTTP port is taken.
    """
    stopping = threading.Event()
    _stop_on_signals(stopping)
    keep_freed_memory()
    metrics = ServerMetrics()
    server = Server(settings, metrics)
    with HttpServer(settings, server, metrics) as http:
        # What was imported and built lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        log.info("serving", group=settings.group, http=f"{http.host}:{http.port}", strategies=list(settings.strategies))
        server.run(stopping.is_set)
    log.info("stopped")


def _stop_on_signals(stopping: threading.Event) -> None:
    if threading.current_thread() is not threading.main_thread():
        return

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    for each in SIGNALS:
        signal.signal(each, stop)
