"""Judges a run from outside: replays the raw topic through the pure stages and compares with what the workers kept.

Run as a process of its own: ``python tests/chaos/verifier.py --bootstrap HOST:PORT --app-id ID``. It prints a JSON verdict
and ends with 0 if the run is right, with 1 if not. It demands that

- the workers' final states are those of an undisturbed replay,
- every event of the raw topic is accounted for exactly once: admitted, repeated, late or rejected, the last two with their
  original bytes on their topics.
"""

import argparse
import json
import os
import sys
import time
from typing import Any

import msgspec
import numpy as np
from comparison import differences

from chronotope.kafka.reading import ends_of, read_to
from chronotope.kafka.state import changelog_of
from processors.spatial import ClusterUnion, SlidingDBSCAN
from schemas.settings import KafkaSettings
from schemas.topics import EVENTS, LATE, REJECTED, TopicSpec
from streams.decoding import EventDecoder
from streams.engine import statelog
from streams.pipeline import pass_on
from streams.settings import WorkerSettings
from streams.stages.crowd_counts import NO_BINS
from streams.stages.factory import stage_factory
from streams.stages.output import Routed
from streams.stages.region_window import OWN

REPLAY_BATCH = 777
Source = tuple[int, int]


class RawRecord(msgspec.Struct, frozen=True):
    """A record as the decoder reads it."""

    offset: int
    timestamp: int
    value: bytes | None


class Verdict(msgspec.Struct, kw_only=True):
    """What was found; right if ``problems`` is empty."""

    events: int = 0
    admitted: int = 0
    repeated: int = 0
    late: int = 0
    rejected: int = 0
    problems: list[str] = msgspec.field(default_factory=list)


def read_raw(kafka: KafkaSettings) -> dict[int, list[RawRecord]]:
    """The raw topic by partition."""
    raw: dict[int, list[RawRecord]] = {}
    for message in read_to(kafka, ends_of(kafka, EVENTS.name)):
        record = RawRecord(message.offset(), message.timestamp()[1], message.value())
        raw.setdefault(message.partition(), []).append(record)
    return raw


def replay(
    settings: WorkerSettings, partitions: int, raw: dict[int, list[RawRecord]], verdict: Verdict
) -> dict[str, Any]:
    """The states of an undisturbed run: {stage: [state per partition]}, and the sources that it refuses."""
    mining = settings.mining(partitions)
    decoder = EventDecoder(mining.limits)
    stages = {name: [stage_factory(name, mining)(p, None) for p in range(partitions)] for name in settings.stages}
    routed: list[Routed] = []
    late: set[Source] = set()
    rejected: dict[Source, str] = {}
    for partition, user in enumerate(stages["user"]):
        routed += user.announce(caught_up=not raw.get(partition))
        records = raw.get(partition, [])
        for start in range(0, len(records), REPLAY_BATCH):
            batch = records[start : start + REPLAY_BATCH]
            events, rejects = decoder.decode(batch, int(time.time() * 1000))
            output = user.apply(events, batch[-1].offset, start + REPLAY_BATCH >= len(records))
            routed += output.routed
            late.update((partition, offset) for offset in output.late.tolist())
            rejected.update({(partition, reject.offset): reject.reason for reject in rejects})
            verdict.admitted += output.counts["admitted"]
            verdict.repeated += output.counts["repeated"]
    verdict.late, verdict.rejected, verdict.events = len(late), len(rejected), sum(map(len, raw.values()))
    pass_on(stages, routed)
    return {"stages": stages, "late": late, "rejected": rejected}


def kept_states(settings: WorkerSettings, stage: str, partitions: int) -> list[Any]:
    """The states that the changelog of a stage holds. Raises StateGapError."""
    topic = changelog_of(settings.app_id, stage)
    logs: list[dict[bytes, bytes]] = [{} for _ in range(partitions)]
    for message in read_to(settings.kafka, ends_of(settings.kafka, topic)):
        if message.value() is None:
            logs[message.partition()].pop(message.key(), None)
        else:
            logs[message.partition()][message.key()] = message.value()
    make = stage_factory(stage, settings.mining(partitions))
    return [_restored(make, partition, log) for partition, log in enumerate(logs)]


def _restored(make: Any, partition: int, log: dict[bytes, bytes]) -> Any:
    recovered = statelog.recover(log)
    state = make(partition, recovered.snapshot)
    for chunk in recovered.chunks:
        state.replay(chunk.first, chunk.last, chunk.payload)
    return state


def refused(kafka: KafkaSettings, topic: TopicSpec) -> dict[Source, tuple[bytes | None, str]]:
    """What a topic of refused events holds: value and reason by source; the copies that a restart writes count once."""
    found: dict[Source, tuple[bytes | None, str]] = {}
    for message in read_to(kafka, ends_of(kafka, topic.name)):
        headers = {name: value.decode() for name, value in message.headers() or []}
        source = (int(headers["source_partition"]), int(headers["source_offset"]))
        found[source] = (message.value(), headers.get("reason", ""))
    return found


def account(kafka: KafkaSettings, expected: dict[str, Any], raw: dict[int, list[RawRecord]], verdict: Verdict) -> None:
    """Every event is admitted, repeated, late or rejected, and the refused ones are on their topics as they came."""
    total = verdict.admitted + verdict.repeated + verdict.late + verdict.rejected
    if total != verdict.events:
        verdict.problems.append(f"{verdict.events} events, {total} accounted for")
    values = {(partition, record.offset): record.value for partition, records in raw.items() for record in records}
    for topic, wanted in ((LATE, dict.fromkeys(expected["late"], "")), (REJECTED, expected["rejected"])):
        found = refused(kafka, topic)
        if found.keys() != wanted.keys():
            missing, surplus = len(wanted.keys() - found.keys()), len(found.keys() - wanted.keys())
            verdict.problems.append(f"{topic.name}: {missing} events missing, {surplus} too many")
        for source in found.keys() & wanted.keys():
            value, reason = found[source]
            if reason != wanted[source] or not (values[source] or b"").startswith(value or b""):
                verdict.problems.append(
                    f"{topic.name}: {source} has the reason {reason!r}, {wanted[source]!r} expected"
                )


def verify(settings: WorkerSettings) -> Verdict:
    """The verdict on the application's topics as they are now."""
    verdict = Verdict()
    raw = read_raw(settings.kafka)
    partitions = len(ends_of(settings.kafka, EVENTS.name))
    expected = replay(settings, partitions, raw, verdict)
    account(settings.kafka, expected, raw, verdict)
    for stage in settings.stages:
        try:
            kept = kept_states(settings, stage, partitions)
        except statelog.StateGapError as error:
            verdict.problems.append(f"{stage}: {error}")
            continue
        for wanted, found in zip(expected["stages"][stage], kept, strict=True):
            verdict.problems += differences(stage, wanted, found)
    verdict.problems += crowds_apart(settings, kept_states(settings, "region", partitions))
    return verdict


def crowds_apart(settings: WorkerSettings, regions: list[Any]) -> list[str]:
    """Whether the crowds that the kept windows of all regions add up to are not those of one window over all their points."""
    union, own = ClusterUnion(), []
    if len(regions) == 1:
        return []
    for region in regions:
        union.update(region.window.report(NO_BINS, full=True).structure)
    union.resolve()
    for region in regions:
        numbers, labels, core = region.window.dbscan.snapshot()
        points = region.window.points.select(numbers)
        mine = (points["flags"] & OWN) > 0
        found = {"label": union.global_ids(region.partition, labels), "core": core} | points
        own.append({name: column[mine] for name, column in found.items()})
    everything = {name: np.concatenate([part[name] for part in own]) for name in own[0]}
    order = np.lexsort((everything["source"], everything["time_ms"]))
    everything = {name: column[order] for name, column in everything.items()}
    single = SlidingDBSCAN(settings.eps_m, settings.min_samples, settings.window_s)
    single.update(everything["time_ms"] / 1000.0, everything["lat"], everything["lon"], np.arange(len(order)))
    _, labels, core = single.snapshot()
    pairs = np.unique(np.stack([labels, everything["label"]]), axis=1)
    same = all(len(np.unique(side)) == pairs.shape[1] for side in pairs) and np.array_equal(core, everything["core"])
    return [] if same else [f"the regions' {len(order)} points add up to other crowds than those of one window"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--app-id", default="chronotope")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    np.seterr(all="raise", under="ignore")
    settings = WorkerSettings(kafka=KafkaSettings(bootstrap=options.bootstrap), app_id=options.app_id)
    verdict = verify(settings)
    sys.stdout.write(json.dumps(msgspec.to_builtins(verdict), indent=2) + "\n")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
