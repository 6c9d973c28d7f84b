"""Judges from outside what a run recommended: reads the topics and Redis as any consumer would.

Run as a process of its own: ``python tests/chaos/recommendations_verifier.py --bootstrap HOST:PORT --redis URL``. It prints a
JSON verdict and ends with 0 if the run is right, with 1 if not. It demands that

- the versions of a user only grow on the topic,
- everybody of whom a good event is in the raw topic has a recommendation, and the last one knows of the last such event,
- Redis holds everybody's last recommendation, to the byte.
"""

import argparse
import json
import sys
import time

import msgspec
import redis
from verifier import RawRecord, read_raw

from chronotope.kafka.reading import ends_of, read_to
from model_server.learning import TOLERATED_DISORDER_MS
from schemas.json_wire import decoder
from schemas.recommendations import Recommendation
from schemas.settings import KafkaSettings, RedisSettings
from schemas.topics import RECOMMENDATIONS
from streams.decoding import EventDecoder
from streams.settings import WorkerSettings


class Verdict(msgspec.Struct, kw_only=True):
    """What was found; right if ``problems`` is empty."""

    users: int = 0
    recommendations: int = 0
    problems: list[str] = msgspec.field(default_factory=list)


def last_events(kafka: KafkaSettings) -> dict[str, tuple[int, int]]:
    """Partition and offset of each user's last event that can be used: neither rejected, nor repeated, nor late for its user."""
    seen, newest_ms = set[int](), dict[str, int]()
    decode = EventDecoder(WorkerSettings(kafka=kafka).mining(1).limits).decode
    last: dict[str, tuple[int, int]] = {}
    raw: dict[int, list[RawRecord]] = read_raw(kafka)
    for partition, records in raw.items():
        events, _ = decode(records, int(time.time() * 1000))
        id_of = events.names.as_dict()
        columns = (events.user, events.event_hash, events.time_ms, events.offset)
        for user, event_hash, time_ms, offset in zip(*(column.tolist() for column in columns), strict=True):
            user_id = id_of[user]
            before_ms = newest_ms.get(user_id, time_ms)
            if event_hash not in seen and before_ms - time_ms <= TOLERATED_DISORDER_MS:
                last[user_id] = (partition, offset)
                newest_ms[user_id] = max(before_ms, time_ms)
            seen.add(event_hash)
    return last


def standing(kafka: KafkaSettings, verdict: Verdict) -> dict[str, tuple[Recommendation, bytes]]:
    """Each user's recommendation with the largest version, decoded and as it was written."""
    decode = decoder(RECOMMENDATIONS).decode
    found: dict[str, tuple[Recommendation, bytes]] = {}
    for message in read_to(kafka, ends_of(kafka, RECOMMENDATIONS.name)):
        value = message.value()
        each: Recommendation = decode(value)
        verdict.recommendations += 1
        before = found.get(each.user_id)
        if before is not None and each.version <= before[0].version:
            verdict.problems.append(f"{each.user_id}: version {each.version} follows {before[0].version}")
            continue
        found[each.user_id] = (each, value)
    return found


def verify(kafka: KafkaSettings, store: RedisSettings) -> Verdict:
    """The verdict on the topics and on Redis as they are now."""
    verdict = Verdict()
    last, found = last_events(kafka), standing(kafka, verdict)
    verdict.users = len(last)
    client = redis.Redis.from_url(store.url.get_secret_value())
    for user_id, source in last.items():
        if user_id not in found:
            verdict.problems.append(f"{user_id}: nothing was recommended")
            continue
        recommendation, value = found[user_id]
        known = (recommendation.source_partition, recommendation.source_offset)
        if known != source:
            verdict.problems.append(f"{user_id}: the last recommendation knows of {known}, the last event is {source}")
        if client.hget(f"{store.key_prefix}recommendation:{user_id}", "recommendation") != value:
            verdict.problems.append(f"{user_id}: Redis does not hold the last recommendation")
    return verdict


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--redis", required=True)
    options = parser.parse_args()
    verdict = verify(KafkaSettings(bootstrap=options.bootstrap), RedisSettings(url=options.redis))
    sys.stdout.write(json.dumps(msgspec.to_builtins(verdict), indent=2) + "\n")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
