"""The doctor names what is wrong, and nothing else: each fault is injected into an installation that works."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from chronotope.diagnosis import Finding, examine
from chronotope.diagnosis.installation import check_settings, check_versions
from chronotope.kafka.topics import apply_topics
from chronotope.local.apache_kafka import ApacheKafka
from chronotope.local.embedded import EmbeddedBroker, EmbeddedRedis
from schemas.events import BehaviorEvent
from schemas.json_wire import encode
from schemas.partitioning import partition_of
from schemas.settings import KafkaSettings
from schemas.topics import ALL_TOPICS, EVENTS, TopicSpec

GOOD_EVENTS = 50
START_MS = 1_333_238_400_000
Environment = Callable[[str, str], None]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of an installation in which nothing is wrong."""
    folder = tmp_path_factory.mktemp("healthy")
    with EmbeddedBroker(folder) as broker, EmbeddedRedis(folder) as store:
        kafka = KafkaSettings(bootstrap=broker.bootstrap)
        apply_topics(kafka)
        send_good_events(kafka)
        yield {"CHRONOTOPE_KAFKA_BOOTSTRAP": broker.bootstrap, "CHRONOTOPE_REDIS_URL": store.url}


@pytest.fixture
def kafka(broker: EmbeddedBroker, healthy: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    """A broker of the test's own, without topics, in an installation that is healthy otherwise."""
    for name, value in (healthy | {"CHRONOTOPE_KAFKA_BOOTSTRAP": broker.bootstrap}).items():
        monkeypatch.setenv(name, value)
    return KafkaSettings()


def event(number: int, **changes: object) -> BehaviorEvent:
    good = BehaviorEvent(
        event_id=f"e{number}", user_id=f"user-{number}", item_id="cafe", action="checkin", event_time_ms=START_MS + number,
    )  # fmt: skip
    return msgspec.structs.replace(good, **changes)


def send(kafka: KafkaSettings, *events: BehaviorEvent, partition: int = -1, timestamp_ms: int = 0) -> None:
    producer = Producer(kafka.confluent_producer())
    for each in events:
        producer.produce(EVENTS.name, encode(each), each.user_id, partition=partition, timestamp=timestamp_ms)
    assert producer.flush(30) == 0


def send_good_events(kafka: KafkaSettings) -> None:
    send(kafka, *(event(number) for number in range(GOOD_EVENTS)))


def create(kafka: KafkaSettings, name: str, partitions: int, **config: str) -> None:
    admin = AdminClient(kafka.confluent())  # held until it is done: its end would cancel it
    admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result()


def commit(kafka: KafkaSettings, group: str, offset: int) -> None:
    consumer = Consumer(kafka.confluent() | {"group.id": group})
    consumer.commit(
        offsets=[TopicPartition(EVENTS.name, each, offset) for each in range(EVENTS.partitions)], asynchronous=False
    )
    consumer.close()


def problems() -> list[Finding]:
    return [finding for finding in examine(None, 1_000) if finding.verdict == "problem"]


def the_problem() -> Finding:
    (found,) = problems()
    return found


def test_installed_packages_are_what_the_distribution_asks_for():
    python, packages = check_versions()
    assert (python.verdict, packages.verdict) == ("ok", "ok")
    assert "faust-streaming 0.15.3" in packages.detail


def test_misspelt_setting_is_named(monkeypatch: pytest.MonkeyPatch):
    assert {finding.verdict for finding in check_settings()} == {"ok"}
    monkeypatch.setenv("CHRONOTOPE_KAFKA_BOOTSTRP", "x")
    (misspelt,) = check_settings()
    assert (misspelt.verdict, misspelt.detail) == ("warning", "CHRONOTOPE_KAFKA_BOOTSTRP is no setting of Chronotope")


@pytest.mark.integration
def test_healthy_installation_has_no_problem(healthy: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    for name, value in healthy.items():
        monkeypatch.setenv(name, value)
    found = {finding.check: finding for finding in examine(None, 1_000)}
    assert [finding for finding in found.values() if finding.verdict == "problem"] == []
    assert found["events"].detail == f"{GOOD_EVENTS} are acceptable, 0 of them repeated"
    assert set(found) == {
        "python", "packages", "settings", "model", "files", "broker", "topics", "partitioner", "events", "lag", "state",
        "redis", "registry",
    }  # fmt: skip


@pytest.mark.integration
@pytest.mark.parametrize(
    ("variable", "value", "check", "said"),
    [
        ("KAFKA_BOOTSTRAP", "127.0.0.1:1", "broker", "no Kafka broker answers at 127.0.0.1:1"),
        ("KAFKA_REPLICATION_FACTOR", "3", "replication", "is 3, but there are 1 brokers"),
        ("KAFKA_SASL_USERNAME", "ann", "settings", "but CHRONOTOPE_KAFKA_SECURITY_PROTOCOL is PLAINTEXT"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL", "settings", "the SASL mechanism or user is not set"),
        ("REDIS_URL", "redis://127.0.0.1:1/0", "redis", "does not answer"),
        ("WORKER_EPS_M", "-1", "settings", "eps_m Input should be greater than or equal to 0.1"),
        ("REGISTRY_URL", "http://ann:secret@127.0.0.1:1", "registry", "http://127.0.0.1:1 does not answer"),
        ("SERVER_STRATEGIES", '{"fussed": 1}', "model", "'fussed' is no strategy, known are fused, popular"),
        ("SERVER_DEVICE", "cuda:99", "model", "device 'cuda:99' cannot be used"),
        ("SERVER_CHECKPOINT_DIR", f"{__file__}/checkpoints", "files", f"is not a directory: {__file__} is a file"),
        ("EVENT_ACTION_WEIGHTS", '{"vieww": 1}', "events", "unknown_action (first: behavior.event.raw.v1/"),
    ],
)
def test_wrong_setting_is_the_one_problem(
    healthy: dict[str, str], monkeypatch: pytest.MonkeyPatch, variable: str, value: str, check: str, said: str
):
    for name, good in healthy.items():
        monkeypatch.setenv(name, good)
    monkeypatch.setenv(f"CHRONOTOPE_{variable}", value)
    found = the_problem()
    assert (found.check, said in found.detail) == (check, True), found
    assert "secret" not in found.detail


@pytest.mark.integration
def test_certificate_that_is_not_there_is_named_before_anybody_trips_over_it(
    healthy: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    for name, good in (healthy | {"CHRONOTOPE_KAFKA_SECURITY_PROTOCOL": "SSL"}).items():
        monkeypatch.setenv(name, good)
    monkeypatch.setenv("CHRONOTOPE_KAFKA_SSL_CA_FILE", "/nowhere/authority.pem")
    found = problems()
    assert [each.detail for each in found if each.check == "tls"] == [
        "CHRONOTOPE_KAFKA_SSL_CA_FILE (/nowhere/authority.pem) cannot be read"
    ]


@pytest.mark.integration
def test_damaged_checkpoint_is_named(healthy: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name, good in healthy.items():
        monkeypatch.setenv(name, good)
    monkeypatch.setenv("CHRONOTOPE_SERVER_CHECKPOINT_DIR", str(tmp_path))
    (tmp_path / "server.checkpoint").write_bytes(b"CHRONCK1" + bytes(100))
    found = the_problem()
    assert found.check == "model"
    assert "damaged or cut short" in found.detail


@pytest.mark.integration
def test_redis_user_is_refused_or_lacks_a_right_or_redis_evicts_anything(
    kafka: KafkaSettings, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
):
    apply_topics(kafka)
    host = redis_server.url.removeprefix("redis://")
    admin = redis.Redis.from_url(redis_server.url)
    admin.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["chronotope:*"], commands=["+@all", "-hset"])
    admin.acl_setuser("other", enabled=True, passwords=["+pw"], keys=["other:*"], commands=["+@all"])
    for user, said in (
        ("reader:wrong", "refuses the user or password"),
        ("reader:pw", "may not send HSET for keys chronotope:*"),
        ("other:pw", "lacks a right"),
    ):
        monkeypatch.setenv("CHRONOTOPE_REDIS_URL", f"redis://{user}@{host}")
        found = the_problem()
        assert (found.check, said in found.detail) == ("redis", True), found
    admin.config_set("maxmemory", "100mb")
    admin.config_set("maxmemory-policy", "allkeys-lru")
    admin.close()
    monkeypatch.setenv("CHRONOTOPE_REDIS_URL", redis_server.url)
    assert [each.verdict for each in examine(None, 0) if each.check == "redis"] == ["warning"]


@pytest.mark.integration
def test_missing_and_different_topics_are_named(kafka: KafkaSettings):
    assert len(problems()) == len(ALL_TOPICS)
    create(kafka, EVENTS.name, 3, **EVENTS.config)
    catalogue: TopicSpec = next(spec for spec in ALL_TOPICS if spec.cleanup_policy == "compact")
    create(kafka, catalogue.name, catalogue.partitions, **(catalogue.config | {"cleanup.policy": "delete"}))
    apply_topics(kafka)
    assert {found.detail for found in problems()} == {
        f"{EVENTS.name}: 3 partitions, 4 declared", f"{catalogue.name}: cleanup.policy is delete, compact declared",
    }  # fmt: skip


@pytest.mark.integration
def test_keys_that_lie_astray_are_named(kafka: KafkaSettings):
    apply_topics(kafka)
    send_good_events(kafka)
    for number in (7, 99):
        astray = event(number, event_id=f"again-{number}")
        right = partition_of(astray.user_id.encode(), EVENTS.partitions)
        send(kafka, astray, partition=(right + 1) % EVENTS.partitions)
    found = the_problem()
    assert found.check == "partitioner"
    assert "1 keys lie on two partitions (user-7)" in found.detail
    assert "1 keys are not where murmur2 puts them (user-99)" in found.detail


@pytest.mark.integration
def test_producers_that_write_seconds_or_one_event_id_are_named(kafka: KafkaSettings):
    apply_topics(kafka)
    send_good_events(kafka)
    send(kafka, *(event(100 + number, event_time_ms=START_MS // 1000) for number in range(3)))
    send(kafka, *(event(200 + number, event_id="always") for number in range(20)))
    seconds, repeated = problems()
    assert "3 of 73 are refused as time_before_2000" in seconds.detail
    assert "event_time_ms is in milliseconds" in seconds.detail
    assert "19 of 73 repeat an event_id" in repeated.detail


@pytest.mark.integration
def test_history_that_was_sent_after_live_events_is_named(kafka: KafkaSettings):
    apply_topics(kafka)
    live = [event(number, event_time_ms=START_MS + 86_400_000 + number) for number in range(GOOD_EVENTS)]
    history = [event(1_000 + number, user_id=f"user-{number}") for number in range(30)]
    send(kafka, *live, *history)
    found = the_problem()
    assert found.check == "late"
    assert "30 of 80 lie more than 3,600 s behind a later event of their partition" in found.detail
    assert "send history before live events" in found.detail


@pytest.mark.integration
def test_clock_that_runs_ahead_is_named(kafka: KafkaSettings):
    apply_topics(kafka)
    send(kafka, event(1), timestamp_ms=int((time.time() + 3_600) * 1000))
    found = the_problem()
    assert found.check == "clock"
    assert "ahead of this machine's clock" in found.detail


@pytest.mark.integration
def test_lost_or_wrong_state_is_named(kafka: KafkaSettings):
    apply_topics(kafka)
    send_good_events(kafka)
    commit(kafka, "chronotope", 1)
    assert [found.detail for found in problems()] == [
        f"chronotope-user-changelog is gone, but {EVENTS.name} is committed: run chronotope state reset --yes"
    ]
    create(kafka, "chronotope-user-changelog", 2, **{"cleanup.policy": "delete"})
    partitions, policy = problems()
    assert partitions.detail == f"chronotope-user-changelog has 2 partitions, {EVENTS.name} has 4"
    assert "cleanup.policy is delete, state would be deleted" in policy.detail


@pytest.mark.integration
def test_group_that_committed_beyond_the_end_is_named(kafka: KafkaSettings):
    apply_topics(kafka)
    send_good_events(kafka)
    commit(kafka, "chronotope-server", 10 * GOOD_EVENTS)
    found = the_problem()
    assert found.check == "lag"
    assert "model server (group chronotope-server) committed beyond the end" in found.detail


@pytest.mark.integration
@pytest.mark.kafka
def test_events_that_expired_unread_are_counted(
    kafka_broker: ApacheKafka, healthy: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    for name, value in (healthy | {"CHRONOTOPE_KAFKA_BOOTSTRAP": kafka_broker.bootstrap}).items():
        monkeypatch.setenv(name, value)
    kafka = KafkaSettings()
    apply_topics(kafka)
    for partition in range(EVENTS.partitions):
        send(kafka, *(event(number) for number in range(40)), partition=partition)
    commit(kafka, "chronotope-server", 1)
    admin = AdminClient(kafka.confluent())  # held until it is done: its end would cancel it
    (deleted,) = admin.delete_records([TopicPartition(EVENTS.name, 0, 31)]).values()
    assert deleted.result(30).low_watermark == 31
    expired = [found for found in problems() if found.check == "lag"]
    assert [found.detail for found in expired] == [
        "model server (group chronotope-server): 30 events expired before they were read"
    ]
