"""The HTTP server: a thread with its own event loop, so that a slow client never delays a refresh."""

import asyncio
import threading
from types import TracebackType

from aiohttp import web

from model_server.http.routes import make_app
from model_server.metrics import ServerMetrics
from model_server.serving import Server
from model_server.settings import ServerSettings


class HttpServer:
    """A context manager; ``host`` and ``port`` are where it listens. Raises OSError if the port is taken."""

    def __init__(self, settings: ServerSettings, server: Server, metrics: ServerMetrics) -> None:
        self._settings, self._server, self._metrics = settings, server, metrics
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="http", daemon=True)
        self._runner: web.AppRunner | None = None
        self.host, self.port = settings.http_host, settings.http_port

    def __enter__(self) -> "HttpServer":
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(timeout=10)
        except BaseException:
            self._stop_loop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(timeout=10)
        self._stop_loop()

    async def _start(self) -> None:
        app = make_app(self._settings, self._server, self._metrics)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._settings.http_host, self._settings.http_port)
        await site.start()
        self.host, self.port = self._runner.addresses[0][:2]

    async def _stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()
