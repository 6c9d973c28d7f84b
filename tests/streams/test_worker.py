"""A stream worker on a real broker: what it keeps when it is killed, what it does with bad input, how it ends."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from registry_double import SCHEMA_ID, running_registry
from workload import BROKEN, workload

from chronotope.kafka.reading import ends_of, read_to
from chronotope.local.embedded import EmbeddedBroker
from schemas import json_wire
from schemas.avro_wire import frame
from schemas.events import BehaviorEvent
from schemas.patterns import TransitionUpdate
from schemas.topics import EVENTS, REJECTED, TRANSITION

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


def test_a_worker_killed_in_mid_stream_ends_with_the_tables_of_an_undisturbed_run(cluster: Cluster) -> None:
    cluster.produce(workload(seed=11, events=16_000))
    worker = cluster.workers[0].start()
    wait_until(lambda: worker.absorbed() >= 4_000)
    worker.kill()
    worker.start()
    wait_until(lambda: worker.absorbed() >= 2_000)
    worker.kill()
    worker.start()
    cluster.quiesce()
    assert worker.stop() == 0
    code, report = cluster.verdict()
    assert code == 0, report


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
