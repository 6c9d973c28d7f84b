"""A broker with stream workers as child processes that can be killed, paused and counted on."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from confluent_kafka import Producer

from chronotope.kafka.errors import ClusterError
from chronotope.kafka.offsets import OffsetReader
from chronotope.kafka.topics import apply_topics
from chronotope.local.ports import LOOPBACK, free_ports
from chronotope.local.process import ManagedProcess
from schemas.settings import KafkaSettings
from schemas.topics import EVENTS
from streams.agents import SOURCES

VERIFIER = Path(__file__).parent / "verifier.py"
RECOMMENDATIONS_VERIFIER = Path(__file__).parent / "recommendations_verifier.py"
QUICK = {
    "CHRONOTOPE_WORKER_SESSION_TIMEOUT_S": "6",
    "CHRONOTOPE_WORKER_COMMIT_INTERVAL_S": "0.5",
    "CHRONOTOPE_WORKER_MAX_BATCH_EVENTS": "400",
    "OMP_NUM_THREADS": "1",
}


class Victim:
    """A child process that faults may befall; ``revive`` starts it again as whoever runs it would."""

    def __init__(self, process: ManagedProcess, revive: Callable[[], object] | None = None) -> None:
        self.process = process
        self._revive = revive or process.start
        self.paused = False

    def start(self) -> Self:
        """Start it, or start it again."""
        self._revive()
        self.paused = False
        return self

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.paused = False

    def pause(self) -> None:
        """SIGSTOP: the process is gone for the others and does not know it."""
        os.kill(self.process.pid, signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        if self.paused and self.process.running:
            os.kill(self.process.pid, signal.SIGCONT)
        self.paused = False

    def stop(self) -> int | None:
        """SIGTERM, then wait; its exit code."""
        self.resume()
        self.process.stop()
        return self.process.exit_code


class ServiceProcess(Victim):
    """One of our own services with its HTTP port on loopback; ``name`` tells those of one cluster apart."""

    def __init__(self, name: str, command: str, port: int, run_dir: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.port = port
        words = [sys.executable, "-m", "chronotope", command]
        super().__init__(ManagedProcess(name, words, run_dir / f"{name}.log", os.environ | QUICK | env))

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET on its HTTP port; (0, "") if nobody answers."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=2.0)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        return 0, ""

    @property
    def ready(self) -> bool:
        """Whether ``/readyz`` says so."""
        return self.get("/readyz")[0] == 200

    def log(self) -> str:
        """All that it has logged."""
        return self.process.log_path.read_text()

    def metric(self, sample: str) -> float:
        """The value of a sample, written as the exposition has it; 0 if nobody answers."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(f"{sample} ")]
        return float(lines[0].split()[-1]) if lines else 0.0


class WorkerProcess(ServiceProcess):
    """``chronotope worker``."""

    def __init__(self, name: str, bootstrap: str, run_dir: Path, env: Mapping[str, str]) -> None:
        (port,) = free_ports(1)
        own = {
            "CHRONOTOPE_KAFKA_BOOTSTRAP": bootstrap,
            "CHRONOTOPE_WORKER_HTTP_PORT": str(port),
            "CHRONOTOPE_WORKER_DATA_DIR": str(run_dir / name),
        }
        super().__init__(name, "worker", port, run_dir, own | dict(env))

    def absorbed(self, stage: str = "user") -> int:
        """Records that a stage has absorbed since this process started; 0 if nobody answers."""
        return int(self.metric(f'chronotope_stage_records_total{{stage="{stage}"}}'))


class ServerProcess(ServiceProcess):
    """``chronotope serve`` with checkpoints."""

    def __init__(self, bootstrap: str, redis_url: str, run_dir: Path) -> None:
        (port,) = free_ports(1)
        own = {
            "CHRONOTOPE_KAFKA_BOOTSTRAP": bootstrap,
            "CHRONOTOPE_REDIS_URL": redis_url,
            "CHRONOTOPE_SERVER_HTTP_PORT": str(port),
            "CHRONOTOPE_SERVER_CHECKPOINT_DIR": str(run_dir / "checkpoints"),
            "CHRONOTOPE_SERVER_CHECKPOINT_EVERY_S": "3",
        }
        super().__init__("server", "serve", port, run_dir, own)


class Cluster:
    """Topics on a running broker, a producer, workers, and a model server if there is a Redis for it; they end with the block."""

    def __init__(
        self,
        bootstrap: str,
        run_dir: Path,
        workers: int = 1,
        env: Mapping[str, str] | None = None,
        redis_url: str | None = None,
    ) -> None:
        self.kafka = KafkaSettings(bootstrap=bootstrap)
        self.workers = [WorkerProcess(f"worker-{at}", bootstrap, run_dir, env or {}) for at in range(workers)]
        self.server = ServerProcess(bootstrap, redis_url, run_dir) if redis_url is not None else None
        apply_topics(self.kafka)
        self._producer = Producer(
            self.kafka.confluent_producer() | {"queue.buffering.max.messages": 2_000_000, "log_level": 0}
        )

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        for service in self.services:
            service.stop()

    @property
    def services(self) -> list[ServiceProcess]:
        """Our own processes."""
        return [*self.workers, *([self.server] if self.server else [])]

    def start(self) -> Self:
        """Start all of them."""
        for service in self.services:
            service.start()
        return self

    def revive(self) -> None:
        """Start again what ended by itself, as a supervisor would."""
        for service in self.services:
            if service.process.exit_code not in (None, 0, -signal.SIGKILL):
                service.start()

    def produce(self, records: Iterable[tuple[bytes, bytes]]) -> int:
        """Write events and wait until the broker has them; how many."""
        failed: list[Any] = []
        count = 0
        for key, value in records:
            self._producer.produce(
                EVENTS.name, value, key, on_delivery=lambda error, _: failed.append(error) if error else None
            )
            self._producer.poll(0)
            count += 1
        self._producer.flush(60)
        assert not failed, failed[0]
        return count

    def lag(self) -> int:
        """Records of the source topics that are not committed by the workers' group yet, and events by the server's."""
        sources = {"chronotope": [spec.name for spec in SOURCES.values()]}
        if self.server is not None:
            sources["chronotope-server"] = [EVENTS.name]
        return sum(self._lag(group, topics) for group, topics in sources.items())

    def _lag(self, group: str, topics: list[str]) -> int:
        with OffsetReader(self.kafka, group) as reader:
            partitions = reader.partitions(topics)
            ends, committed = reader.ends(partitions), reader.committed(partitions)
        return sum(ends[one] - committed.get(one, 0) for one in partitions)

    def quiesce(self, timeout_s: float = 120.0) -> None:
        """Wait until everything that was produced has gone through all stages: no lag, twice in a row."""
        deadline, quiet = time.monotonic() + timeout_s, 0
        while quiet < 2:
            with contextlib.suppress(ClusterError):
                quiet = quiet + 1 if self.lag() == 0 else 0
            self.revive()
            if time.monotonic() > deadline:
                logs = "".join(service.process.log_tail(30) for service in self.services)
                raise AssertionError(f"still {self.lag()} records behind after {timeout_s:g} s{logs}")
            time.sleep(0.4)

    def verdict(self, *words: str, verifier: Path = VERIFIER) -> tuple[int, str]:
        """Exit code and report of a verifier, run as a process of its own."""
        command = [sys.executable, str(verifier), "--bootstrap", self.kafka.bootstrap, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        return done.returncode, done.stdout + done.stderr
