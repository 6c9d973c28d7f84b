"""Workers of one group on real brokers: what a standby has read beforehand, and what a static name spares the others."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster import Cluster, WorkerProcess
from workload import workload

from chronotope.local.apache_kafka import ApacheKafka
from chronotope.local.embedded import EmbeddedBroker

pytestmark = pytest.mark.integration


def wait_until(holds: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "the time is up"
        time.sleep(0.05)


def test_a_standby_takes_over_with_the_log_that_it_has_read(broker: EmbeddedBroker, tmp_path: Path) -> None:
    env = {"CHRONOTOPE_WORKER_STANDBY_REPLICAS": "1"}
    with Cluster(broker.bootstrap, tmp_path, workers=2, env=env) as cluster:
        first, second = (worker.start() for worker in cluster.workers)
        wait_until(lambda: first.ready and second.ready)
        cluster.produce(workload(seed=21, events=6_000))
        cluster.quiesce()
        assert first.absorbed() > 500 and second.absorbed() > 500
        second.kill()
        cluster.produce(workload(seed=22, events=3_000))
        cluster.quiesce()
        takeovers = re.findall(r'"table": "user".*"records": (\d+), "event": "standby takes over"', first.log())
        assert len(takeovers) == 2 and all(int(records) > 0 for records in takeovers)
        assert first.stop() == 0
        code, report = cluster.verdict()
        assert code == 0, report


@pytest.mark.kafka
def test_a_worker_that_restarts_under_its_static_name_moves_no_partition(
    kafka_broker: ApacheKafka, tmp_path: Path
) -> None:
    with Cluster(kafka_broker.bootstrap, tmp_path, workers=0) as cluster:
        cluster.workers = [
            WorkerProcess(
                name, kafka_broker.bootstrap, tmp_path,
                {"CHRONOTOPE_WORKER_GROUP_INSTANCE_ID": name, "CHRONOTOPE_WORKER_SESSION_TIMEOUT_S": "30"},
            )
            for name in ("north", "south")
        ]  # fmt: skip
        north, south = (worker.start() for worker in cluster.workers)
        wait_until(lambda: north.ready and south.ready)
        cluster.produce(workload(seed=23, events=4_000))
        cluster.quiesce()
        before = north.metric("chronotope_rebalances_total")
        south.kill()
        south.start()
        wait_until(lambda: south.ready)
        cluster.produce(workload(seed=24, events=4_000))
        cluster.quiesce()
        assert north.metric("chronotope_rebalances_total") == before >= 1
        assert south.absorbed() > 500
        assert (north.stop(), south.stop()) == (0, 0)
        code, report = cluster.verdict()
        assert code == 0, report
