"""What is wrong with what the producers send, judged by the latest events of each partition."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from chronotope.diagnosis.finding import Finding, fine, named, problem, warning
from chronotope.kafka.reading import ends_of, read_to
from schemas.partitioning import partition_of
from schemas.topics import EVENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Message

    from streams.decoding import EventDecoder
    from streams.settings import WorkerSettings
    from streams.stages.admission import Admission, AdmissionSettings

BATCH = 2_000
TOLERATED_SKEW_S = 60.0
TOLERATED_SHARE = 0.01
TOLERATED_REPEATS = 0.1
REMEMBERED_IDS = 1 << 10  # repetitions are counted apart: here they only must not move a clock
HINTS = {
    "unknown_action": "give the action a weight in CHRONOTOPE_EVENT_ACTION_WEIGHTS",
    "time_before_2000": "event_time_ms is in milliseconds",
    "time_in_future": "event_time_ms is in milliseconds, or a clock is wrong",
    "no_schema_registry": "set CHRONOTOPE_REGISTRY_URL",
}


class _Record(NamedTuple):
    offset: int
    timestamp: int
    value: bytes | None


class _Sample:
    """What the sampled records say, gathered in one pass."""

    def __init__(self, decoder: "EventDecoder", partitions: int, admission: "AdmissionSettings") -> None:
        self._decoder, self._partitions = decoder, partitions
        self._admission = msgspec.structs.replace(admission, remembered_ids=REMEMBERED_IDS)
        self._clocks: dict[int, Admission] = {}
        self.records = self.without_key = self.late = 0
        self.partitions_of: dict[bytes, set[int]] = defaultdict(set)
        self.refused: Counter[str] = Counter()
        self.first_refused: dict[str, str] = {}
        self.ids: Counter[int] = Counter()
        self.latest_ms = 0

    def take(self, partition: int, messages: "Sequence[Message]") -> None:
        """Count what these records of one partition are; those of each partition come in their order."""
        from streams.stages.admission import Admission

        records = [_Record(message.offset(), message.timestamp()[1], message.value()) for message in messages]
        for message in messages:
            if message.key() is None:
                self.without_key += 1
            else:
                self.partitions_of[message.key()].add(partition)
        self.records += len(records)
        self.latest_ms = max(self.latest_ms, *(record.timestamp for record in records))
        columns, rejects = self._decoder.decode(records, int(time.time() * 1000))
        self.ids.update(columns.event_hash.tolist())
        clock = self._clocks.setdefault(partition, Admission(self._admission))
        late, _ = clock.admit(columns.time_ms, columns.user, columns.event_hash)
        self.late += int(late.sum())
        for reject in rejects:
            self.refused[reject.reason] += 1
            self.first_refused.setdefault(reject.reason, f"{EVENTS.name}/{partition} at {reject.offset}")

    @property
    def astray(self) -> list[bytes]:
        """Keys that are anywhere but where murmur2 puts them."""
        return [key for key, seen in self.partitions_of.items() if seen != {partition_of(key, self._partitions)}]


def check_events(worker: "WorkerSettings", sampled_records: int) -> Iterator[Finding]:
    """Whether producers partition, write and stamp events so that the workers can use them."""
    from streams.app import event_decoder

    ends = ends_of(worker.kafka, EVENTS.name)
    mining = worker.mining(len(ends))
    sample = _Sample(event_decoder(worker, mining.limits), len(ends), mining.user.admission)
    gathered: dict[int, list[Message]] = defaultdict(list)
    for message in read_to(worker.kafka, ends, last=sampled_records):
        batch = gathered[message.partition()]
        batch.append(message)
        if len(batch) >= BATCH:
            sample.take(message.partition(), gathered.pop(message.partition()))
    for partition, batch in gathered.items():
        sample.take(partition, batch)
    yield _partitioner(sample)
    yield from _validity(sample)
    yield from _clock(sample)
    yield from _lateness(sample, worker.allowed_lateness_s)


def _partitioner(sample: _Sample) -> Finding:
    """A key on two partitions has its state in two places."""
    astray = sample.astray
    if not astray and not sample.without_key:
        return fine("partitioner", f"{len(sample.partitions_of):,} keys are where murmur2 puts them")
    split = [key for key in astray if len(sample.partitions_of[key]) > 1]
    others = [key for key in astray if len(sample.partitions_of[key]) == 1]
    parts = []
    if split:
        parts.append(f"{len(split):,} keys lie on two partitions ({named(split)})")
    if others:
        parts.append(f"{len(others):,} keys are not where murmur2 puts them ({named(others)})")
    if sample.without_key:
        parts.append(f"{sample.without_key:,} events have no key")
    parts.append("a producer needs partitioner=murmur2_random and the user id as key")
    return problem("partitioner", "; ".join(parts))


def _validity(sample: _Sample) -> Iterator[Finding]:
    refused, repeated = sum(sample.refused.values()), sum(sample.ids.values()) - len(sample.ids)
    for reason, count in sample.refused.most_common():
        hint = f": {HINTS[reason]}" if reason in HINTS else ""
        detail = (
            f"{count:,} of {sample.records:,} are refused as {reason} (first: {sample.first_refused[reason]}){hint}"
        )
        yield (problem if refused > TOLERATED_SHARE * sample.records else warning)("events", detail)
    if repeated > TOLERATED_REPEATS * sample.records:
        yield problem(
            "events", f"{repeated:,} of {sample.records:,} repeat an event_id and are ignored: each event needs its own"
        )
    elif not refused:
        yield fine("events", f"{sample.records:,} are acceptable, {repeated:,} of them repeated")


def _clock(sample: _Sample) -> Iterator[Finding]:
    """Kafka's timestamps are the clock by which "in the future" is decided and freshness is measured."""
    ahead_s = sample.latest_ms / 1000 - time.time()
    if ahead_s > TOLERATED_SKEW_S:
        yield problem("clock", f"records are stamped up to {ahead_s:,.0f} s ahead of this machine's clock")


def _lateness(sample: _Sample, allowed_s: float) -> Iterator[Finding]:
    """Late events are kept but not mined: a history that follows live events is late whole."""
    if sample.late > TOLERATED_SHARE * sample.records:
        yield problem(
            "late",
            f"{sample.late:,} of {sample.records:,} lie more than {allowed_s:,.0f} s behind a later event of their partition "
            "and are not mined: send history before live events, or raise CHRONOTOPE_WORKER_ALLOWED_LATENESS_S",
        )
