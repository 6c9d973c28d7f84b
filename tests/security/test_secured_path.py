"""An event becomes a recommendation over TLS, with SCRAM and the documented rights on Kafka and an ACL user on Redis; a wrong
password does not."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from certificates import Certificates, make_certificates
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from secured_kafka import ADMIN, PASSWORD, SecuredKafka, documented_rights, grant
from tls_relay import tls_front

from chronotope.local.apache_kafka import unavailable
from chronotope.local.embedded import EmbeddedRedis
from chronotope.local.ports import free_ports
from chronotope.local.process import ManagedProcess
from schemas.events import BehaviorEvent
from schemas.json_wire import encode
from schemas.settings import KafkaSettings
from schemas.topics import EVENTS, RECOMMENDATIONS

REDIS_USER, REDIS_PASSWORD = "server", "swordfish-swordfish"
pytestmark = [pytest.mark.integration, pytest.mark.kafka, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[dict[str, str]]:
    """The environment of the operator of the secured broker, which grants the documented rights."""
    reason = unavailable()
    if reason is not None:
        pytest.skip(f"NOT TESTED: {reason}")
    with SecuredKafka(tmp_path_factory.mktemp("kafka"), certificates) as kafka:
        client = {
            "CHRONOTOPE_KAFKA_BOOTSTRAP": kafka.bootstrap,
            "CHRONOTOPE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "CHRONOTOPE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "CHRONOTOPE_KAFKA_SASL_USERNAME": "operator",
            "CHRONOTOPE_KAFKA_SASL_PASSWORD": PASSWORD,
            "CHRONOTOPE_KAFKA_SSL_CA_FILE": str(certificates.authority),
        }
        grant(AdminClient(_settings(as_user(client, ADMIN)).confluent()), documented_rights())
        yield client


def as_user(env: dict[str, str], user: str) -> dict[str, str]:
    """The same environment for another user of Kafka."""
    return env | {"CHRONOTOPE_KAFKA_SASL_USERNAME": user}


def _settings(env: dict[str, str]) -> KafkaSettings:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in env.items():
            patched.setenv(name, value)
        return KafkaSettings()


@pytest.fixture
def secured_redis(tmp_path: Path, certificates: Certificates) -> Iterator[dict[str, str]]:
    """The environment of a client of a Redis behind TLS whose default user is off."""
    with EmbeddedRedis(tmp_path) as server, tls_front(certificates, server.port) as port:
        admin = redis.Redis.from_url(server.url)
        admin.acl_setuser(
            REDIS_USER, enabled=True, passwords=[f"+{REDIS_PASSWORD}"], keys=["chronotope:*"], commands=["+@all"]
        )
        admin.acl_setuser("default", enabled=False)
        yield {
            "CHRONOTOPE_REDIS_URL": f"rediss://{REDIS_USER}:{REDIS_PASSWORD}@127.0.0.1:{port}/0",
            "CHRONOTOPE_REDIS_SSL_CA_FILE": str(certificates.authority),
        }


def _chronotope(*words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chronotope", *words]
    return subprocess.run(command, env=os.environ | env, capture_output=True, text=True, timeout=120)


def _service(command: str, env: dict[str, str], run_dir: Path) -> ManagedProcess:
    return ManagedProcess(
        command, [sys.executable, "-m", "chronotope", command], run_dir / f"{command}.log", env, run_dir
    )


def test_event_becomes_a_recommendation_over_tls(
    secured: dict[str, str], secured_redis: dict[str, str], tmp_path: Path
) -> None:
    worker_port, server_port = free_ports(2)
    env = secured | secured_redis | {
        "CHRONOTOPE_WORKER_HTTP_PORT": str(worker_port),
        "CHRONOTOPE_WORKER_DATA_DIR": str(tmp_path / "worker"),
        "CHRONOTOPE_SERVER_HTTP_PORT": str(server_port),
    }  # fmt: skip
    applied = _chronotope("topics", "apply", env=env)
    assert applied.returncode == 0, applied.stderr
    services = [
        _service("worker", as_user(env, "worker"), tmp_path),
        _service("serve", as_user(env, "server"), tmp_path),
    ]
    try:
        for service in services:
            service.start()
        producer = Producer(_settings(as_user(env, "producer")).confluent_producer())
        for number in range(20):
            event = BehaviorEvent(
                event_id=f"e{number}", user_id="u", item_id=f"i{number % 3}", action="view",
                event_time_ms=1_333_238_400_000 + number * 1000,
            )  # fmt: skip
            producer.produce(EVENTS.name, key="u", value=encode(event))
        assert producer.flush(30) == 0
        client = redis.Redis.from_url(env["CHRONOTOPE_REDIS_URL"], ssl_ca_certs=env["CHRONOTOPE_REDIS_SSL_CA_FILE"])
        assert _await_recommendation(client, "u")["user_id"] == "u"
        assert _read_one(_settings(as_user(env, "consumer")), RECOMMENDATIONS.name, "shop-front") == b"u"
    finally:
        for service in services:
            service.stop()
    for log in tmp_path.glob("*.log"):
        text = log.read_text()
        assert PASSWORD not in text and REDIS_PASSWORD not in text, f"a secret is in {log.name}"


def _await_recommendation(client: "redis.Redis[bytes]", user_id: str) -> dict[str, object]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        value = client.hget(f"chronotope:recommendation:{user_id}", "recommendation")
        if value is not None:
            found: dict[str, object] = json.loads(value)
            return found
        time.sleep(0.3)
    raise AssertionError("no recommendation reached Redis")


def _read_one(kafka: KafkaSettings, topic: str, group: str) -> bytes | None:
    consumer = Consumer(kafka.confluent() | {"group.id": group, "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([topic])
        message = consumer.poll(60)
        assert message is not None, f"nothing came from {topic}"
        assert message.error() is None, message.error().str()
        return message.key()
    finally:
        consumer.close()


def test_whoever_has_no_right_to_the_topics_gets_one_clear_line(secured: dict[str, str]) -> None:
    done = _chronotope("topics", "apply", env=as_user(secured, "consumer"))
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "authoriz" in done.stderr.lower()


def test_wrong_password_is_one_clear_line_without_the_secret(secured: dict[str, str]) -> None:
    done = _chronotope("topics", "apply", env=secured | {"CHRONOTOPE_KAFKA_SASL_PASSWORD": "wrong-but-secret"})
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "wrong-but-secret" not in done.stdout + done.stderr


def test_unknown_authority_is_refused(secured: dict[str, str], tmp_path: Path) -> None:
    other = make_certificates(tmp_path)
    done = _chronotope("topics", "apply", env=secured | {"CHRONOTOPE_KAFKA_SSL_CA_FILE": str(other.authority)})
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
