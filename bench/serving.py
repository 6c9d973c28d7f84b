"""The model server end to end, and its ranking against plain scoring loops and ``implicit``.

    python bench/serving.py [latency] [requests] [capacity] [ranking] [--items 5000] [--users 20000] [--rates 100,1000]
                            [--strategy fused|popular] [--preset nano] [--broker embedded|kafka] [--json OUT]

``latency``   event to recommendation at fixed rates: from the event's Kafka timestamp until a consumer holds the
              recommendation that knows it (an upper bound of "in Kafka"), and as the server's own histogram has it.
``requests``  look-ups over HTTP for a given time and place, at low load.
``capacity``  users refreshed per second, after an event each (learning included) and by one pattern that concerns all of
              them (no learning), with the server's processor time and memory.
``ranking``   users ranked per second by catalogue size and batch, with what the ranker takes in memory and to be made, against
              a PyTorch full-scoring loop and, where ``implicit`` is installed, its ALS.

The server is the real one (``chronotope serve``) in a process of its own, on the embedded broker (or, with ``--broker kafka``,
on Apache Kafka) and Redis.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from chronotope.kafka.topics import apply_topics
from chronotope.local.ports import free_ports
from chronotope.local.services import Service
from chronotope.local.stack import LocalStack
from schemas.events import BehaviorEvent, Item
from schemas.json_wire import encode
from schemas.patterns import ClusterUpdate, NamedCount
from schemas.topics import CATALOG, EVENTS, RECOMMENDATIONS, SPATIAL

START_MS = 1_333_238_400_000
MINUTE_MS = 60_000
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class _Slip(msgspec.Struct):
    """What the bench reads of a recommendation."""

    user_id: str
    trigger: str
    source_partition: int
    source_offset: int


class City:
    """Producers and the reader of recommendations around one running server."""

    def __init__(self, stack: LocalStack, server: Service, items: int, seed: int = 0) -> None:
        self._producer = Producer(
            stack.kafka.confluent_producer() | {"linger.ms": 1, "queue.buffering.max.messages": 1_000_000}
        )
        self._random = random.Random(seed)
        self._items, self._sent = items, 0
        self.server = server
        self.sent_ms: dict[tuple[int, int], int] = {}
        self.refreshed: dict[str, int] = {}
        self.seen: list[tuple[int, int, float]] = []
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(stack,), daemon=True)
        self._reader.start()

    def announce_items(self) -> None:
        for n in range(self._items):
            item = Item(
                item_id=f"i{n}",
                categories=[f"c{n % 50}"],
                lat=40.6 + self._random.random() / 5,
                lon=-74.1 + self._random.random() / 5,
            )
            self._producer.produce(CATALOG.name, encode(item), item.item_id)
            if n % 1000 == 0:
                self._producer.poll(0)
        self._producer.flush()

    def event(self, user: str) -> None:
        self._sent += 1
        event = BehaviorEvent(
            event_id=f"e{self._sent}", user_id=user, item_id=f"i{int(self._items * self._random.random() ** 2)}",
            action="checkin", event_time_ms=START_MS + self._sent * MINUTE_MS, lat=40.7, lon=-74.0,
        )  # fmt: skip
        self._producer.produce(EVENTS.name, encode(event), user, on_delivery=self._delivered)
        self._producer.poll(0)

    def crowd(self, version: int) -> None:
        cluster = ClusterUpdate(
            cluster_id="everybody", version=version, change="moved", event_time_ms=START_MS + self._sent * MINUTE_MS,
            born_at_ms=START_MS, lat=40.7, lon=-74.0, radius_m=50_000.0, count=100, distinct_users=100,
            top_items=[NamedCount("i1", 9.0)],
        )  # fmt: skip
        self._producer.produce(SPATIAL.name, encode(cluster), cluster.cluster_id)
        self._producer.flush()

    def flush(self) -> None:
        self._producer.flush()

    def latencies_ms(self) -> list[float]:
        """From each event's Kafka timestamp until the recommendation that knows it was here; clears what it has told."""
        seen, self.seen = self.seen, []
        return [now_ms - self.sent_ms[p, offset] for p, offset, now_ms in seen if (p, offset) in self.sent_ms]

    def close(self) -> None:
        self._stop.set()
        self._reader.join()

    def _delivered(self, error: Any, message: Any) -> None:
        self.sent_ms[message.partition(), message.offset()] = message.timestamp()[1]

    def _read(self, stack: LocalStack) -> None:
        consumer = Consumer(
            stack.kafka.confluent() | {"group.id": "bench", "auto.offset.reset": "earliest", "fetch.wait.max.ms": 10}
        )
        consumer.assign([TopicPartition(RECOMMENDATIONS.name, p, 0) for p in range(RECOMMENDATIONS.partitions)])
        decode = msgspec.json.Decoder(_Slip).decode
        while not self._stop.is_set():
            for message in consumer.consume(2_000, 0.002):
                if message.error() is not None:
                    continue
                now_ms = time.time() * 1000
                slip = decode(message.value())
                self.refreshed[slip.user_id] = self.refreshed.get(slip.user_id, 0) + 1
                if slip.trigger == "event":
                    self.seen.append((slip.source_partition, slip.source_offset, now_ms))
        consumer.close()


@contextmanager
def city(options: argparse.Namespace, **environment: str) -> Iterator[City]:
    with tempfile.TemporaryDirectory() as folder, LocalStack(Path(folder), broker=options.broker) as stack:
        apply_topics(stack.kafka)
        port = free_ports(1)[0]
        variables = stack.environment() | {
            "CHRONOTOPE_SERVER_HTTP_PORT": str(port),
            "CHRONOTOPE_SERVER_STRATEGIES": json.dumps({options.strategy: 1.0}),
            "CHRONOTOPE_SERVER_MODEL_PRESET": options.preset,
            "CHRONOTOPE_SERVER_SESSION_TIMEOUT_MS": "2000",
            **environment,
        }
        with Service("model-server", "serve", variables, stack, port) as server:
            around = City(stack, server, options.items)
            around.announce_items()
            server.await_ready()
            await_(lambda: metric(server, "chronotope_server_items") >= options.items, "the catalogue is read")
            yield around
            around.close()


def metric(server: Service, name: str, **labels: str) -> float:
    text = server.get("/metrics", timeout_s=10.0) or ""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def percentile_of_histogram(server: Service, name: str, share: float, **labels: str) -> float:
    """The upper bound of the bucket that holds this share of a histogram's observations."""
    buckets = [
        (float(sample.labels["le"]), sample.value)
        for family in text_string_to_metric_families(server.get("/metrics", timeout_s=10.0) or "")
        for sample in family.samples
        if sample.name == f"{name}_bucket" and labels.items() <= sample.labels.items()
    ]
    total = max((count for _, count in buckets), default=0.0)
    return next((bound for bound, count in sorted(buckets) if count >= share * total), float("nan"))


def processor_s(server: Service) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def resident_mb(process: int | str) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def await_(condition: Callable[[], bool], what: str, timeout_s: float = 300.0) -> None:
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.01)


def measure_latency(options: argparse.Namespace) -> list[dict[str, float]]:
    rows = []
    with city(options) as around:
        for n in range(500):
            around.event(f"u{n}")
        around.flush()
        time.sleep(3.0)
        for rate in options.rates:
            around.latencies_ms()
            used_s, started_s, sent = processor_s(around.server), time.time(), 0
            while (elapsed_s := time.time() - started_s) < options.seconds:
                while sent < rate * elapsed_s:
                    around.event(f"u{random.randrange(1_000)}")
                    sent += 1
                time.sleep(0.001)
            around.flush()
            busy = (processor_s(around.server) - used_s) / (time.time() - started_s)
            time.sleep(1.0)
            latencies_ms = around.latencies_ms()
            p50, p99 = np.percentile(latencies_ms, [50, 99]) if latencies_ms else (float("nan"),) * 2
            rows.append(
                {"events_per_s": rate, "sent": sent, "recommended": len(latencies_ms), "p50_ms": float(p50),
                 "p99_ms": float(p99), "processor_share": busy}
            )  # fmt: skip
        own = [
            percentile_of_histogram(around.server, "chronotope_freshness_seconds", q, trigger="event")
            for q in (0.5, 0.99)
        ]
        rows[-1] |= {"confirmed_p50_s_at_most": own[0], "confirmed_p99_s_at_most": own[1]}
    return rows


def measure_requests(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Look-ups over HTTP that ask for a fresh answer, one at a time, ten per second."""
    with city(options) as around:
        for n in range(500):
            around.event(f"u{n}")
        around.flush()
        await_(lambda: len(around.refreshed) == 500, "everybody has a recommendation")
        time.sleep(3.0)
        took_ms = []
        for n in range(int(10 * options.seconds)):
            started_s = time.perf_counter()
            answer = around.server.get(f"/recommendations/u{n % 500}?lat=40.7&lon=-74&k=10")
            took_ms.append(1000 * (time.perf_counter() - started_s))
            assert answer is not None
            time.sleep(0.1)
    p50, p99 = np.percentile(took_ms, [50, 99])
    return [{"answered": len(took_ms), "p50_ms": float(p50), "p99_ms": float(p99)}]


def measure_capacity(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    with city(options) as around:
        for kind in ("event", "event", "pattern"):
            around.refreshed.clear()
            used_s = processor_s(around.server)
            if kind == "event":
                for n in range(options.users):
                    around.event(f"u{n}")
                around.flush()
            else:
                around.crowd(version=len(rows) + 1)
            await_(lambda: bool(around.refreshed), "the first refresh")
            started_s, first = time.time(), len(around.refreshed)
            give_up_s = started_s + options.pass_limit_s
            while len(around.refreshed) < options.users and time.time() < give_up_s:
                time.sleep(0.01)
            took_s, done = time.time() - started_s, len(around.refreshed)
            rows.append(
                {
                    "trigger": f"{kind} (pass {len(rows) + 1})",
                    "users": done,
                    "users_per_s": max(done - first, 0) / took_s,
                    "processor_us_per_user": 1e6 * (processor_s(around.server) - used_s) / max(done, 1),
                    "machine_load": os.getloadavg()[0],
                    "resident_mb": resident_mb(around.server.process.pid),
                }
            )
    return rows


def placed_item(n: int, east: float, north: float) -> Item:
    return Item(item_id=f"i{n}", categories=[f"c{n % 50}"], lat=40.6 + north / 5, lon=-74.1 + east / 5)


def measure_ranking(options: argparse.Namespace) -> list[dict[str, Any]]:
    import torch

    torch.set_num_threads(1)
    rows = []
    for size in options.sizes:
        rng = np.random.default_rng(0)
        users = [f"u{n}" for n in range(512)]
        visits = (size * rng.random((len(users), 20)) ** 2).astype(int)
        started_s, before_mb = time.perf_counter(), resident_mb("self")
        contenders = {"ours": our_ranker(options, users, visits, rng.random((size, 2)))}
        made = {"made in s": time.perf_counter() - started_s, "its MB": resident_mb("self") - before_mb}
        contenders |= peers(size, visits)
        for batch in options.batches:
            parts = [list(range(start, min(start + batch, len(users)))) for start in range(0, len(users), batch)]
            speeds: dict[str, list[float]] = {name: [] for name in contenders}
            for _ in range(3):
                for name, rank in contenders.items():
                    speeds[name].append(users_per_s(rank, parts))
            medians = {name: statistics.median(each) for name, each in speeds.items()}
            rows.append({"items": size, "batch": batch} | medians | made)
    return rows


def our_ranker(
    options: argparse.Namespace, users: list[str], visits: "np.ndarray[Any, Any]", places: "np.ndarray[Any, Any]"
) -> Callable[[list[int]], Any]:
    """The served strategy over users with a history each, ranking for their last event."""
    from model_server.ranking import Query
    from model_server.settings import ServerSettings
    from model_server.strategies import build_strategy

    ranker = build_strategy(options.strategy, ServerSettings(model_preset=options.preset)).ranker
    ranker.upsert_items([placed_item(n, east, north) for n, (east, north) in enumerate(places)])
    for step in range(visits.shape[1]):
        ranker.observe(
            [
                BehaviorEvent(
                    event_id="",
                    user_id=user,
                    item_id=f"i{item}",
                    action="checkin",
                    event_time_ms=START_MS + step * 60 * MINUTE_MS,
                )
                for user, item in zip(users, visits[:, step], strict=True)
            ]
        )
    return lambda part: ranker.rank([Query(user_id=users[n], k=10) for n in part])


def peers(size: int, visits: "np.ndarray[Any, Any]") -> dict[str, Callable[[list[int]], Any]]:
    """A vector per user and item, the whole catalogue scored: in a loop, in a batch, and by implicit's ALS, if it is there."""
    import torch

    users, steps = visits.shape
    user_vectors, item_vectors = torch.randn(users, 64), torch.randn(size, 64)
    found: dict[str, Callable[[list[int]], Any]] = {
        "torch loop": lambda part: [torch.topk(item_vectors @ user_vectors[n], 10) for n in part],
        "torch batched": lambda part: torch.topk(user_vectors[part] @ item_vectors.T, 10),
    }
    try:
        from implicit.cpu.als import AlternatingLeastSquares
        from scipy.sparse import csr_matrix
    except ImportError:
        return found
    matrix = csr_matrix((np.ones(visits.size), (np.repeat(np.arange(users), steps), visits.ravel())), (users, size))
    als = AlternatingLeastSquares(factors=64, iterations=1, num_threads=1)
    als.fit(matrix, show_progress=False)
    return found | {"implicit ALS": lambda part: als.recommend(np.array(part), matrix[part], N=10)}


def users_per_s(rank: Callable[[list[int]], Any], parts: list[list[int]], limit_s: float = 2.0) -> float:
    rank(parts[0])
    started_s, done = time.perf_counter(), 0
    for part in parts:
        rank(part)
        done += len(part)
        if time.perf_counter() - started_s > limit_s:
            break
    return done / (time.perf_counter() - started_s)


MEASURES: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
    "latency": measure_latency, "requests": measure_requests, "capacity": measure_capacity, "ranking": measure_ranking,
}  # fmt: skip


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def shown(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "measures", nargs="*", choices=[*MEASURES, []], help="what to measure; all of it if nothing is named"
    )
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--rates", type=numbers, default=[100, 1_000], help="events per second")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of one rate")
    parser.add_argument("--pass-limit-s", type=float, default=60.0, help="longest pass of capacity, complete or not")
    parser.add_argument("--sizes", type=numbers, default=[5_000, 50_000, 1_000_000], help="catalogue sizes to rank")
    parser.add_argument("--batches", type=numbers, default=[1, 64])
    parser.add_argument("--broker", choices=["embedded", "kafka"], default="embedded")
    parser.add_argument("--strategy", default="fused")
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = {name: MEASURES[name](options) for name in options.measures or MEASURES}
    for name, rows in results.items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        table = Table(*columns, title=f"{name} ({options.strategy})")
        for row in rows:
            table.add_row(*(shown(row.get(column, "")) for column in columns))
        Console().print(table)
    if options.json is not None:
        options.json.write_text(
            json.dumps({"strategy": options.strategy, "preset": options.preset, **results}, indent=1)
        )


if __name__ == "__main__":
    main()
