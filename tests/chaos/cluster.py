"""A broker with stream workers as child processes that can be killed, paused and counted on."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

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
QUICK = {
    "CHRONOTOPE_WORKER_SESSION_TIMEOUT_S": "6",
    "CHRONOTOPE_WORKER_COMMIT_INTERVAL_S": "0.5",
    "CHRONOTOPE_WORKER_MAX_BATCH_EVENTS": "400",
    "OMP_NUM_THREADS": "1",
}


class WorkerProcess:
    """``chronotope worker`` on loopback; ``name`` tells the workers of one cluster apart."""

    def __init__(self, name: str, bootstrap: str, run_dir: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.port = free_ports(1)[0]
        own = {
            "CHRONOTOPE_KAFKA_BOOTSTRAP": bootstrap,
            "CHRONOTOPE_WORKER_HTTP_PORT": str(self.port),
            "CHRONOTOPE_WORKER_DATA_DIR": str(run_dir / name),
        }
        command = [sys.executable, "-m", "chronotope", "worker"]
        self.process = ManagedProcess(name, command, run_dir / f"{name}.log", os.environ | QUICK | own | env)
        self.paused = False

    def start(self) -> "WorkerProcess":
        """Start it, or start it again."""
        self.process.start()
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

    def absorbed(self, stage: str = "user") -> int:
        """Records that a stage has absorbed since this process started; 0 if nobody answers."""
        wanted = f'chronotope_stage_records_total{{stage="{stage}"}} '
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(wanted)]
        return int(float(lines[0].split()[-1])) if lines else 0


class Cluster:
    """Topics on a running broker, a producer, and workers that end with the block."""

    def __init__(self, bootstrap: str, run_dir: Path, workers: int = 1, env: Mapping[str, str] | None = None) -> None:
        self.kafka = KafkaSettings(bootstrap=bootstrap)
        self.workers = [WorkerProcess(f"worker-{at}", bootstrap, run_dir, env or {}) for at in range(workers)]
        apply_topics(self.kafka)
        self._producer = Producer(
            self.kafka.confluent_producer() | {"queue.buffering.max.messages": 2_000_000, "log_level": 0}
        )

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.resume()
            worker.process.stop()

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
        """Records of the source topics that are not committed by the workers' group yet."""
        with OffsetReader(self.kafka, "chronotope") as reader:
            partitions = reader.partitions([spec.name for spec in SOURCES.values()])
            ends, committed = reader.ends(partitions), reader.committed(partitions)
        return sum(ends[one] - committed.get(one, 0) for one in partitions)

    def quiesce(self, timeout_s: float = 120.0) -> None:
        """Wait until everything that was produced has gone through all stages: no lag, twice in a row."""
        deadline, quiet = time.monotonic() + timeout_s, 0
        while quiet < 2:
            with contextlib.suppress(ClusterError):
                quiet = quiet + 1 if self.lag() == 0 else 0
            for worker in self.workers:
                if worker.process.exit_code not in (None, 0, -signal.SIGKILL):
                    worker.start()  # as a supervisor would: a worker that ends by itself is started again
            if time.monotonic() > deadline:
                logs = "".join(worker.process.log_tail(30) for worker in self.workers)
                raise AssertionError(f"still {self.lag()} records behind after {timeout_s:g} s{logs}")
            time.sleep(0.4)

    def verdict(self) -> tuple[int, str]:
        """Exit code and report of the verifier, run as a process of its own."""
        command = [sys.executable, str(VERIFIER), "--bootstrap", self.kafka.bootstrap]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        return done.returncode, done.stdout + done.stderr
