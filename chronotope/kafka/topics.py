"""The declared topics against those of a cluster: create what is missing, name what differs."""

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any, Literal

import msgspec
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata, ConfigResource, NewTopic, ResourceType

from chronotope.kafka.errors import ClusterError
from chronotope.kafka.offsets import CONNECT_TIMEOUT_S
from schemas.settings import KafkaSettings
from schemas.topics import ALL_TOPICS, CATALOG, EVENTS, TopicSpec

REQUEST_TIMEOUT_S = 15.0
TopicState = Literal["ok", "created", "missing", "drift"]


class TopicReport(msgspec.Struct, frozen=True, kw_only=True):
    """How one declared topic stands on the cluster; ``differences`` says what was found instead of what was declared."""

    topic: str
    state: TopicState
    differences: list[str] = msgspec.field(default_factory=list)


class TopicFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a cluster says of one topic."""

    partitions: int
    config: dict[str, str]


def describe(settings: KafkaSettings, names: Iterable[str]) -> dict[str, TopicFacts]:
    """Partitions and configuration of those of the named topics that exist. Raises ClusterError if unreachable."""
    admin = _admin(settings)
    partitions = _partitions(admin, settings)
    configs = _configs(admin, [name for name in dict.fromkeys(names) if name in partitions])
    return {name: TopicFacts(partitions=partitions[name], config=config) for name, config in configs.items()}


def broker_count(settings: KafkaSettings) -> int:
    """How many brokers the cluster has. Raises ClusterError if none answers."""
    return len(_metadata(_admin(settings), settings).brokers)


def check_topics(settings: KafkaSettings, specs: tuple[TopicSpec, ...] = ALL_TOPICS) -> list[TopicReport]:
    """How each declared topic stands: ok, missing, or drift with the differences. Raises ClusterError if unreachable."""
    found = describe(settings, [spec.name for spec in specs])
    return [_report(spec, found.get(spec.name), _partition_count(settings, spec)) for spec in specs]


def apply_topics(settings: KafkaSettings, specs: tuple[TopicSpec, ...] = ALL_TOPICS) -> list[TopicReport]:
    """Create the missing topics and report every topic; what differs is named, never changed.

    Partitions are fixed at creation: growing them would part a key from its state. Raises ClusterError.
    """
    missing = {report.topic for report in check_topics(settings, specs) if report.state == "missing"}
    new = [
        NewTopic(spec.name, _partition_count(settings, spec), settings.replication_factor, config=spec.config)
        for spec in specs
        if spec.name in missing
    ]
    if new:
        admin = _admin(settings)  # held until the futures are done: its end would cancel them
        for name, future in admin.create_topics(new, request_timeout=REQUEST_TIMEOUT_S).items():
            _await_created(name, future)
    reports = check_topics(settings, specs)
    return [
        msgspec.structs.replace(report, state="created") if report.topic in missing and report.state == "ok" else report
        for report in reports
    ]


def require_topics(settings: KafkaSettings, specs: tuple[TopicSpec, ...] = (EVENTS, CATALOG)) -> None:
    """Raises ClusterError naming the topics that are not there, and the command that creates them."""
    known = _partitions(_admin(settings), settings)
    missing = [spec.name for spec in specs if spec.name not in known]
    if missing:
        raise ClusterError(
            f"topics {', '.join(missing)} do not exist on {settings.bootstrap}: run chronotope topics apply"
        )


def _admin(settings: KafkaSettings) -> AdminClient:
    # Our own messages say what is wrong; librdkafka's log lines on stderr would only repeat it.
    return AdminClient(settings.confluent() | {"log_level": 0, "socket.connection.setup.timeout.ms": 5000})


def _metadata(admin: AdminClient, settings: KafkaSettings) -> ClusterMetadata:
    try:
        return admin.list_topics(timeout=CONNECT_TIMEOUT_S)
    except KafkaException as error:
        raise ClusterError(f"no Kafka broker answers at {settings.bootstrap} ({_words(error)})") from error


def _partitions(admin: AdminClient, settings: KafkaSettings) -> dict[str, int]:
    metadata = _metadata(admin, settings)
    return {name: len(topic.partitions) for name, topic in metadata.topics.items() if topic.error is None}


def _configs(admin: AdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    for resource, future in admin.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S).items():
        try:
            found[resource.name] = {name: entry.value for name, entry in future.result().items()}
        except KafkaException as error:
            raise ClusterError(f"the configuration of {resource.name} cannot be read ({_words(error)})") from error
    return found


def _partition_count(settings: KafkaSettings, spec: TopicSpec) -> int:
    return settings.partitions or spec.partitions


def _report(spec: TopicSpec, found: TopicFacts | None, partitions: int) -> TopicReport:
    if found is None:
        return TopicReport(topic=spec.name, state="missing")
    differences = []
    if found.partitions != partitions:
        differences.append(f"{found.partitions} partitions, {partitions} declared")
    for name, declared in spec.config.items():
        actual = found.config.get(name)
        if actual is not None and _normal(actual) != _normal(declared):
            differences.append(f"{name} is {actual}, {declared} declared")
    return TopicReport(topic=spec.name, state="drift" if differences else "ok", differences=differences)


def _normal(value: str) -> list[str]:
    return sorted(part.strip() for part in value.split(","))


def _await_created(name: str, future: "Future[Any]") -> None:
    try:
        future.result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise ClusterError(f"topic {name} cannot be created ({_words(error)})") from error


def _words(error: KafkaException) -> str:
    return str(error.args[0].str()) if error.args and isinstance(error.args[0], KafkaError) else str(error)
