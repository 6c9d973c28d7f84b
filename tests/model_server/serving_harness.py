"""What the serving tests share: a model server in a thread, on a real broker and a real Redis, and a probe of its topics."""

import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from chronotope.local.stack import LocalStack
from model_server.http.server import HttpServer
from model_server.metrics import ServerMetrics
from model_server.serving import Server
from model_server.settings import ServerSettings
from schemas.events import BehaviorEvent
from schemas.json_wire import encode
from schemas.recommendations import Recommendation
from schemas.topics import EVENTS, RECOMMENDATIONS, TopicSpec

START_MS = 1_333_238_400_000


def settings_of(stack: LocalStack, **changes: Any) -> ServerSettings:
    """Settings for one quick instance on the stack: popular strategy, free port, short session."""
    defaults = {
        "kafka": stack.kafka, "redis": stack.redis, "http_port": 0, "strategies": {"popular": 1.0}, "session_timeout_ms": 1_000,
    }  # fmt: skip
    return ServerSettings(**(defaults | changes))


class RunningServer:
    """A context manager: one instance that serves in a thread, ready on entry, stopped cleanly on exit."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings, self.metrics = settings, ServerMetrics()
        self.server = Server(settings, self.metrics)
        self.http = HttpServer(settings, self.server, self.metrics)
        self._stop = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.server.run(self._stop.is_set)
        except BaseException as error:
            self.error = error

    def __enter__(self) -> "RunningServer":
        self.http.__enter__()
        self._thread.start()
        until(lambda: not self.server.problems() or self.error is not None, "the server is ready")
        assert self.error is None, self.error
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)
        self.http.__exit__(None, None, None)

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http.port}{path}", headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                status, body, kind = answer.status, answer.read(), answer.headers["Content-Type"]
        except urllib.error.HTTPError as error:
            status, body, kind = error.code, error.read(), error.headers["Content-Type"]
        return status, json.loads(body) if "json" in kind else body.decode()


class Probe:
    """Produces to the topics and reads what comes out, outside of any group."""

    def __init__(self, stack: LocalStack) -> None:
        self._producer = Producer(
            stack.kafka.confluent_producer() | {"linger.ms": 0, "message.max.bytes": 20_000_000}, logger=None
        )
        self._consumer = Consumer(
            stack.kafka.confluent() | {"group.id": "probe", "auto.offset.reset": "earliest", "fetch.wait.max.ms": 20}
        )
        self._consumer.assign(
            [TopicPartition(RECOMMENDATIONS.name, partition, 0) for partition in range(RECOMMENDATIONS.partitions)]
        )
        self.recommendations: list[Recommendation] = []
        self.headers: dict[int, dict[str, bytes]] = {}
        self._sent = 0
        self.last_offset: dict[str, int] = {}

    def send(
        self,
        spec: TopicSpec,
        key: str,
        value: msgspec.Struct | bytes | None,
        flush: bool = True,
        headers: dict[str, bytes] | None = None,
    ) -> None:
        data = encode(value) if isinstance(value, msgspec.Struct) else value
        self._producer.produce(spec.name, data, key, on_delivery=self._sent_to, headers=headers)
        if flush:
            self.flush()

    def flush(self) -> None:
        self._producer.flush(10)

    def event(
        self,
        user: str,
        item: str,
        time_ms: int = START_MS,
        flush: bool = True,
        headers: dict[str, bytes] | None = None,
        **fields: Any,
    ) -> BehaviorEvent:
        self._sent += 1
        event = BehaviorEvent(
            event_id=f"{user}-{self._sent}-{time.time_ns()}",
            user_id=user,
            item_id=item,
            action="checkin",
            event_time_ms=time_ms,
            **fields,
        )
        self.send(EVENTS, user, event, flush, headers)
        return event

    def _sent_to(self, error: Any, message: Any) -> None:
        if message.topic() == EVENTS.name:
            self.last_offset[message.key().decode()] = message.offset()

    def poll(self) -> list[Recommendation]:
        for message in self._consumer.consume(1_000, 0.02):
            if message.error() is None:
                recommendation = msgspec.json.decode(message.value(), type=Recommendation)
                self.recommendations.append(recommendation)
                self.headers[recommendation.version] = dict(message.headers() or [])
        return self.recommendations

    def of(self, user: str) -> list[Recommendation]:
        """All recommendations of the user so far, in order of their topic."""
        return [each for each in self.poll() if each.user_id == user]

    def next_of(self, user: str, after: int = 0, timeout_s: float = 20.0) -> Recommendation:
        """The user's first recommendation beyond the ``after`` earlier ones."""
        until(lambda: len(self.of(user)) > after, f"{user} has more than {after} recommendations", timeout_s)
        return self.of(user)[after]

    def close(self) -> None:
        self._consumer.close()
        del self._producer  # or it would look for its broker as long as it lives, and say so


def until(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Wait for a condition."""
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)


@contextlib.contextmanager
def probing(stack: LocalStack) -> Iterator[Probe]:
    probe = Probe(stack)
    try:
        yield probe
    finally:
        probe.close()
