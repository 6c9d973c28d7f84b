"""Topics are created as declared, once, and what differs is named."""

import msgspec
import pytest
from confluent_kafka import Producer

from chronotope.kafka.errors import ClusterError
from chronotope.kafka.offsets import OffsetReader
from chronotope.kafka.reading import ends_of, read_to
from chronotope.kafka.topics import apply_topics, check_topics, require_topics
from schemas.settings import KafkaSettings
from schemas.topics import ALL_TOPICS, EVENTS

pytestmark = pytest.mark.integration


def test_apply_creates_each_topic_once_and_drift_is_named(any_broker):
    settings = KafkaSettings(bootstrap=any_broker.bootstrap)
    with pytest.raises(ClusterError, match=r"behavior\.event\.raw\.v1.*run chronotope topics apply"):
        require_topics(settings)
    assert {report.state for report in check_topics(settings)} == {"missing"}
    assert {report.state for report in apply_topics(settings)} == {"created"}
    assert {report.state for report in apply_topics(settings)} == {"ok"}
    require_topics(settings)

    more = tuple(msgspec.structs.replace(spec, partitions=8, cleanup_policy="compact") for spec in ALL_TOPICS[:1])
    (report,) = apply_topics(settings, more)
    assert report.state == "drift"
    assert "4 partitions, 8 declared" in report.differences
    assert "cleanup.policy is delete, compact declared" in report.differences


def test_partitions_of_new_topics_are_those_of_the_settings(broker):
    wide = KafkaSettings(bootstrap=broker.bootstrap, partitions=6)
    assert {report.state for report in apply_topics(wide, (EVENTS,))} == {"created"}
    assert {report.state for report in check_topics(wide, (EVENTS,))} == {"ok"}
    (report,) = check_topics(KafkaSettings(bootstrap=broker.bootstrap), (EVENTS,))
    assert report.differences == ["6 partitions, 4 declared"]


def test_end_offsets_are_exact_and_reading_stops_at_them(any_broker):
    settings = KafkaSettings(bootstrap=any_broker.bootstrap)
    apply_topics(settings, (EVENTS,))
    producer = Producer(settings.confluent_producer())
    for number in range(1000):
        producer.produce(EVENTS.name, b"%d" % number, f"user-{number % 10}")
    producer.flush(30)
    ends = ends_of(settings, EVENTS.name)
    assert sum(ends.values()) == 1000
    producer.produce(EVENTS.name, b"later", "user-1")
    producer.flush(30)
    assert sorted(int(message.value()) for message in read_to(settings, ends)) == list(range(1000))
    assert len(list(read_to(settings, ends, last=10))) == 10 * sum(end > 0 for end in ends.values())


def test_group_that_never_committed_stands_at_zero(broker):
    settings = KafkaSettings(bootstrap=broker.bootstrap)
    apply_topics(settings, (EVENTS,))
    with OffsetReader(settings, "nobody") as reader:
        partitions = reader.partitions([EVENTS.name, "no.such.topic"])
        assert partitions == [(EVENTS.name, index) for index in range(EVENTS.partitions)]
        assert set(reader.committed(partitions).values()) == {0}
        assert set(reader.ends(partitions).values()) == {0}
