"""How soon a killed worker has its state back, and whether its memory stays level over a long run.

``python bench/endurance.py recovery [--keys N] [--events N]``: one worker absorbs the events and is killed (SIGKILL); another one
of the same group starts. Printed are the seconds from its start until it is ready, and those that went into reading the state
back (both include waiting for the group to give the dead one up).

``python bench/endurance.py soak [--keys N] [--events N] [--rate N]``: one worker with small bounds (``SOON_FULL``) absorbs
events that come at a fixed rate, 600 ms of event time apart, so that windows, rings and tables are full early and turn over.
Printed is its resident memory over the events, and the slope of the second half (Theil and Sen's median slope with a 95 %
interval from resampled blocks).

Both on Apache Kafka, or on the embedded broker with ``--broker embedded``.
"""

import argparse
import http.client
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Event, Thread

import numpy as np
from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table
from stream import events_of, fill

from chronotope.kafka.errors import ClusterError
from chronotope.kafka.offsets import OffsetReader
from chronotope.kafka.topics import apply_topics
from chronotope.local.apache_kafka import ApacheKafka
from chronotope.local.embedded import EmbeddedBroker
from chronotope.local.ports import LOOPBACK, free_ports
from chronotope.local.process import ManagedProcess
from schemas.settings import KafkaSettings
from schemas.topics import EVENTS
from streams.agents import SOURCES

ABSORBED = 'chronotope_stage_records_total{stage="user"}'
RECOVERY_S = "chronotope_recovery_seconds_sum"
SAMPLE_S = 2.0
NO_BOUNDS: Mapping[str, str] = {}
# Positions of a day are 144,000 events; everybody has gone from everywhere to everywhere early.
SOAK_PLACES = 20
SOON_FULL = {
    "WINDOW_S": "86400", "MAX_TRANSITIONS": "16384", "MAX_PERIODIC_KEYS": "2048", "REMEMBERED_EVENT_IDS": "65536",
}  # fmt: skip
BLOCKS, RESAMPLES = 10, 500


class Worker:
    """``chronotope worker`` in a process of its own."""

    def __init__(
        self, kafka: KafkaSettings, folder: Path, name: str, stages: str | None, bounds: Mapping[str, str] = NO_BOUNDS
    ) -> None:
        (self._port,) = free_ports(1)
        own = {
            "CHRONOTOPE_KAFKA_BOOTSTRAP": kafka.bootstrap,
            "CHRONOTOPE_WORKER_HTTP_PORT": str(self._port),
            "CHRONOTOPE_WORKER_DATA_DIR": str(folder / name),
            "CHRONOTOPE_WORKER_SESSION_TIMEOUT_S": "6",
        } | ({"CHRONOTOPE_WORKER_STAGES": stages} if stages else {})
        own |= {f"CHRONOTOPE_WORKER_{setting}": value for setting, value in bounds.items()}
        words = [sys.executable, "-m", "chronotope", "worker"]
        self.process = ManagedProcess(name, words, folder / f"{name}.log", os.environ | own)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET; (0, "") if nobody answers."""
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=5.0)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def metric(self, sample: str) -> float:
        """The value of a sample; 0 if nobody answers."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(f"{sample} ")]
        return float(lines[0].split()[-1]) if lines else 0.0

    def ready(self) -> bool:
        """Whether it has its partitions and their state."""
        return self.get("/readyz")[0] == 200

    def rss_mb(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def wait_until(holds: Callable[[], bool], worker: Worker, timeout_s: float) -> float:
    """Seconds until it holds. Raises RuntimeError if the worker ended or the time is up."""
    began = time.monotonic()
    while not holds():
        if not worker.process.running or time.monotonic() - began > timeout_s:
            raise RuntimeError(f"after {time.monotonic() - began:.0f} s:\n{worker.process.log_tail()}")
        time.sleep(0.05)
    return time.monotonic() - began


def recovery(kafka: KafkaSettings, folder: Path, options: argparse.Namespace) -> None:
    """Absorb, kill, start again, print how long it took."""
    fill(kafka, events_of(options.keys, options.events))
    first = Worker(kafka, folder, "first", options.stages)
    first.process.start()
    topics = [spec.name for spec in SOURCES.values()] if options.stages is None else [EVENTS.name]
    try:
        wait_until(lambda: _lag(kafka, topics) == 0, first, options.timeout)
        rss = first.rss_mb()
    finally:
        first.process.kill()
    second = Worker(kafka, folder, "second", options.stages)
    second.process.start()
    try:
        ready_s = wait_until(second.ready, second, options.timeout)
        table = Table("keys", "events", "start to ready s", "of it recovery s", "RSS before MB", "RSS after MB")
        table.add_row(
            f"{options.keys:,}", f"{options.events:,}", f"{ready_s:.1f}", f"{second.metric(RECOVERY_S):.1f}",
            f"{rss:.0f}", f"{second.rss_mb():.0f}",
        )  # fmt: skip
        Console().print(table)
    finally:
        second.process.stop()


def _lag(kafka: KafkaSettings, topics: list[str]) -> float:
    try:
        with OffsetReader(kafka, "chronotope") as reader:
            partitions = reader.partitions(topics)
            ends, committed = reader.ends(partitions), reader.committed(partitions)
    except ClusterError:
        return float("inf")
    return sum(ends[one] - committed.get(one, 0) for one in partitions)


def soak(kafka: KafkaSettings, folder: Path, options: argparse.Namespace) -> None:
    """Feed one worker at a fixed rate, note its memory, print the slope."""
    worker = Worker(kafka, folder, "worker", options.stages, SOON_FULL)
    worker.process.start()
    ended = Event()
    feeder = Thread(
        target=_feed, args=(kafka, events_of(options.keys, options.events, SOAK_PLACES), options.rate, ended)
    )
    samples: list[tuple[float, float]] = []
    try:
        wait_until(worker.ready, worker, options.timeout)
        feeder.start()
        while not samples or samples[-1][0] < options.events:
            time.sleep(SAMPLE_S)
            if not worker.process.running:
                raise RuntimeError(worker.process.log_tail())
            samples.append((worker.metric(ABSORBED), worker.rss_mb()))
            if not feeder.is_alive() and len(samples) > 10 and samples[-10][0] == samples[-1][0]:
                break
    finally:
        ended.set()
        feeder.join()
        worker.process.stop()
    _show(np.array(samples))


def _feed(kafka: KafkaSettings, events: Iterator[tuple[bytes, bytes]], rate: float, ended: Event) -> None:
    producer = Producer(kafka.confluent_producer() | {"log_level": 0})
    began, sent = time.monotonic(), 0
    while not ended.is_set() and (batch := list(itertools.islice(events, max(1, int(rate / 20))))):
        for key, value in batch:
            producer.produce(EVENTS.name, value, key)
        producer.poll(0)
        sent += len(batch)
        ended.wait(max(0.0, began + sent / rate - time.monotonic()))
    producer.flush(60)


def _show(samples: np.ndarray) -> None:
    table = Table("events absorbed", "RSS MB")
    for at in np.linspace(0, len(samples) - 1, 13).astype(int):
        table.add_row(f"{samples[at, 0]:,.0f}", f"{samples[at, 1]:.0f}")
    Console().print(table)
    half = samples[len(samples) // 2 :]
    slope, (low, high) = _median_slope(half), _interval(half)
    Console().print(
        f"second half: {slope:+.1f} MB per million events (95 % interval {low:+.1f} to {high:+.1f}), "
        f"{(half[-1, 0] - half[0, 0]) / 1e6:.1f} million events"
    )


def _median_slope(samples: np.ndarray) -> float:
    first, second = np.triu_indices(len(samples), 1)
    run = samples[second, 0] - samples[first, 0]
    rise = samples[second, 1] - samples[first, 1]
    return float(np.median(rise[run > 0] / run[run > 0]) * 1e6)


def _interval(samples: np.ndarray) -> tuple[float, float]:
    rng, blocks = np.random.default_rng(1), np.array_split(samples, BLOCKS)
    slopes = []
    for _ in range(RESAMPLES):
        drawn = sorted(rng.integers(0, len(blocks), len(blocks)).tolist())
        slopes.append(_median_slope(np.concatenate([blocks[at] for at in drawn])))
    low, high = np.percentile(slopes, [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("recovery", "soak"))
    parser.add_argument("--broker", choices=("embedded", "kafka"), default="kafka")
    parser.add_argument("--keys", type=int)
    parser.add_argument("--events", type=int)
    parser.add_argument("--rate", type=float, default=8_000.0, help="events per second of the soak")
    parser.add_argument("--stages", help='as CHRONOTOPE_WORKER_STAGES, say ["user"]; all without it')
    parser.add_argument("--timeout", type=float, default=900.0)
    options = parser.parse_args()
    keys, events = (1_000_000, 2_000_000) if options.what == "recovery" else (200, 4_000_000)
    options.keys, options.events = options.keys or keys, options.events or events
    with tempfile.TemporaryDirectory(prefix="chronotope-bench-") as name:
        folder = Path(name)
        with EmbeddedBroker(folder) if options.broker == "embedded" else ApacheKafka(folder) as broker:
            kafka = KafkaSettings(bootstrap=broker.bootstrap)
            apply_topics(kafka)
            (recovery if options.what == "recovery" else soak)(kafka, folder, options)


if __name__ == "__main__":
    main()
