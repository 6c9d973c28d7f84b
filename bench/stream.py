"""Events per second through one stream worker, next to stock Faust, Quix Streams and plain confluent-kafka in the same run.

``python bench/stream.py [--broker embedded|kafka] [--events N] [--keys K ...] [--json OUT]``. Every contender runs in a process
of its own over the same topic of JSON events, one after the other, in several rounds; medians and ratios are reported.
``--latency`` measures instead how long an event takes to become a pattern at a fixed ``--rate`` (see ``stream_latency.py``).

- ``user``: our worker with the user stage alone: decode, validate, profile, transitions, periods, batches for the other stages
- ``all stages``: the same worker with all four stages on its one core
- ``update``: our engine with decode, validation, guard and one count per user as its state
- ``stock faust``: an agent that decodes and counts per user in a table
- ``quix``: a stateful update per event; ``confluent``: consume, decode with msgspec, count in a dict
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from rich.console import Console
from rich.table import Table
from stream_latency import measure as measure_latency

from chronotope.kafka.topics import apply_topics
from chronotope.local.apache_kafka import ApacheKafka
from chronotope.local.embedded import EmbeddedBroker
from chronotope.local.ports import free_ports
from schemas import json_wire
from schemas.events import BehaviorEvent
from schemas.settings import KafkaSettings
from schemas.topics import EVENTS

HERE = Path(__file__).resolve()
ROUNDS = 3
START_MS = 1_333_238_400_000
SETTLE_S = 0.05
WARM_UP_S = 5.0


def events_of(keys: int, events: int) -> Any:
    """(key, value) of synthetic check-ins: ``keys`` users, places around a city, one per 600 ms of event time."""
    import numpy as np

    rng = np.random.default_rng(1)
    users, items = rng.integers(0, keys, events), rng.zipf(1.3, events) % 5_000
    places = rng.uniform([40.5, -74.2], [40.9, -73.7], (5_000, 2))
    jitter = rng.normal(0, 2e-4, (events, 2))
    for at in range(events):
        user, item = f"user-{users[at]}", int(items[at])
        lat, lon = (places[item] + jitter[at]).tolist()
        yield user.encode(), json_wire.encode(
            BehaviorEvent(
                event_id=f"bench-{at}", user_id=user, item_id=f"place-{item}", action="checkin", lat=lat, lon=lon,
                event_time_ms=START_MS + at * 600, context={"category": f"kind-{item % 97}"},
            )
        )  # fmt: skip


def fill(kafka: KafkaSettings, keys: int, events: int) -> None:
    """Write the events."""
    producer = Producer(kafka.confluent_producer() | {"queue.buffering.max.messages": 500_000, "log_level": 0})
    for key, value in events_of(keys, events):
        while True:
            try:
                producer.produce(EVENTS.name, value, key)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush(120)


class Child:
    """A contender in a process of its own, which writes a line ``count seconds cpu_seconds`` for what it has done so far."""

    def __init__(self, name: str, env: dict[str, str], log: Path) -> None:
        self._out = log.with_suffix(".progress")
        self._out.unlink(missing_ok=True)
        self.port = free_ports(1)[0]
        own = os.environ | env | {"CHRONOTOPE_BENCH_PROGRESS": str(self._out), "OMP_NUM_THREADS": "1"}
        own["CHRONOTOPE_BENCH_PORT"] = str(self.port)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [_interpreter(name), str(HERE), "--child", name], env=own, stdout=output, stderr=output
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


class Progress:
    """Writes how far the child has come, at most every 50 ms, and at the end."""

    def __init__(self) -> None:
        self._out = Path(os.environ["CHRONOTOPE_BENCH_PROGRESS"]).open("a")  # noqa: SIM115 - lives as long as the process
        self._events = int(os.environ["CHRONOTOPE_BENCH_EVENTS"])
        self._written = 0.0

    def __call__(self, count: int) -> None:
        now = time.perf_counter()
        if now - self._written > 0.05 or count >= self._events:
            self._written = now
            self._out.write(f"{count} {now} {time.process_time()}\n")
            self._out.flush()


# -- the contenders, each in its own process


def worker_child(stages: tuple[str, ...]) -> None:
    """Our worker; progress is what its user stage has made durable."""
    from streams import app, runner

    progress, done = Progress(), 0
    finish = runner.StageRunner._finish

    def counted(self: Any, batch: Any) -> None:
        nonlocal done
        finish(self, batch)
        if self.stage == "user":
            done += len(batch.records)
            progress(done)

    runner.StageRunner._finish = counted  # type: ignore[method-assign]
    app.run_worker(_worker_settings(stages))


def update_child() -> None:
    """Our engine with one count per user as its state, in the place of the user stage."""
    import numpy as np

    from streams.stages import factory
    from streams.stages.code_index import CodeIndex, grown
    from streams.stages.columns import EventColumns, decode_events
    from streams.stages.output import StageOutput
    from streams.stages.packing import pack_arrays, unpack_arrays

    class CountStage:
        """Counts events per user."""

        untested = 0

        def __init__(self, settings: Any, partition: int) -> None:
            self.settings, self.partition, self.absorbed_offset = settings, partition, -1
            self.index, self.counts, self.names = CodeIndex(), np.zeros(0, np.int64), type("Known", (), {"held": {}})()

        def apply(self, events: EventColumns, last_offset: int, caught_up: bool = False) -> StageOutput:
            rows = self.index.rows(events.user)
            self.counts = grown(self.counts, len(self.index), 0)
            np.add.at(self.counts, rows, 1)
            self.absorbed_offset = last_offset
            return StageOutput()

        @property
        def event_time_s(self) -> None:
            return None

        def sizes(self) -> dict[str, int]:
            return {"users": len(self.index)}

        def announce(self, caught_up: bool) -> list[Any]:
            return []

        def replay(self, first: int, last: int, payload: bytes) -> None:
            self.apply(decode_events(payload), last)

        def to_bytes(self) -> bytes:
            counts = self.counts[: len(self.index)]
            return pack_arrays({"user": self.index.codes, "count": counts, "at": np.array([self.absorbed_offset])})

        def load(self, data: bytes) -> None:
            state = unpack_arrays(data)
            self.index, self.counts = CodeIndex(state["user"]), state["count"]
            self.absorbed_offset = int(state["at"][0])

    factory.STAGES["user"] = CountStage
    worker_child(("user",))


def _worker_settings(stages: tuple[str, ...]) -> Any:
    from streams.settings import WorkerSettings

    return WorkerSettings(
        app_id=os.environ["CHRONOTOPE_BENCH_ID"], stages=stages, session_timeout_s=6.0,
        http_port=int(os.environ["CHRONOTOPE_BENCH_PORT"]),
        data_dir=Path(tempfile.mkdtemp()),
    )  # fmt: skip


def stock_child() -> None:
    """Stock Faust: an agent per event with a table."""
    import logging

    import faust

    progress, done = Progress(), 0
    for name in ("faust", "aiokafka", "mode"):
        logging.getLogger(name).setLevel(logging.WARNING)
    decode = json_wire.decoder(EVENTS).decode
    app = faust.App(
        os.environ["CHRONOTOPE_BENCH_ID"], broker="kafka://" + KafkaSettings().bootstrap, web_enabled=False,
        datadir=tempfile.mkdtemp(), topic_disable_leader=True, broker_session_timeout=6, broker_heartbeat_interval=1,
        broker_request_timeout=60, consumer_auto_offset_reset="earliest", topic_partitions=EVENTS.partitions,
        topic_replication_factor=1,
    )  # fmt: skip
    counts = app.Table("counts", default=int, partitions=EVENTS.partitions)
    topic = app.topic(EVENTS.name, value_serializer="raw", key_serializer="raw")

    @app.agent(topic)
    async def count(stream: Any) -> None:
        nonlocal done
        async for value in stream:
            counts[decode(value).user_id] += 1
            done += 1
            progress(done)

    faust.Worker(app, loglevel="WARN").execute_from_commandline()


def quix_child() -> None:
    """Quix Streams: decode and one stateful update per event."""
    from quixstreams import Application

    progress, done = Progress(), 0
    decode = json_wire.decoder(EVENTS).decode
    app = Application(
        broker_address=KafkaSettings().bootstrap, consumer_group=os.environ["CHRONOTOPE_BENCH_ID"],
        auto_offset_reset="earliest", state_dir=tempfile.mkdtemp(), loglevel="WARNING",
    )  # fmt: skip

    def count(value: bytes, state: Any) -> bytes:
        nonlocal done
        user = decode(value).user_id
        state.set(user, state.get(user, 0) + 1)
        done += 1
        progress(done)
        return value

    app.dataframe(app.topic(EVENTS.name, value_deserializer="bytes")).update(count, stateful=True)
    app.run()


def confluent_child() -> None:
    """Plain confluent-kafka: consume, decode, count in a dict."""
    progress, done = Progress(), 0
    decode, counts = json_wire.decoder(EVENTS).decode, dict[str, int]()
    consumer = Consumer(KafkaSettings().confluent() | {"group.id": os.environ["CHRONOTOPE_BENCH_ID"], "log_level": 0})
    consumer.assign([TopicPartition(EVENTS.name, partition, 0) for partition in range(EVENTS.partitions)])
    while True:
        for message in consumer.consume(5_000, 0.2):
            user = decode(message.value()).user_id
            counts[user] = counts.get(user, 0) + 1
            done += 1
        progress(done)


CHILDREN: dict[str, Callable[[], None]] = {
    "user": lambda: worker_child(("user",)),
    "all stages": lambda: worker_child(("user", "region", "transition", "place")),
    "update": update_child,
    "stock faust": stock_child,
    "quix": quix_child,
    "confluent": confluent_child,
}
# Slow contenders are measured on their first events.
SHARE = {"stock faust": 0.1, "quix": 0.3}


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row per contender and number of keys."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="chronotope-bench-") as folder:
        for keys in options.keys:
            with _broker(options.broker, Path(folder) / str(keys)) as broker:
                kafka = KafkaSettings(bootstrap=broker.bootstrap)
                apply_topics(kafka)
                fill(kafka, keys, options.events)
                speeds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in options.only or CHILDREN}
                for number in range(options.rounds):
                    for name, found in speeds.items():
                        events = int(options.events * SHARE.get(name, 1.0))
                        env = {
                            "CHRONOTOPE_KAFKA_BOOTSTRAP": broker.bootstrap,
                            "CHRONOTOPE_BENCH_ID": f"bench-{name.replace(' ', '-')}-{number}",
                            "CHRONOTOPE_BENCH_EVENTS": str(events),
                        }
                        log = Path(folder) / str(keys) / f"{name.replace(' ', '-')}.log"
                        found.append(Child(name, env, log).run(events, options.timeout))
                rows += [_row(name, keys, found) for name, found in speeds.items()]
    return rows


def measure_patterns(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of latencies, one run per number of keys, with one worker of all stages."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="chronotope-bench-") as folder:
        for keys in options.keys:
            with _broker(options.broker, Path(folder) / str(keys)) as broker:
                kafka = KafkaSettings(bootstrap=broker.bootstrap)
                apply_topics(kafka)
                env = {
                    "CHRONOTOPE_KAFKA_BOOTSTRAP": broker.bootstrap,
                    "CHRONOTOPE_BENCH_ID": "bench-latency",
                    "CHRONOTOPE_BENCH_EVENTS": str(2**62),
                }
                child = Child("all stages", env, Path(folder) / str(keys) / "worker.log")
                try:
                    events = list(events_of(keys, int(options.rate * (WARM_UP_S + options.seconds))))
                    found = measure_latency(kafka, events, options.rate, WARM_UP_S, child.wait_until_ready)
                    rows += [{"keys": keys} | row for row in found]
                finally:
                    child.stop()
    return rows


def show_patterns(rows: list[dict[str, Any]], broker: str) -> None:
    """A table of latencies."""
    table = Table("pattern", "keys", "events/s", "patterns", "p50 ms", "p99 ms", "max ms", title=broker)
    for row in rows:
        table.add_row(
            row["pattern"], f"{row['keys']:,}", f"{row['rate']:,.0f}", f"{row['patterns']:,}", f"{row['p50_ms']:.0f}",
            f"{row['p99_ms']:.0f}", f"{row['max_ms']:.0f}",
        )  # fmt: skip
    Console().print(table)


def _broker(kind: str, run_dir: Path) -> Any:
    run_dir.mkdir(parents=True, exist_ok=True)
    return EmbeddedBroker(run_dir) if kind == "embedded" else ApacheKafka(run_dir)


def _row(name: str, keys: int, found: list[tuple[float, float, float]]) -> dict[str, Any]:
    speeds = [speed for speed, _, _ in found]
    return {
        "contender": name, "keys": keys, "events_per_s": statistics.median(speeds), "runs": speeds,
        "cpu_us_per_event": statistics.median(cpu for _, cpu, _ in found), "rss_mb": max(rss for _, _, rss in found),
    }  # fmt: skip


def show(rows: list[dict[str, Any]], broker: str) -> None:
    """A table with ratios to the peers of the same run."""
    table = Table(
        "contender", "keys", "events/s", "of stock faust", "of quix", "of confluent", "CPU us/event", "peak RSS MB",
        title=broker,
    )  # fmt: skip
    for row in rows:
        peers = {other["contender"]: other["events_per_s"] for other in rows if other["keys"] == row["keys"]}
        ratios = [
            f"{row['events_per_s'] / peers[peer]:.2f}" if peer in peers else "-"
            for peer in ("stock faust", "quix", "confluent")
        ]
        table.add_row(
            row["contender"], f"{row['keys']:,}", f"{row['events_per_s']:,.0f}", *ratios,
            f"{row['cpu_us_per_event']:.1f}", f"{row['rss_mb']:.0f}",
        )  # fmt: skip
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", choices=CHILDREN)
    parser.add_argument("--broker", choices=("embedded", "kafka"), default="embedded")
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--keys", type=int, nargs="+", default=[1_000, 100_000])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", nargs="+", choices=CHILDREN)
    parser.add_argument("--timeout", type=float, default=120.0)
    parser.add_argument("--latency", action="store_true", help="measure from event to pattern at a fixed rate")
    parser.add_argument("--rate", type=float, default=5_000.0, help="events per second of --latency")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of --latency, after its warm-up")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.child:
        CHILDREN[options.child]()
        return
    rows = measure_patterns(options) if options.latency else measure(options)
    (show_patterns if options.latency else show)(rows, options.broker)
    if options.json:
        options.json.write_text(
            json.dumps({"broker": options.broker, "events": options.events, "rows": rows}, indent=2)
        )


if __name__ == "__main__":
    main()
