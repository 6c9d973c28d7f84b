"""Events per second through one stream worker, next to stock Faust, Quix Streams and plain confluent-kafka in the same run.

``python bench/stream.py [--broker embedded|kafka] [--events N] [--keys K ...] [--json OUT]``. Every contender runs in a process
of its own over the same topic of JSON events, one after the other, in several rounds; medians and ratios are reported.
``--latency`` measures instead how long an event takes to become a pattern at a fixed ``--rate`` (see ``streaming/latency.py``),
``--stage place`` (transition, or region with its union) a worker of that stage alone over what the user stage sends it, its
search included. ``--data FILE --format foursquare`` replays a file (any that ``chronotope replay`` reads) at full rate instead
of synthetic events.

- ``user``: our worker with the user stage alone: decode, validate, profile, transitions, periods, batches for the other stages
- ``all stages``: the same worker with all stages on its one core
- ``update``: our engine with decode, validation, guard and one count per user as its state
- ``stock faust``: an agent that decodes and counts per user in a table
- ``quix``: a stateful update per event; ``confluent``: consume, decode with msgspec, count in a dict
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table
from streaming.child import Child
from streaming.contenders import CONTENDERS
from streaming.internal import BEHIND, empty_internal, fill_internal
from streaming.latency import measure as measure_latency

from chronotope.datasets.readers import read_events
from chronotope.kafka.topics import apply_topics
from chronotope.local.apache_kafka import ApacheKafka
from chronotope.local.embedded import EmbeddedBroker
from schemas import json_wire
from schemas.events import BehaviorEvent
from schemas.settings import KafkaSettings
from schemas.topics import EVENTS

ROUNDS = 3
# Contenders that take in the events themselves.
WHOLE = [name for name in CONTENDERS if name not in BEHIND]
START_MS = 1_333_238_400_000
WARM_UP_S = 5.0


def events_of(keys: int, events: int, places: int = 5_000) -> Any:
    """(key, value) of synthetic check-ins: ``keys`` users, ``places`` around a city, one per 600 ms of event time."""
    import numpy as np

    rng = np.random.default_rng(1)
    users, items = rng.integers(0, keys, events), rng.zipf(1.3, events) % places
    positions = rng.uniform([40.5, -74.2], [40.9, -73.7], (places, 2))
    jitter = rng.normal(0, 2e-4, (events, 2))
    for at in range(events):
        user, item = f"user-{users[at]}", int(items[at])
        lat, lon = (positions[item] + jitter[at]).tolist()
        yield user.encode(), json_wire.encode(
            BehaviorEvent(
                event_id=f"bench-{at}", user_id=user, item_id=f"place-{item}", action="checkin", lat=lat, lon=lon,
                event_time_ms=START_MS + at * 600, context={"category": f"kind-{item % 97}"},
            )
        )  # fmt: skip


def replayed(options: argparse.Namespace, keys: int) -> Iterable[tuple[bytes, bytes]]:
    """(key, value) of the events to take in: those of the file, if there is one."""
    if options.data is None:
        return events_of(keys, options.events)  # type: ignore[no-any-return]
    found = read_events(options.data, options.format)
    return ((event.user_id.encode(), json_wire.encode(event)) for event in found)


def fill(kafka: KafkaSettings, events: Iterable[tuple[bytes, bytes]]) -> None:
    """Write the events."""
    producer = Producer(kafka.confluent_producer() | {"queue.buffering.max.messages": 500_000, "log_level": 0})
    for key, value in events:
        while True:
            try:
                producer.produce(EVENTS.name, value, key)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush(120)


# Slow contenders are measured on their first events.
SHARE = {"stock faust": 0.1, "quix": 0.3}


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row per contender and number of keys."""
    rows = []
    for keys, kafka, folder in _clusters(options):
        fill(kafka, replayed(options, keys))
        speeds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in options.only or WHOLE}
        for number in range(options.rounds):
            for name, found in speeds.items():
                events, slug = int(options.events * SHARE.get(name, 1.0)), name.replace(" ", "-")
                env = _environment(kafka, f"bench-{slug}-{number}", events)
                empty_internal(kafka)
                found.append(Child(name, env, folder / f"{slug}.log").run(events, options.timeout))
        rows += [_row(name, keys, found) for name, found in speeds.items()]
    return rows


def measure_stage(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row per number of keys: one of the stages behind the user stage, whose topic holds what came of the events."""
    rows = []
    for keys, kafka, folder in _clusters(options):
        found = []
        for number in range(options.rounds):
            empty_internal(kafka)
            sent = fill_internal(kafka, options.stage, replayed(options, keys))
            env = _environment(kafka, f"bench-{options.stage}-{number}", sent)
            speed, cpu, rss = Child(options.stage, env, folder / f"{options.stage}.log").run(sent, options.timeout)
            found.append((speed * options.events / sent, cpu * sent / options.events, rss))
        rows.append(_row(options.stage, keys, found))
    return rows


def measure_patterns(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of latencies, one run per number of keys, with one worker of all stages."""
    rows = []
    for keys, kafka, folder in _clusters(options):
        child = Child("all stages", _environment(kafka, "bench-latency", 2**62), folder / "worker.log")
        try:
            events = list(events_of(keys, int(options.rate * (WARM_UP_S + options.seconds))))
            found = measure_latency(kafka, events, options.rate, WARM_UP_S, child.wait_until_ready)
            rows += [{"keys": keys} | row for row in found]
        finally:
            child.stop()
    return rows


def _clusters(options: argparse.Namespace) -> Iterator[tuple[int, KafkaSettings, Path]]:
    """For each number of keys a broker of its own with the topics, and a folder; both end with the iteration's step."""
    with tempfile.TemporaryDirectory(prefix="chronotope-bench-") as folder:
        for keys in options.keys:
            run_dir = Path(folder) / str(keys)
            run_dir.mkdir()
            with EmbeddedBroker(run_dir) if options.broker == "embedded" else ApacheKafka(run_dir) as broker:
                kafka = KafkaSettings(bootstrap=broker.bootstrap)
                apply_topics(kafka)
                yield keys, kafka, run_dir


def _environment(kafka: KafkaSettings, app_id: str, events: int) -> dict[str, str]:
    return {
        "CHRONOTOPE_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "CHRONOTOPE_BENCH_ID": app_id,
        "CHRONOTOPE_BENCH_EVENTS": str(events),
    }


def show_patterns(rows: list[dict[str, Any]], broker: str) -> None:
    """A table of latencies."""
    table = Table("pattern", "keys", "events/s", "patterns", "p50 ms", "p99 ms", "max ms", title=broker)
    for row in rows:
        table.add_row(
            row["pattern"], f"{row['keys']:,}", f"{row['rate']:,.0f}", f"{row['patterns']:,}", f"{row['p50_ms']:.0f}",
            f"{row['p99_ms']:.0f}", f"{row['max_ms']:.0f}",
        )  # fmt: skip
    Console().print(table)


def _row(name: str, keys: int, found: list[tuple[float, float, float]]) -> dict[str, Any]:
    speeds = [speed for speed, _, _ in found]
    return {
        "contender": name, "keys": keys, "events_per_s": statistics.median(speeds), "runs": speeds,
        "cpu_us_per_event": statistics.median(cpu for _, cpu, _ in found), "rss_mb": max(rss for _, _, rss in found),
    }  # fmt: skip


def show(rows: list[dict[str, Any]], broker: str) -> None:
    """A table with ratios to the peers of the same run."""
    table = Table(
        "contender", "keys", "events/s", "of stock faust", "of quix", "of confluent", "CPU us/event", "peak RSS MB",
        title=broker,
    )  # fmt: skip
    for row in rows:
        peers = {other["contender"]: other["events_per_s"] for other in rows if other["keys"] == row["keys"]}
        ratios = [
            f"{row['events_per_s'] / peers[peer]:.2f}" if peer in peers else "-"
            for peer in ("stock faust", "quix", "confluent")
        ]
        table.add_row(
            row["contender"], f"{row['keys']:,}", f"{row['events_per_s']:,.0f}", *ratios,
            f"{row['cpu_us_per_event']:.1f}", f"{row['rss_mb']:.0f}",
        )  # fmt: skip
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--broker", choices=("embedded", "kafka"), default="embedded")
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--keys", type=int, nargs="+", default=[1_000, 100_000])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", nargs="+", choices=WHOLE)
    parser.add_argument("--stage", choices=BEHIND, help="measure a stage behind the user stage alone")
    parser.add_argument("--timeout", type=float, default=120.0)
    parser.add_argument("--latency", action="store_true", help="measure from event to pattern at a fixed rate")
    parser.add_argument("--rate", type=float, default=5_000.0, help="events per second of --latency")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of --latency, after its warm-up")
    parser.add_argument("--data", type=Path, help="a file to replay, whole, instead of synthetic events")
    parser.add_argument("--format", default="foursquare", help="of the file")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.data is not None:
        if options.latency:
            parser.error("--latency sends synthetic events: it tells them apart by their times")
        keys = [key for key, _ in replayed(options, 0)]
        options.events, options.keys = len(keys), [len(set(keys))]
    measured = measure_patterns if options.latency else measure_stage if options.stage else measure
    rows = measured(options)
    (show_patterns if options.latency else show)(rows, options.broker)
    if options.json:
        options.json.write_text(
            json.dumps({"broker": options.broker, "events": options.events, "rows": rows}, indent=2)
        )


if __name__ == "__main__":
    main()
