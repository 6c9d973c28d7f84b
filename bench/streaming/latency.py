"""Milliseconds from sending an event to holding the pattern that it changed, at a fixed rate, one worker with all stages.

Measured from outside, by the clock of one process: ``produce()`` is called at a steady rate, and a consumer takes the time at
which it gets each pattern. Which event made a pattern due follows from what the pattern says:

- ``profile``: a user's profile after n events is due to the user's n-th event
- ``transition``: a from-state's n-th update of support is due to the n-th event that followed it, in the order of sending
- ``crowd``: a crowd knows the newest event's time; what made it due may be older, by a batch and by the pause between two
  tellings (docs/guarantees.md), which is not in these figures
"""

import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from schemas import json_wire
from schemas.events import BehaviorEvent
from schemas.patterns import ClusterUpdate, ProfileUpdate, TransitionUpdate
from schemas.settings import KafkaSettings
from schemas.topics import EVENTS, PROFILE, SPATIAL, TRANSITION

TICK_S = 0.005
DRAIN_S = 5.0
Sent = tuple[BehaviorEvent, float]


class Observer:
    """Notes when each pattern arrived, from the topics' ends on, in a thread."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.arrived: list[tuple[str, bytes, float]] = []
        self._ended = threading.Event()
        settings = kafka.confluent() | {"group.id": "observer", "enable.auto.commit": False, "fetch.wait.max.ms": 5}
        self._consumer = Consumer(settings)
        self._consumer.assign(
            [
                TopicPartition(spec.name, at, 0)
                for spec in (PROFILE, TRANSITION, SPATIAL)
                for at in range(spec.partitions)
            ]
        )
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.is_set():
            for message in self._consumer.consume(500, 0.01):
                if message.error() is None and message.value() is not None:
                    self.arrived.append((message.topic(), message.value(), time.perf_counter()))

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join(10)
        self._consumer.close()


def send(kafka: KafkaSettings, events: Sequence[tuple[bytes, bytes]], rate: float) -> list[float]:
    """Send the events at a steady rate; when each was handed to the producer, which was never more than a tick late."""
    producer = Producer(kafka.confluent_producer() | {"log_level": 0})
    sent_at: list[float] = []
    began = time.perf_counter()
    while len(sent_at) < len(events):
        due = int((time.perf_counter() - began) * rate) + 1
        for key, value in events[len(sent_at) : due]:
            sent_at.append(time.perf_counter())
            producer.produce(EVENTS.name, value, key)
        producer.poll(0)
        time.sleep(TICK_S)
    producer.flush(30)
    return sent_at


def latencies_ms(
    sent: Sequence[Sent], arrived: Sequence[tuple[str, bytes, float]], skip_s: float
) -> dict[str, list[float]]:
    """The latencies by kind of pattern, of events sent ``skip_s`` after the first one or later."""
    of_user, after, at_time = _sent_by(sent)
    began, found = sent[0][1] + skip_s, defaultdict[str, list[float]](list)
    decode = {spec.name: json_wire.decoder(spec).decode for spec in (PROFILE, TRANSITION, SPATIAL)}
    for topic, value, at in arrived:
        match decode[topic](value):
            case ProfileUpdate(user_id=user, events=events):
                kind, cause = "profile", of_user[user][events - 1]
            case TransitionUpdate(state_kind="item", user_id=None, from_state=state, quality=quality) if (
                quality is not None
            ):
                kind, cause = "transition", after[state][int(quality.support) - 1]
            case ClusterUpdate(event_time_ms=time_ms):
                kind, cause = "crowd", at_time[time_ms]
            case _:
                continue
        if cause >= began:
            found[kind].append((at - cause) * 1000.0)
    return found


def _sent_by(sent: Sequence[Sent]) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[int, float]]:
    """When events were sent: by user, by the item that they followed, and by event time."""
    of_user, after = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    last: dict[str, str] = {}
    for event, at in sent:
        of_user[event.user_id].append(at)
        if event.user_id in last:
            after[last[event.user_id]].append(at)
        last[event.user_id] = event.item_id
    return of_user, after, {event.event_time_ms: at for event, at in sent}


def measure(
    kafka: KafkaSettings, events: Sequence[tuple[bytes, bytes]], rate: float, skip_s: float, ready: Callable[[], None]
) -> list[dict[str, Any]]:
    """A row per kind of pattern: how many, median, 99th percentile and largest; ``ready`` waits for the worker."""
    ready()
    observer = Observer(kafka)
    sent_at = send(kafka, events, rate)
    time.sleep(DRAIN_S)
    observer.stop()
    decode = json_wire.decoder(EVENTS).decode
    sent = [(decode(value), at) for (_, value), at in zip(events, sent_at, strict=True)]
    found = latencies_ms(sent, observer.arrived, skip_s)
    rows = [*sorted(found.items()), ("all", [one for some in found.values() for one in some])]
    return [{"pattern": kind, "rate": rate} | _summary(values) for kind, values in rows if values]


def _summary(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=1000, method="inclusive") if len(values) > 1 else values * 999
    return {"patterns": len(values), "p50_ms": cuts[499], "p99_ms": cuts[989], "max_ms": max(values)}
