"""The contenders, each run in a process of its own by ``python contenders.py NAME``.

A peer imports no more than the peer and the message schemas, so that it can live in an environment of its own.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from schemas import json_wire
from schemas.settings import KafkaSettings
from schemas.topics import EVENTS


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


def worker_child(stages: tuple[str, ...]) -> None:
    """Our worker; progress is what its first stage has absorbed and made durable: events, or rows behind the user stage."""
    from streams import app, runner

    progress, done = Progress(), 0
    absorbed = "admitted" if stages[0] == "region" else "received"  # a region holds rows until there is a cut
    finish = runner.StageRunner._finish

    def counted(self: Any, batch: Any) -> None:
        nonlocal done
        finish(self, batch)
        if self.stage == stages[0]:
            done += len(batch.records) if self.stage == "user" else batch.work.counts[absorbed]
            progress(done)

    runner.StageRunner._finish = counted  # type: ignore[method-assign]
    app.run_worker(_worker_settings(stages))


def update_child() -> None:
    """Our engine with one count per user as its state, in the place of the user stage."""
    import numpy as np

    from processors.code_index import CodeIndex, grown
    from streams.stages import factory
    from streams.stages.columns import EventColumns, decode_events
    from streams.stages.names import Names
    from streams.stages.output import StageOutput
    from streams.stages.packing import pack_arrays, unpack_arrays

    class CountStage:
        """Counts events per user."""

        untested = 0

        def __init__(self, settings: Any, partition: int) -> None:
            self.settings, self.partition, self.absorbed_offset = settings, partition, -1
            self.index, self.counts = CodeIndex(), np.zeros(0, np.int64)
            self.names, self.transitions = Names(0), SimpleNamespace(settings=settings.user.transitions)
            self.user_periods = SimpleNamespace(bank=SimpleNamespace(settings=settings.user.periodicity))

        def apply(
            self, events: EventColumns, last_offset: int, caught_up: bool = False, sent_ms: int = 0
        ) -> StageOutput:
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

        def announce(self, caught_up: bool, sent_ms: int = 0) -> list[Any]:
            return []

        def tick(self, sent_ms: int) -> list[Any]:
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
    from confluent_kafka import Consumer, TopicPartition

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


CONTENDERS: dict[str, Callable[[], None]] = {
    "user": lambda: worker_child(("user",)),
    "all stages": lambda: worker_child(("user", "region", "union", "transition", "place")),
    "region": lambda: worker_child(("region", "union")),
    "transition": lambda: worker_child(("transition",)),
    "place": lambda: worker_child(("place",)),
    "update": update_child,
    "stock faust": stock_child,
    "quix": quix_child,
    "confluent": confluent_child,
}


if __name__ == "__main__":
    CONTENDERS[sys.argv[1]]()
