"""The doctor names what is wrong, and nothing else."""

import pytest
from confluent_kafka import Producer

from chronotope import diagnosis
from chronotope.kafka.topics import apply_topics
from schemas.partitioning import partition_of
from schemas.settings import KafkaSettings, RedisSettings, RegistrySettings
from schemas.topics import ALL_TOPICS, EVENTS


def test_installed_packages_are_what_the_distribution_asks_for():
    python, packages = diagnosis.check_versions()
    assert (python.verdict, packages.verdict) == ("ok", "ok")
    assert "faust-streaming 0.15.3" in packages.detail


def test_misspelt_and_invalid_settings_are_named(monkeypatch: pytest.MonkeyPatch):
    assert {finding.verdict for finding in diagnosis.check_settings()} == {"ok"}
    monkeypatch.setenv("CHRONOTOPE_KAFKA_BOOTSTRP", "x")
    monkeypatch.setenv("CHRONOTOPE_REDIS_TIMEOUT_S", "-1")
    misspelt, *invalid = diagnosis.check_settings()
    assert (misspelt.verdict, "CHRONOTOPE_KAFKA_BOOTSTRP" in misspelt.detail) == ("warning", True)
    assert all(finding.verdict == "problem" for finding in invalid)
    assert any("timeout_s" in finding.detail for finding in invalid)


def test_absent_broker_redis_and_registry_are_problems():
    (broker,) = diagnosis.check_broker_and_topics(KafkaSettings(bootstrap="127.0.0.1:1"))
    assert (broker.check, broker.verdict) == ("broker", "problem")
    assert diagnosis.check_redis(RedisSettings(url="redis://127.0.0.1:1/0")).verdict == "problem"
    assert diagnosis.check_registry(RegistrySettings(url="http://127.0.0.1:1")).verdict == "problem"
    assert diagnosis.check_registry(RegistrySettings()).verdict == "ok"


@pytest.mark.integration
def test_redis_that_answers_is_fine_and_one_that_evicts_anything_is_not(redis_server):
    import redis

    settings = RedisSettings(url=redis_server.url)
    assert diagnosis.check_redis(settings).verdict == "ok"
    client = redis.Redis.from_url(redis_server.url)
    client.config_set("maxmemory", "100mb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.close()
    assert diagnosis.check_redis(settings).verdict == "warning"


@pytest.mark.integration
def test_topics_that_are_missing_and_keys_that_lie_astray_are_named(broker):
    settings = KafkaSettings(bootstrap=broker.bootstrap)
    answers, *missing = diagnosis.check_broker_and_topics(settings)
    assert answers.verdict == "ok"
    assert len(missing) == len(ALL_TOPICS)

    apply_topics(settings)
    assert [finding.verdict for finding in diagnosis.check_broker_and_topics(settings)] == ["ok", "ok"]
    good = Producer(settings.confluent_producer())
    for number in range(50):
        good.produce(EVENTS.name, b"x", f"user-{number}")
    good.flush(30)
    assert diagnosis.check_partitioner(settings, 1000).verdict == "ok"

    wrong = (partition_of(b"user-7", EVENTS.partitions) + 1) % EVENTS.partitions
    good.produce(EVENTS.name, b"x", "user-7", partition=wrong)
    good.produce(EVENTS.name, b"x", "stray", partition=(partition_of(b"stray", EVENTS.partitions) + 1) % 4)
    good.produce(EVENTS.name, b"x")
    good.flush(30)
    finding = diagnosis.check_partitioner(settings, 1000)
    assert finding.verdict == "problem"
    assert "1 keys lie on two partitions (user-7)" in finding.detail
    assert "1 keys are not where murmur2 puts them (stray)" in finding.detail
    assert "1 events have no key" in finding.detail
