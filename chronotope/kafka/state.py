"""The workers' durable state, seen from outside: what each partition's log holds, and starting from scratch."""

from concurrent.futures import Future
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from chronotope.kafka.errors import ClusterError
from chronotope.kafka.offsets import OffsetReader
from chronotope.kafka.reading import ends_of, read_to
from schemas.settings import KafkaSettings

TIMEOUT_S = 20.0
GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_ID_NOT_FOUND)


class PartitionState(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of one stage: where its newest snapshot stands, what lies beyond it, and how far the source was committed.

    ``problem`` is empty for a log that can be recovered.
    """

    stage: str
    partition: int
    snapshot_offset: int
    snapshot_bytes: int
    chunks: int
    chunk_bytes: int
    absorbed_offset: int
    committed_offset: int
    problem: str = ""


def changelog_of(app_id: str, stage: str) -> str:
    """The changelog topic of a stage, as Faust names it.

    >>> changelog_of("chronotope", "user")
    'chronotope-user-changelog'
    """
    return f"{app_id}-{stage}-changelog"


def inspect(settings: KafkaSettings, app_id: str, stages: dict[str, str]) -> list[PartitionState]:
    """The state of every partition of every stage (``{stage: source topic}``) whose changelog exists.

    Reads the changelogs whole: memory is that of their live records, one stage at a time. Raises ClusterError.
    """
    return [state for stage, source in stages.items() for state in _inspect_stage(settings, app_id, stage, source)]


def reset(settings: KafkaSettings, app_id: str, stages: list[str]) -> list[str]:
    """Delete the changelogs and the committed offsets of an application: its workers start from the topics' beginnings.

    Returns what was deleted. Raises ClusterError if a worker is still running or the broker refuses.
    """
    admin = AdminClient(settings.confluent() | {"log_level": 0})
    members = _members(admin, app_id)
    if members:
        raise ClusterError(f"{members} workers of {app_id} are still running: end them first")
    names = [changelog_of(app_id, stage) for stage in stages]
    deleted = [
        name
        for name, future in admin.delete_topics(names, operation_timeout=TIMEOUT_S).items()
        if _done(future, f"topic {name}")
    ]
    for name, future in admin.delete_consumer_groups([app_id]).items():
        if _done(future, f"group {name}"):
            deleted.append(f"offsets of group {name}")
    return deleted


def _inspect_stage(settings: KafkaSettings, app_id: str, stage: str, source: str) -> list[PartitionState]:
    topic = changelog_of(app_id, stage)
    ends = ends_of(settings, topic)
    logs: dict[int, dict[bytes, bytes]] = {partition: {} for _, partition in sorted(ends)}
    for message in read_to(settings, ends):
        log = logs[message.partition()]
        if message.value() is None:
            log.pop(message.key(), None)
        else:
            log[message.key()] = message.value()
    with OffsetReader(settings, app_id) as reader:
        committed = reader.committed([(source, partition) for partition in logs]) if logs else {}
    return [
        _partition_state(stage, partition, log, committed.get((source, partition), 0))
        for partition, log in logs.items()
    ]


def _partition_state(stage: str, partition: int, log: dict[bytes, bytes], committed: int) -> PartitionState:
    from streams.engine import statelog

    problem = ""
    recovered = statelog.RecoveredState(statelog.NOTHING_ABSORBED, None, [])
    try:
        recovered = statelog.recover(log)
    except (statelog.StateGapError, msgspec.DecodeError) as error:
        problem = str(error)
    absorbed = recovered.chunks[-1].last if recovered.chunks else recovered.offset
    if not problem and absorbed + 1 < committed:
        problem = f"the source is committed to {committed}, beyond the state"
    return PartitionState(
        stage=stage,
        partition=partition,
        snapshot_offset=recovered.offset,
        snapshot_bytes=len(recovered.snapshot or b""),
        chunks=len(recovered.chunks),
        chunk_bytes=sum(len(chunk.payload) for chunk in recovered.chunks),
        absorbed_offset=absorbed,
        committed_offset=committed,
        problem=problem,
    )


def _members(admin: AdminClient, group: str) -> int:
    try:
        described = admin.describe_consumer_groups([group], request_timeout=TIMEOUT_S)[group].result()
    except KafkaException as error:
        if error.args[0].code() in GONE:
            return 0
        raise ClusterError(f"group {group} cannot be described ({error.args[0].str()})") from error
    return len(described.members)


def _done(future: "Future[Any]", what: str) -> bool:
    try:
        future.result()
    except KafkaException as error:
        if error.args[0].code() in GONE:
            return False
        raise ClusterError(f"{what} cannot be deleted ({error.args[0].str()})") from error
    return True
