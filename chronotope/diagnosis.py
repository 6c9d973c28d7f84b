"""What is wrong with an installation, checked from outside and named: ``chronotope doctor``."""

import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

import msgspec
from packaging.requirements import Requirement
from pydantic_settings import BaseSettings

from chronotope.kafka.errors import ClusterError
from chronotope.kafka.offsets import OffsetReader
from chronotope.kafka.reading import ends_of, read_to
from chronotope.kafka.topics import check_topics
from schemas.partitioning import partition_of
from schemas.settings import KafkaSettings, RedisSettings, RegistrySettings
from schemas.topics import EVENTS

Verdict = Literal["ok", "warning", "problem"]
NAMED_KEYS = 5
REGISTRY_TIMEOUT_S = 5


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at, and what is wrong with it."""

    check: str
    verdict: Verdict
    detail: str


def examine(bootstrap: str | None, sampled_records: int) -> Iterator[Finding]:
    """Look at everything in turn; a check that cannot be made says so. ``sampled_records`` are read of each event partition."""
    yield from check_versions()
    settings_fine = True
    for finding in check_settings():
        settings_fine = settings_fine and finding.verdict != "problem"
        yield finding
    if not settings_fine:
        return
    kafka = KafkaSettings() if bootstrap is None else KafkaSettings(bootstrap=bootstrap)
    topics = list(check_broker_and_topics(kafka))
    yield from topics
    if topics[0].verdict == "ok":
        yield check_partitioner(kafka, sampled_records)
        yield from check_groups(kafka)
    yield check_redis(RedisSettings())
    yield check_registry(RegistrySettings())


def check_versions() -> Iterator[Finding]:
    """Whether what is installed is what the distribution asks for; the pinned pair is held to the letter."""
    yield Finding(check="python", verdict="ok", detail=sys.version.split()[0])
    wrong = []
    for text in requires("chronotope") or []:
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(need.name)
        except PackageNotFoundError:
            wrong.append(f"{need.name} is missing, {need.specifier} is needed")
            continue
        if not need.specifier.contains(found, prereleases=True):
            wrong.append(f"{need.name} is {found}, {need.specifier} is needed")
    named = ", ".join(f"{name} {version(name)}" for name in ("chronotope", "faust-streaming", "aiokafka", "torch"))
    yield Finding(check="packages", verdict="problem" if wrong else "ok", detail="; ".join(wrong) or named)


def settings_models() -> tuple[type[BaseSettings], ...]:
    """Every group of settings that is read from the environment."""
    from model_server.settings import ServerSettings
    from streams.settings import WorkerSettings

    return KafkaSettings, RedisSettings, RegistrySettings, WorkerSettings, ServerSettings


def known_variables() -> set[str]:
    """The environment variables that mean something to Chronotope."""
    known = {"CHRONOTOPE_DATA", "CHRONOTOPE_KAFKA_JARS"}
    for model in settings_models():
        prefix = model.model_config.get("env_prefix", "")
        known |= {f"{prefix}{name}".upper() for name in model.model_fields}
    return known


def check_settings() -> Iterator[Finding]:
    """Whether every setting of the environment is known and valid."""
    unknown = sorted({name for name in os.environ if name.startswith("CHRONOTOPE_")} - known_variables())
    for name in unknown:
        yield Finding(check="settings", verdict="warning", detail=f"{name} is no setting of Chronotope")
    failed = False
    for model in settings_models():
        try:
            model()
        except ValueError as error:
            failed = True
            yield Finding(check="settings", verdict="problem", detail=" ".join(str(error).split())[:400])
    if not failed and not unknown:
        yield Finding(check="settings", verdict="ok", detail="every variable is known and valid")


def check_broker_and_topics(kafka: KafkaSettings) -> Iterator[Finding]:
    """Whether the broker answers (first), and every way in which its topics differ from their declaration."""
    try:
        reports = check_topics(kafka)
    except ClusterError as error:
        yield Finding(check="broker", verdict="problem", detail=str(error))
        return
    yield Finding(check="broker", verdict="ok", detail=f"{kafka.bootstrap} answers")
    wrong = [report for report in reports if report.state != "ok"]
    for report in wrong:
        detail = "; ".join(report.differences) or "does not exist: run chronotope topics apply"
        yield Finding(check="topics", verdict="problem", detail=f"{report.topic}: {detail}")
    if not wrong:
        yield Finding(check="topics", verdict="ok", detail=f"{len(reports)} topics are as declared")


def check_partitioner(kafka: KafkaSettings, sampled_records: int) -> Finding:
    """Whether producers put every key where murmur2 puts it: a key on two partitions has its state in two places."""
    ends = ends_of(kafka, EVENTS.name)
    seen: dict[bytes, set[int]] = defaultdict(set)
    without_key = 0
    for message in read_to(kafka, ends, last=sampled_records):
        if message.key() is None:
            without_key += 1
        else:
            seen[message.key()].add(message.partition())
    astray = [key for key, partitions in seen.items() if partitions != {partition_of(key, len(ends))}]
    split = [key for key in astray if len(seen[key]) > 1]
    if not astray and not without_key:
        return Finding(check="partitioner", verdict="ok", detail=f"{len(seen):,} keys are where murmur2 puts them")
    parts = []
    if split:
        parts.append(f"{len(split):,} keys lie on two partitions ({_named(split)})")
    if len(astray) > len(split):
        others = [key for key in astray if len(seen[key]) == 1]
        parts.append(f"{len(others):,} keys are not where murmur2 puts them ({_named(others)})")
    if without_key:
        parts.append(f"{without_key:,} events have no key")
    parts.append("a producer needs partitioner=murmur2_random and the user id as key")
    return Finding(check="partitioner", verdict="problem", detail="; ".join(parts))


def check_groups(kafka: KafkaSettings) -> Iterator[Finding]:
    """How far the workers and the model server are behind the events."""
    from model_server.settings import ServerSettings
    from streams.settings import WorkerSettings

    for name, group in (("workers", WorkerSettings().app_id), ("model server", ServerSettings().group)):
        with OffsetReader(kafka, group) as reader:
            partitions = reader.partitions([EVENTS.name])
            ends, committed = reader.ends(partitions), reader.committed(partitions)
        total = sum(ends.values())
        behind = sum(max(0, end - committed.get(each, 0)) for each, end in ends.items())
        never = total > 0 and not any(committed.values())
        yield Finding(
            check="lag",
            verdict="warning" if never else "ok",
            detail=f"{name} (group {group}) "
            + ("never committed" if never else f"{behind:,} of {total:,} events behind"),
        )


def check_redis(settings: RedisSettings) -> Finding:
    """Whether Redis answers and will not throw recommendations away at random."""
    import redis

    try:
        client = redis.Redis.from_url(
            settings.url.get_secret_value(),
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
        )
        memory = client.info("memory")
        server = client.info("server")
        client.close()
    except (redis.RedisError, ValueError) as error:
        return Finding(check="redis", verdict="problem", detail=f"does not answer: {error}")
    policy = memory.get("maxmemory_policy", "unknown")
    detail = f"{server.get('redis_version')} answers, maxmemory policy {policy}"
    risky = memory.get("maxmemory", 0) and policy.startswith("allkeys")
    return Finding(check="redis", verdict="warning" if risky else "ok", detail=detail)


def check_registry(settings: RegistrySettings) -> Finding:
    """Whether the schema registry answers, if one is configured."""
    config = settings.client_config()
    if config is None:
        return Finding(check="registry", verdict="ok", detail="none configured: events are read as JSON")
    from confluent_kafka.schema_registry import SchemaRegistryClient

    ask: Callable[[], list[str]] = SchemaRegistryClient(
        config | {"timeout": REGISTRY_TIMEOUT_S, "max.retries": 0}
    ).get_subjects
    try:
        subjects = ask()
    except Exception as error:  # the client raises whatever its HTTP library does
        return Finding(check="registry", verdict="problem", detail=f"{settings.url} does not answer: {error}")
    return Finding(check="registry", verdict="ok", detail=f"{settings.url} answers, {len(subjects)} subjects")


def _named(keys: list[bytes]) -> str:
    shown = ", ".join(key.decode(errors="replace") for key in sorted(keys)[:NAMED_KEYS])
    return shown + (", ..." if len(keys) > NAMED_KEYS else "")
