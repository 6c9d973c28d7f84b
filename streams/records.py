"""What a stage's output looks like on the topics: records with their keys, partitions and headers."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from schemas import json_wire, topics
from schemas.headers import kept_headers
from schemas.partitioning import partition_of
from schemas.patterns import Pattern
from schemas.topics import TopicSpec
from streams.decoding import Reject
from streams.engine.fetched_records import FetchedRecord
from streams.engine.writer import OutRecord
from streams.stages.crossing import Cut, RegionReport, encode_message
from streams.stages.output import Routed, StageOutput, key_of, topic_of

MAX_REJECTED_BYTES = 900_000


@lru_cache(maxsize=1 << 17)
def _partition(key: str, partitions: int) -> int:
    return partition_of(key.encode(), partitions)


def output_records(output: StageOutput, partitions: int) -> list[OutRecord]:
    """The records of a stage's patterns and internal batches."""
    return pattern_records(output.patterns, partitions) + internal_records(output.routed)


def internal_records(routed: Iterable[Routed]) -> list[OutRecord]:
    """The records of internal batches, each to its own partition."""
    return [_internal_record(one) for one in routed]


def pattern_records(patterns: Iterable[Pattern], partitions: int) -> list[OutRecord]:
    """The records of patterns, by murmur2 of their keys."""
    return [_pattern_record(pattern, partitions) for pattern in patterns]


def _pattern_record(pattern: Pattern, partitions: int) -> OutRecord:
    key = key_of(pattern)
    return OutRecord(topic_of(pattern).name, _partition(key, partitions), key.encode(), json_wire.encode(pattern))


def _internal_record(routed: Routed) -> OutRecord:
    batch = routed.batch
    # A telling waits for what the union asks of the regions and for what they answer; rows can wait for each other.
    urgent = isinstance(batch, RegionReport) or (isinstance(batch, Cut) and batch.tell)
    return OutRecord(routed.topic.name, routed.partition, None, encode_message(batch), urgent=urgent)


def late_records(records: Sequence[FetchedRecord], late: Sequence[int]) -> list[OutRecord]:
    """The late events as they were received, with the offset they had."""
    if not late:
        return []
    by_offset = {record.offset: record for record in records}
    return [_copied(by_offset[offset], topics.LATE, [], None) for offset in late]


def rejected_records(records: Sequence[FetchedRecord], rejects: Sequence[Reject], stage: str) -> list[OutRecord]:
    """The original bytes of the rejected records, with the stage and the reason in headers.

    A value beyond ``MAX_REJECTED_BYTES`` is cut, and the header ``value_bytes`` says how long it was: a record that only just
    fitted its topic would not fit with our headers, and must not stop the stream.
    """
    if not rejects:
        return []
    by_offset = {record.offset: record for record in records}
    return [_rejected(by_offset[reject.offset], reject, stage) for reject in rejects]


def _rejected(record: FetchedRecord, reject: Reject, stage: str) -> OutRecord:
    reason = [("stage", stage.encode()), ("reason", reject.reason.encode()), ("error", reject.error.encode()[:2_000])]
    value = record.value
    if value is not None and len(value) > MAX_REJECTED_BYTES:
        reason.append(("value_bytes", b"%d" % len(value)))
        value = value[:MAX_REJECTED_BYTES]
    return _copied(record, topics.REJECTED, reason, value)


def _copied(
    record: FetchedRecord, topic: TopicSpec, headers: list[tuple[str, bytes]], value: bytes | None
) -> OutRecord:
    source = [
        ("source_topic", record.topic.encode()),
        ("source_partition", b"%d" % record.partition),
        ("source_offset", b"%d" % record.offset),
    ]
    return OutRecord(
        topic.name, record.partition, record.key, record.value if value is None else value,
        [*kept_headers(record.headers), *headers, *source], record.timestamp if record.timestamp > 0 else None,
    )  # fmt: skip
