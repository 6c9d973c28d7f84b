"""Our own services as child processes of a local stack: the very commands that run in production."""

import http.client
import sys
from collections.abc import Mapping
from contextlib import ExitStack

from chronotope.local.ports import LOOPBACK, free_ports
from chronotope.local.process import ManagedProcess, ProcessFailed
from chronotope.local.stack import LocalStack

READY_TIMEOUT_S = 600.0  # the very first start compiles every kernel


class Service:
    """``chronotope COMMAND`` as a child process with an HTTP port of its own; ready when ``/readyz`` says so."""

    def __init__(self, name: str, command: str, env: Mapping[str, str], stack: LocalStack, port: int) -> None:
        self.name = name
        self.port = port
        self.process = ManagedProcess(
            name, [sys.executable, "-m", "chronotope", command], stack.run_dir / f"{name}.log", env, stack.run_dir
        )

    def __enter__(self) -> "Service":
        self.process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()

    def await_ready(self) -> None:
        """Wait for ``/readyz``. Raises ProcessFailed with the end of the log."""
        self.process.wait_until(lambda: self.get("/readyz") is not None, READY_TIMEOUT_S, poll_s=0.1)

    def get(self, path: str, timeout_s: float = 2.0) -> str | None:
        """The body of a 200 answer to a GET on loopback, else None."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return body if answer.status == 200 else None


class LocalServices:
    """A context manager over ``workers`` stream workers and one model server on a local stack; they end with the block."""

    def __init__(self, stack: LocalStack, workers: int = 1, http_port: int | None = None) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        ports = free_ports(workers + 1)
        env = dict(stack.environment())
        self.groups = (
            env.setdefault("CHRONOTOPE_WORKER_APP_ID", "chronotope"),
            env.setdefault("CHRONOTOPE_SERVER_GROUP", "chronotope-server"),
        )
        self.workers = [
            Service(
                f"worker-{number}",
                "worker",
                env
                | {
                    "CHRONOTOPE_WORKER_HTTP_PORT": str(port),
                    "CHRONOTOPE_WORKER_DATA_DIR": str(stack.run_dir / f"worker-{number}"),
                },
                stack,
                port,
            )
            for number, port in enumerate(ports[:workers], start=1)
        ]
        server_port = http_port or ports[-1]
        self.server = Service(
            "model-server", "serve", env | {"CHRONOTOPE_SERVER_HTTP_PORT": str(server_port)}, stack, server_port
        )
        self._running = ExitStack()

    @property
    def all(self) -> list[Service]:
        """The workers, then the server."""
        return [*self.workers, self.server]

    def __enter__(self) -> "LocalServices":
        with ExitStack() as running:
            for service in self.all:
                running.enter_context(service)
            self._running = running.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for service in self.all:  # all at once, then wait for each
            service.process.terminate()
        self._running.close()

    def await_ready(self) -> None:
        """Wait until every service says that it is ready. Raises ProcessFailed."""
        for service in self.all:
            service.await_ready()

    def check_alive(self) -> None:
        """Raises ProcessFailed, with the end of its log, if a service has ended by itself."""
        for service in self.all:
            if not service.process.running:
                code = service.process.exit_code
                raise ProcessFailed(f"{service.name} ended with code {code}{service.process.log_tail()}")
