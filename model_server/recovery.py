"""Checkpoints of a whole instance: what was learned with the offsets up to which it was learned, so a restart has no gap."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import structlog
import torch
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from model_server.checkpoints import Checkpoint, CheckpointError, fingerprint_of, load_checkpoint, save_checkpoint
from model_server.ledger import Source
from model_server.metrics import ServerMetrics
from model_server.settings import ServerSettings
from schemas.settings import KafkaSettings
from schemas.topics import EVENTS

log = structlog.get_logger(__name__)
COPYING_SHARE = 0.02
FILE_NAME = "server.checkpoint"


class _Identity(msgspec.Struct, frozen=True):
    """What a checkpoint must agree on with the instance that reads it."""

    layout: int
    strategies: list[str]
    model_preset: str
    keeps_seen: bool
    events_topic_id: str


def topic_id(kafka: KafkaSettings, topic: str) -> str:
    """The broker's unique id of a topic: a topic that was deleted and created again has another; "" if it has none."""
    admin = AdminClient(kafka.confluent())  # held until it is done: its end would cancel it
    futures = admin.describe_topics(TopicCollection([topic]), request_timeout=10)
    try:
        return str(futures[topic].result().topic_id)
    except KafkaException as error:
        log.warning("the broker does not tell topic ids", error=str(error))
        return ""


class CheckpointKeeper:
    """Writes one instance's checkpoint every now and then, and reads it at start.

    The state is copied within ``save``, which nothing is served beside, and written by a thread of its own. Where there is much
    to copy checkpoints are fewer, so that it takes at most ``COPYING_SHARE`` of the time. A checkpoint that is
    damaged, belongs to other settings or to a topic that was deleted since is refused with a reason; then the instance learns
    everything again from the topics.
    """

    def __init__(self, directory: Path, settings: ServerSettings, metrics: ServerMetrics) -> None:
        self._path = directory / FILE_NAME
        self._metrics = metrics
        names = [*settings.strategies, *([settings.shadow] if settings.shadow else [])]
        identity = _Identity(
            1, names, settings.model_preset, settings.exclude_seen, topic_id(settings.kafka, EVENTS.name)
        )
        self._fingerprint = fingerprint_of(identity)
        self._every_s = settings.checkpoint_every_s
        self._saved_at_s = time.monotonic()
        self._copied_in_s = 0.0
        self._writing: threading.Thread | None = None

    def restore(self, take: Callable[[dict[str, Any]], None]) -> Checkpoint | None:
        """Hand the checkpoint's state to ``take``; None if there is none or it is refused (``take`` may have failed half-way)."""
        if not self._path.exists():
            return None
        try:
            checkpoint = load_checkpoint(self._path, self._fingerprint)
            take(checkpoint.state)
        except CheckpointError as error:
            self._refuse(str(error))
            return None
        except Exception as error:  # a state of another release fails somewhere in a ranker's load_state
            self._refuse(f"{self._path}: {type(error).__name__}: {error}")
            return None
        self._metrics.checkpoints.labels("restored").inc()
        log.info("checkpoint restored", path=str(self._path), offsets=checkpoint.offsets)
        return checkpoint

    @property
    def due(self) -> bool:
        """Whether it is time to save again."""
        writing = self._writing is not None and self._writing.is_alive()
        pause_s = max(self._every_s, self._copied_in_s / COPYING_SHARE)
        return not writing and time.monotonic() - self._saved_at_s >= pause_s

    def save(self, state: Callable[[], dict[str, Any]], learned: Mapping[Source, int]) -> None:
        """Copy the state as it is now and write it in the background."""
        self._saved_at_s = time.monotonic()
        kept = copied(state())
        self._copied_in_s = time.monotonic() - self._saved_at_s
        checkpoint = Checkpoint(
            state=kept,
            offsets={f"{source.topic}/{source.partition}": offset for source, offset in learned.items()},
            fingerprint=self._fingerprint,
            created_at_ms=time.time_ns() // 1_000_000,
        )
        self.wait()
        self._writing = threading.Thread(target=self._write, args=(checkpoint,), name="checkpoint", daemon=True)
        self._writing.start()

    def wait(self) -> None:
        """Wait until what was saved last is on disk."""
        if self._writing is not None:
            self._writing.join()

    def _write(self, checkpoint: Checkpoint) -> None:
        started_s = time.monotonic()
        try:
            save_checkpoint(self._path, checkpoint)
        except (OSError, TypeError):
            self._metrics.checkpoints.labels("failed").inc()
            log.exception("the checkpoint could not be written", path=str(self._path))
            return
        self._metrics.checkpoints.labels("written").inc()
        self._metrics.checkpoint_seconds.observe(time.monotonic() - started_s)

    def _refuse(self, reason: str) -> None:
        self._metrics.checkpoints.labels("refused").inc()
        log.warning("the checkpoint is not used, everything is learned again from the topics", reason=reason)


def offsets_of(checkpoint: Checkpoint) -> dict[Source, int]:
    """The offsets that a checkpoint has absorbed, by source."""
    result = {}
    for name, offset in checkpoint.offsets.items():
        topic, _, partition = name.rpartition("/")
        result[Source(topic, int(partition))] = offset
    return result


def copied(value: Any) -> Any:
    """A copy that later training does not change: tensors and arrays cloned, containers rebuilt.

    >>> weights = torch.zeros(2)
    >>> kept = copied({"weights": [weights]})
    >>> weights += 1
    >>> kept["weights"][0].tolist()
    [0.0, 0.0]
    """
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: copied(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        plain = not value or isinstance(value[0], (str, int, float))
        return type(value)(value if plain else (copied(each) for each in value))
    return value
