"""A stream worker on a real broker: what it keeps when it is killed, what it does with bad input, how it ends."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from registry_double import SCHEMA_ID, running_registry
from workload import BROKEN, START_MS, workload

from chronotope.cli.state import inspect
from chronotope.kafka.reading import ends_of, read_to
from chronotope.kafka.strongest import strongest
from chronotope.local.embedded import EmbeddedBroker
from schemas import json_wire
from schemas.avro_wire import frame
from schemas.events import BehaviorEvent
from schemas.patterns import ClusterUpdate, TransitionUpdate
from schemas.topics import EVENTS, REJECTED, SPATIAL, TRANSITION

pytestmark = pytest.mark.integration


@pytest.fixture
def cluster(broker: EmbeddedBroker, tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(broker.bootstrap, tmp_path) as running:
        yield running


def wait_until(holds: object, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, "the time is up"
        time.sleep(0.05)


def test_a_worker_killed_in_mid_stream_ends_with_the_tables_of_an_undisturbed_run(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.produce(weekly_visits(weeks=40))
    cluster.produce(workload(seed=11, events=16_000))
    worker = cluster.workers[0].start()
    wait_until(lambda: worker.absorbed() >= 4_000)
    worker.kill()
    worker.start()
    wait_until(lambda: worker.absorbed() >= 2_000)
    worker.kill()
    worker.start()
    cluster.quiesce()
    wait_until(lambda: "periodicity" in strongest(cluster.kafka, 1))
    assert worker.stop() == 0
    code, report = cluster.verdict()
    assert code == 0, report
    assert_lists_the_strongest_patterns(cluster, capsys)


def weekly_visits(weeks: int) -> Iterator[tuple[bytes, bytes]]:
    """Somebody's visits to the choir, one a week, until the workload begins."""
    for week in range(weeks):
        time_ms = START_MS - (weeks - week) * 7 * 86_400_000
        event = BehaviorEvent(
            event_id=f"w{week}", user_id="weekly", item_id="choir", action="view", event_time_ms=time_ms
        )
        yield event.user_id.encode(), json_wire.encode(event)


def assert_lists_the_strongest_patterns(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert inspect(bootstrap=cluster.kafka.bootstrap, json=True) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["partitions"]) == 20
    assert answer["patterns"].keys() >= {"cluster", "move", "periodicity", "profile", "transition"}
    for patterns in answer["patterns"].values():
        ranks = [each["significance"] * (1 + each["stability"]) for each in patterns]
        assert 0 < len(ranks) <= 5 and ranks == sorted(ranks, reverse=True) and ranks[0] > 2
        assert all(each["support"] > 0 for each in patterns)
    assert any("every 7.0 d" in each["pattern"] for each in answer["patterns"]["periodicity"])
    assert any(each["stability"] > 0 for patterns in answer["patterns"].values() for each in patterns)


def test_a_crowd_is_told_within_seconds_though_the_window_is_large_and_no_event_follows(cluster: Cluster) -> None:
    worker = cluster.workers[0].start()
    cluster.produce(visit(at, 40.0 + 0.01 * (at % 60), -74.0 + 0.01 * (at // 60)) for at in range(3_000))
    cluster.quiesce()
    assert crowds(cluster) == []
    cluster.produce(visit(at, 40.75, -73.99) for at in range(3_000, 3_012))
    wait_until(lambda: crowds(cluster), 30.0)
    assert {(round(one.lat, 3), round(one.lon, 3)) for one in crowds(cluster)} == {(40.75, -73.99)}
    assert worker.stop() == 0


def visit(number: int, lat: float, lon: float) -> tuple[bytes, bytes]:
    event = BehaviorEvent(
        event_id=f"v{number}", user_id=f"u{number % 10}", item_id=f"i{number % 3}", action="view", lat=lat, lon=lon,
        event_time_ms=START_MS + 1000 * number,
    )  # fmt: skip
    return event.user_id.encode(), json_wire.encode(event)


def crowds(cluster: Cluster) -> list[ClusterUpdate]:
    decode = json_wire.decoder(SPATIAL).decode
    found = [decode(message.value()) for message in read_to(cluster.kafka, ends_of(cluster.kafka, SPATIAL.name))]
    return [one for one in found if isinstance(one, ClusterUpdate)]


def test_bad_input_is_set_aside_and_a_drained_worker_goes_on_where_it_was(cluster: Cluster) -> None:
    worker = cluster.workers[0].start()
    assert worker.get("/readyz")[0] in (0, 503)
    wait_until(lambda: worker.ready)
    assert worker.get("/healthz")[0] == 200
    events = list(workload(seed=5, events=3_000))
    bad = [(b"u", value) for value in (*BROKEN, b" " * 900_000)]
    cluster.produce([*events[:2_000], *bad])
    cluster.quiesce()
    assert worker.stop() == 0
    cluster.produce(events[2_000:])
    worker.start()
    cluster.quiesce()
    assert worker.absorbed() == 1_000
    assert 'chronotope_stage_events_total{outcome="admitted",stage="region"}' in worker.get("/metrics")[1]
    reasons = {
        dict(message.headers())["reason"]: message
        for message in read_to(cluster.kafka, ends_of(cluster.kafka, REJECTED.name))
    }
    assert {b"not_decodable", b"wrong_fields", b"unknown_action", b"time_before_2000", b"no_value"} <= set(reasons)
    headers = dict(reasons[b"unknown_action"].headers())
    assert headers["stage"] == b"user" and headers["source_topic"] == EVENTS.name.encode()
    decoded = json_wire.decoder(TRANSITION).decode
    updates = [decoded(message.value()) for message in read_to(cluster.kafka, ends_of(cluster.kafka, TRANSITION.name))]
    assert any(isinstance(update, TransitionUpdate) and update.user_id is None for update in updates)
    worker.stop()
    code, report = cluster.verdict()
    assert code == 0, report


def test_two_workers_share_the_partitions_and_one_takes_over_when_the_other_dies(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    with Cluster(broker.bootstrap, tmp_path, workers=2) as cluster:
        first, second = (worker.start() for worker in cluster.workers)
        wait_until(lambda: first.ready and second.ready, 90)
        cluster.produce(workload(seed=21, events=6_000))
        wait_until(lambda: first.absorbed() > 500 and second.absorbed() > 500)
        second.kill()
        cluster.produce(workload(seed=22, events=3_000))
        cluster.quiesce()
        assert first.stop() == 0
        code, report = cluster.verdict()
        assert code == 0, report


def test_without_topics_the_worker_says_what_to_do(broker: EmbeddedBroker, tmp_path: Path) -> None:
    from cluster import WorkerProcess

    worker = WorkerProcess("lost", broker.bootstrap, tmp_path, {}).start()
    wait_until(lambda: not worker.process.running)
    assert worker.process.exit_code == 1
    assert "chronotope topics apply" in worker.process.log_tail()


def test_avro_events_are_absorbed_when_a_registry_is_configured(broker: EmbeddedBroker, tmp_path: Path) -> None:
    events = [
        BehaviorEvent(
            event_id=f"e{at}", user_id=f"u{at % 9}", item_id=f"i{at % 5}", action="view",
            event_time_ms=1_400_000_000_000 + 1000 * at,
        )
        for at in range(600)
    ]  # fmt: skip
    framed = [(event.user_id.encode(), frame(SCHEMA_ID, event)) for event in events]
    unknown = (b"u", frame(SCHEMA_ID + 1, events[0]))
    with running_registry() as url:
        env = {"CHRONOTOPE_REGISTRY_URL": url}
        with Cluster(broker.bootstrap, tmp_path, env=env) as avro:
            avro.produce([*framed, unknown])
            worker = avro.workers[0].start()
            avro.quiesce()
            assert worker.absorbed() == len(framed) + 1
            assert 'chronotope_events_rejected_total{reason="not_decodable"} 1.0' in worker.get("/metrics")[1]
            assert worker.stop() == 0
