"""Running servers with their producers and the reader of their recommendations, and what they say of themselves."""

import argparse
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition
from processes import processor_s
from prometheus_client.parser import text_string_to_metric_families

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


class _Slip(msgspec.Struct):
    """What the bench reads of a recommendation."""

    user_id: str
    trigger: str
    source_partition: int
    source_offset: int


class City:
    """Producers and the reader of recommendations around one running server, or several that share the users."""

    def __init__(self, stack: LocalStack, servers: Sequence[Service], items: int, seed: int = 0) -> None:
        self._producer = Producer(
            stack.kafka.confluent_producer() | {"linger.ms": 1, "queue.buffering.max.messages": 1_000_000}
        )
        self._random = random.Random(seed)
        self._items, self._sent = items, 0
        self.servers = servers
        self.sent_ms: dict[tuple[int, int], int] = {}
        self.refreshed: dict[str, int] = {}
        self.seen: list[tuple[int, int, float]] = []
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(stack,), daemon=True)
        self._reader.start()

    @property
    def server(self) -> Service:
        """The first of them."""
        return self.servers[0]

    def processor_s(self) -> float:
        """The time that the servers have spent on processors."""
        return sum(processor_s(each.process.pid) for each in self.servers)

    def resident_mb(self) -> float:
        """What the servers hold in memory."""
        return sum(resident_mb(each.process.pid) for each in self.servers)

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
            stack.kafka.confluent() | {"group.id": "bench", "auto.offset.reset": "earliest", "fetch.wait.max.ms": 20}
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
        shared = stack.environment() | {
            "CHRONOTOPE_SERVER_STRATEGIES": json.dumps({options.strategy: 1.0}),
            "CHRONOTOPE_SERVER_MODEL_PRESET": options.preset,
            "CHRONOTOPE_SERVER_SESSION_TIMEOUT_MS": "6000",
            **environment,
        }
        with ExitStack() as running:
            servers = [
                running.enter_context(
                    Service(f"server-{n}", "serve", shared | {"CHRONOTOPE_SERVER_HTTP_PORT": str(port)}, stack, port)
                )
                for n, port in enumerate(free_ports(options.servers), start=1)
            ]
            around = City(stack, servers, options.items)
            around.announce_items()
            for server in servers:
                server.await_ready()
                await_(partial(_knows, server, options.items), "the catalogue is read")
            yield around
            around.close()


def _knows(server: Service, items: int) -> bool:
    return metric(server, "chronotope_server_items") >= items


def metric(server: Service, name: str, **labels: str) -> float:
    text = server.get("/metrics", timeout_s=10.0) or ""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def resident_mb(process: int | str) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def await_(condition: Callable[[], bool], what: str, timeout_s: float = 300.0) -> None:
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.01)
