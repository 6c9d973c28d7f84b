"""A consumer in a thread of its own that keeps the board up to date from the output topics."""

import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from chronotope.demo.board import WATCHED, Board
from chronotope.kafka.errors import ClusterError
from chronotope.kafka.offsets import OffsetReader
from schemas.settings import KafkaSettings

BATCH = 2000


class Observer:
    """A context manager: from its start on, every new record of the watched topics is noted on ``board``.

    Joins no group and commits nothing. ``failure`` is set if the thread had to give up.
    """

    def __init__(self, settings: KafkaSettings, board: Board) -> None:
        self.board = board
        self.failure: Exception | None = None
        self._settings = settings
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._quiet_since = time.monotonic()
        names = [spec.name for spec in WATCHED]
        with OffsetReader(settings) as reader:
            ends = reader.ends(reader.partitions(names))
        self._start = [TopicPartition(topic, partition, offset) for (topic, partition), offset in ends.items()]

    @property
    def quiet_s(self) -> float:
        """Seconds since the last record came."""
        return time.monotonic() - self._quiet_since

    def __enter__(self) -> "Observer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        consumer = Consumer(
            self._settings.confluent()
            | {"group.id": "chronotope-demo", "enable.auto.commit": False, "log_level": 0, "fetch.wait.max.ms": 100}
        )
        try:
            consumer.assign(self._start)
            while not self._ended.is_set():
                for message in consumer.consume(BATCH, timeout=0.1):
                    if message.error() is not None:
                        if message.error().code() != KafkaError._ALL_BROKERS_DOWN:
                            raise ClusterError(message.error().str())
                        continue
                    self._quiet_since = time.monotonic()
                    self.board.note(message.topic(), message.key(), message.value(), message.timestamp()[1])
        except (KafkaException, ClusterError, ValueError) as error:
            self.failure = error
        finally:
            consumer.close()
