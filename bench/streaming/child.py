"""A contender in a process of its own: started, followed by what it writes, ended."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from chronotope.local.ports import free_ports

CONTENDERS = Path(__file__).resolve().with_name("contenders.py")
ROOT = CONTENDERS.parents[2]
SETTLE_S = 0.05


class Child:
    """A contender in a process of its own, which writes a line ``count seconds cpu_seconds`` for what it has done so far."""

    def __init__(self, name: str, env: dict[str, str], log: Path) -> None:
        self._out = log.with_suffix(".progress")
        self._out.unlink(missing_ok=True)
        self.port = free_ports(1)[0]
        own = os.environ | env | {"CHRONOTOPE_BENCH_PROGRESS": str(self._out), "OMP_NUM_THREADS": "1"}
        own["CHRONOTOPE_BENCH_PORT"] = str(self.port)
        own["PYTHONPATH"] = str(ROOT)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [_interpreter(name), str(CONTENDERS), name], env=own, stdout=output, stderr=output
            )
        self._log = log

    def run(self, events: int, timeout_s: float) -> tuple[float, float, float]:
        """Events per second and CPU microseconds per event between the first progress and the last, and peak RSS in MB."""
        samples: list[tuple[int, float, float]] = []
        deadline = time.monotonic() + timeout_s
        try:
            while not samples or samples[-1][0] < events:
                time.sleep(SETTLE_S)
                if self._process.poll() is not None or time.monotonic() > deadline:
                    break
                if self._out.exists():
                    lines = self._out.read_text().splitlines()
                    samples = [
                        (int(count), float(at), float(cpu))
                        for count, at, cpu in (line.split() for line in lines if line.count(" ") == 2)
                    ]
            if len(samples) < 2 or samples[-1][0] < events:
                raise RuntimeError(f"{self._log.stem} stopped early:\n{self._log.read_text()[-2000:]}")
            (first, began, cpu_before), (last, ended, cpu_after) = samples[0], samples[-1]
            done = last - first
            return done / (ended - began), (cpu_after - cpu_before) * 1e6 / done, self._rss_mb()
        finally:
            self.stop()

    def wait_until_ready(self, timeout_s: float = 120.0) -> None:
        """Wait until the worker in the child has its partitions. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2),
            ):
                return
            time.sleep(SETTLE_S)
        raise TimeoutError(f"the worker is not ready; see {self._log}:\n{self._log.read_text()[-2000:]}")

    def stop(self) -> None:
        """End the child, by force if need be."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _rss_mb(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _interpreter(name: str) -> str:
    """Quix pins an older confluent-kafka than ours: CHRONOTOPE_BENCH_QUIX_PYTHON names an environment of its own."""
    return os.environ.get("CHRONOTOPE_BENCH_QUIX_PYTHON", sys.executable) if name == "quix" else sys.executable
