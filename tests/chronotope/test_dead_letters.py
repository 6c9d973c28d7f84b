"""Rejected records are counted and sent back exactly once."""

import pytest
from confluent_kafka import Producer

from chronotope.kafka import dead_letters
from chronotope.kafka.reading import ends_of, read_to
from chronotope.kafka.topics import apply_topics
from schemas.settings import KafkaSettings
from schemas.topics import EVENTS, REJECTED

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(broker) -> KafkaSettings:
    settings = KafkaSettings(bootstrap=broker.bootstrap)
    apply_topics(settings, (EVENTS, REJECTED))
    return settings


def _reject(settings: KafkaSettings, *letters: tuple[str, bytes, str], headers: tuple[tuple[str, bytes], ...] = ()):
    producer = Producer(settings.confluent_producer())
    for key, value, reason in letters:
        common = [("reason", reason.encode()), ("error", b"because"), ("traceparent", b"00-a")]
        producer.produce(REJECTED.name, value, key, headers=[*common, *headers])
    producer.flush(30)


def _redriven(settings: KafkaSettings) -> list[tuple[bytes, bytes]]:
    return sorted((message.key(), message.value()) for message in read_to(settings, ends_of(settings, EVENTS.name)))


def test_redrive_sends_each_record_back_once_however_often_it_runs(settings: KafkaSettings):
    _reject(settings, *((f"user-{number}", b"event %d" % number, "unknown_action") for number in range(20)))
    assert dead_letters.redrive(settings).redriven == 20
    second = dead_letters.redrive(settings)
    assert (second.redriven, second.already_redriven) == (0, 20)
    assert _redriven(settings) == sorted((b"user-%d" % number, b"event %d" % number) for number in range(20))
    report = dead_letters.inspect(settings)
    assert (report.total, report.redriven, report.by_reason) == (20, 20, {"unknown_action": 20})


def test_reason_selects_and_the_others_can_follow_later(settings: KafkaSettings):
    _reject(settings, ("a", b"1", "unknown_action"), ("b", b"2", "empty_id"))
    assert dead_letters.redrive(settings, reason="empty_id").redriven == 1
    assert _redriven(settings) == [(b"b", b"2")]
    assert dead_letters.redrive(settings).redriven == 1
    assert _redriven(settings) == [(b"a", b"1"), (b"b", b"2")]


def test_redriven_record_names_its_origin_and_keeps_its_trace(settings: KafkaSettings):
    _reject(settings, ("a", b"1", "unknown_action"))
    dead_letters.redrive(settings)
    (message,) = read_to(settings, ends_of(settings, EVENTS.name))
    headers = dict(message.headers())
    assert headers["traceparent"] == b"00-a"
    assert "reason" not in headers
    partition, _, offset = headers[dead_letters.REDRIVEN_FROM].decode().partition("/")
    assert (int(partition) in range(EVENTS.partitions), offset) == (True, "0")


def test_record_rejected_a_second_time_is_left_alone_unless_asked(settings: KafkaSettings):
    _reject(settings, ("a", b"1", "unknown_action"), headers=((dead_letters.REDRIVEN_FROM, b"0/0"),))
    report = dead_letters.redrive(settings)
    assert (report.redriven, report.rejected_again) == (0, 1)
    assert dead_letters.redrive(settings, again=True).redriven == 1


def test_record_that_was_cut_is_never_sent_back(settings: KafkaSettings):
    _reject(settings, ("a", b"only the beginning", "too_large"), headers=(("value_bytes", b"5000000"),))
    report = dead_letters.redrive(settings)
    assert (report.redriven, report.cut) == (0, 1)
    assert _redriven(settings) == []
