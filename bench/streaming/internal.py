"""The topics between the stages: emptied, or filled with what the user stage sends to one stage behind it."""

import time
from collections.abc import Iterable
from itertools import islice

import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from chronotope.kafka.topics import apply_topics
from schemas import json_wire
from schemas.events import BehaviorEvent
from schemas.partitioning import partition_of
from schemas.settings import KafkaSettings
from schemas.topics import EVENTS, INTERNAL_PLACE, INTERNAL_REGION, INTERNAL_TOPICS, INTERNAL_TRANSITION, INTERNAL_UNION
from streams.decoding import EventDecoder
from streams.records import internal_records
from streams.stages.crossing import rows_among
from streams.stages.factory import stage_factory
from streams.stages.output import Routed
from streams.stages.settings import MiningSettings
from streams.stages.user import UserStage

# The union stage gives the region stage its cuts.
BEHIND = {
    "region": (INTERNAL_REGION, INTERNAL_UNION), "transition": (INTERNAL_TRANSITION,), "place": (INTERNAL_PLACE,),
}  # fmt: skip
GONE_WITHIN_S = 30.0
# Events of a source batch: what a worker fetches of a partition at a time when it is busy.
BATCH_EVENTS = 2_000


def empty_internal(kafka: KafkaSettings) -> None:
    """Let the internal topics be as before the first worker. Raises TimeoutError if the brokers do not let go of them.

    They hold what an earlier worker made of the same events; the next one's would be passed over as known already.
    """
    admin = AdminClient(kafka.confluent() | {"log_level": 0})
    names = {topic.name for topic in INTERNAL_TOPICS}
    for deleted in admin.delete_topics(list(names)).values():
        deleted.result()
    give_up_s = time.monotonic() + GONE_WITHIN_S
    while names & admin.list_topics(timeout=GONE_WITHIN_S).topics.keys():
        if time.monotonic() > give_up_s:
            raise TimeoutError("the internal topics were deleted and are still there")
        time.sleep(0.1)
    apply_topics(kafka, INTERNAL_TOPICS)


def fill_internal(kafka: KafkaSettings, stage: str, events: Iterable[tuple[bytes, bytes]]) -> int:
    """Write what the user stage sends to ``stage`` for events (key, JSON value); the number of rows of its own topic."""
    settings = MiningSettings(partitions=EVENTS.partitions)
    users: list[UserStage] = [stage_factory("user", settings)(at, None) for at in range(settings.partitions)]
    decoder, json_decoder = EventDecoder(settings.limits), json_wire.decoder(EVENTS)
    producer = Producer(kafka.confluent_producer() | {"log_level": 0})
    remaining, rows = iter(events), 0
    while batch := list(islice(remaining, BATCH_EVENTS * settings.partitions)):
        for user in users:
            mine = [
                json_decoder.decode(value) for key, value in batch if partition_of(key, len(users)) == user.partition
            ]
            rows += _send(producer, stage, _routed(user, decoder, mine))
    for user in users:
        _send(producer, stage, user.announce(caught_up=True))
    producer.flush(120)
    return rows


def _routed(user: UserStage, decoder: EventDecoder, events: list[BehaviorEvent]) -> list[Routed]:
    if not events:
        return []
    offsets = np.arange(len(events)) + user.absorbed_offset + 1
    clock_ms = np.array([event.event_time_ms for event in events])
    columns, _ = decoder.columns_of(events, offsets, clock_ms)
    return user.apply(columns, int(offsets[-1])).routed


def _send(producer: Producer, stage: str, routed: list[Routed]) -> int:
    for record in internal_records([one for one in routed if one.topic in BEHIND[stage]]):
        producer.produce(record.topic, record.value, partition=record.partition)
    producer.poll(0)
    batches = rows_among([one.batch for one in routed if one.topic == BEHIND[stage][0]])
    return sum(len(batch.rows()["origin_offset"]) for batch in batches)
