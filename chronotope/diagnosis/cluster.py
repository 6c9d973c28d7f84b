"""What is wrong on the Kafka cluster: topics, groups, and the workers' changelogs."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from chronotope.diagnosis.finding import Finding, fine, problem, warning
from chronotope.kafka.errors import ClusterError
from chronotope.kafka.offsets import OffsetReader
from chronotope.kafka.state import changelog_of
from chronotope.kafka.topics import broker_count, check_topics, describe
from schemas.settings import KafkaSettings
from schemas.topics import EVENTS

if TYPE_CHECKING:
    from model_server.settings import ServerSettings
    from streams.settings import WorkerSettings


def check_broker_and_topics(kafka: KafkaSettings) -> Iterator[Finding]:
    """Whether the broker answers (first), and every way in which its topics differ from their declaration."""
    try:
        reports = check_topics(kafka)
        brokers = broker_count(kafka)
    except ClusterError as error:
        yield problem("broker", str(error))
        return
    yield fine("broker", f"{kafka.bootstrap} answers")
    if brokers < kafka.replication_factor:
        yield problem(
            "replication",
            f"CHRONOTOPE_KAFKA_REPLICATION_FACTOR is {kafka.replication_factor}, but there are {brokers} brokers:"
            " no topic can be created",
        )
    wrong = [report for report in reports if report.state != "ok"]
    for report in wrong:
        detail = "; ".join(report.differences) or "does not exist: run chronotope topics apply"
        yield problem("topics", f"{report.topic}: {detail}")
    if not wrong:
        yield fine("topics", f"{len(reports)} topics are as declared")


def check_groups(worker: "WorkerSettings", server: "ServerSettings") -> Iterator[Finding]:
    """How far the workers and the model server are behind the events, and whether what they have yet to read is still there."""
    for name, group in (("workers", worker.app_id), ("model server", server.group)):
        with OffsetReader(worker.kafka, group) as reader:
            partitions = reader.partitions([EVENTS.name])
            ends, committed = reader.ends(partitions), reader.committed(partitions)
            starts = reader.starts(partitions)
        who = f"{name} (group {group})"
        total = sum(ends.values())
        if total > 0 and not any(committed.values()):
            yield warning("lag", f"{who} never committed")
            continue
        beyond = [at for at, offset in committed.items() if offset > ends[at]]
        expired = sum(max(0, starts[at] - offset) for at, offset in committed.items() if offset > 0)
        if beyond:
            where = ", ".join(f"{topic}/{partition}" for topic, partition in sorted(beyond))
            yield problem(
                "lag",
                f"{who} committed beyond the end of {where}: the topic was deleted and made anew, reset the state",
            )
        elif expired:
            yield problem("lag", f"{who}: {expired:,} events expired before they were read")
        else:
            behind = sum(max(0, end - committed[at]) for at, end in ends.items())
            yield fine("lag", f"{who} {behind:,} of {total:,} events behind")


def check_changelogs(worker: "WorkerSettings") -> Iterator[Finding]:
    """Whether each stage's changelog is there, compacted, and has the partitions of the events, once workers have run."""
    from streams.agents import SOURCES

    sources = {stage: SOURCES[stage].name for stage in worker.stages}
    changelogs = {stage: changelog_of(worker.app_id, stage) for stage in worker.stages}
    found = describe(worker.kafka, [*sources.values(), *changelogs.values()])
    with OffsetReader(worker.kafka, worker.app_id) as reader:
        committed = reader.committed(reader.partitions(sources.values()))
    wrong = []
    for stage, changelog in changelogs.items():
        source = sources[stage]
        if changelog not in found:
            if any(offset for (topic, _), offset in committed.items() if topic == source):
                wrong.append(f"{changelog} is gone, but {source} is committed: run chronotope state reset --yes")
            continue
        log = found[changelog]
        if source in found and log.partitions != found[source].partitions:
            wrong.append(f"{changelog} has {log.partitions} partitions, {source} has {found[source].partitions}")
        policy = log.config.get("cleanup.policy", "compact")
        if policy != "compact":
            wrong.append(f"{changelog}: cleanup.policy is {policy}, state would be deleted; it must be compact")
    for detail in wrong:
        yield problem("state", detail)
    if not wrong:
        there = sum(changelog in found for changelog in changelogs.values())
        yield fine("state", f"{there} of {len(changelogs)} changelogs, in order")
