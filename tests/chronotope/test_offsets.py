"""Ends of partitions are read as soon as somebody leads them."""

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from chronotope.kafka.errors import ClusterError
from chronotope.kafka.offsets import OffsetReader
from schemas.settings import KafkaSettings


def reader_of(answers: list[tuple[int, int] | int]) -> OffsetReader:
    """A reader whose broker gives these answers in turn: watermarks, or the code of an error."""

    def answer(*_: object, **__: object) -> tuple[int, int]:
        given = answers.pop(0)
        if isinstance(given, int):
            raise KafkaException(KafkaError(given))
        return given

    reader = OffsetReader(KafkaSettings(bootstrap="127.0.0.1:1"))
    reader._consumer = SimpleNamespace(get_watermark_offsets=answer)
    return reader


def test_a_topic_that_was_created_a_moment_ago_is_asked_again():
    answers: list[tuple[int, int] | int] = [
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        (3, 9),
    ]
    assert reader_of(answers).starts([("catalog", 1)]) == {("catalog", 1): 3}


def test_what_will_not_pass_is_said_at_once():
    with pytest.raises(ClusterError, match="the offsets of catalog, partition 1 cannot be read"):
        reader_of([KafkaError.TOPIC_AUTHORIZATION_FAILED]).starts([("catalog", 1)])
