"""Random schedules of faults on real brokers: the verifier must be content after each. ``make chaos`` runs them.

``CHRONOTOPE_CHAOS_SEEDS="1 2 3"`` chooses the schedules, ``CHRONOTOPE_CHAOS_FAULTS`` their length. A seed that fails reproduces
its schedule and its events.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cluster import RECOMMENDATIONS_VERIFIER, VERIFIER, Cluster, Victim
from nemesis import schedule, unleash
from workload import workload

from chronotope.local.apache_kafka import ApacheKafka
from chronotope.local.embedded import EmbeddedRedis

SEEDS = [int(seed) for seed in os.environ.get("CHRONOTOPE_CHAOS_SEEDS", "1 2 3").split()]
FAULTS = int(os.environ.get("CHRONOTOPE_CHAOS_FAULTS", "5"))
EVENTS = 20_000
WORKERS = 2

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.timeout(900)]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_verifier_is_content_after_a_random_schedule_of_faults(any_broker: Any, tmp_path: Path, seed: int) -> None:
    with Cluster(any_broker.bootstrap, tmp_path, workers=WORKERS) as cluster:
        suffer(cluster, {worker.name: worker for worker in cluster.workers}, seed, EVENTS)
        code, report = cluster.verdict()
        assert code == 0, f"seed {seed}: {report}"


@pytest.mark.kafka
@pytest.mark.parametrize("seed", SEEDS)
def test_recommendations_survive_the_loss_of_server_redis_and_broker(
    kafka_broker: ApacheKafka, redis_server: EmbeddedRedis, tmp_path: Path, seed: int
) -> None:
    (broker,) = kafka_broker.brokers
    others = {
        "broker": Victim(broker, lambda: kafka_broker.restart(0)),
        "redis": Victim(redis_server.process, redis_server.start),
    }
    with Cluster(kafka_broker.bootstrap, tmp_path, redis_url=redis_server.url) as cluster:
        suffer(cluster, {service.name: service for service in cluster.services} | others, seed, EVENTS // 4)
        for words, verifier in (((), VERIFIER), (("--redis", redis_server.url), RECOMMENDATIONS_VERIFIER)):
            code, report = cluster.verdict(*words, verifier=verifier)
            assert code == 0, f"seed {seed}: {report}"


def suffer(cluster: Cluster, victims: Mapping[str, Victim], seed: int, events: int) -> None:
    """Produce events while the faults of a seed happen, wait until all is absorbed, and end the services."""
    cluster.start()
    records = list(workload(seed, events))
    half = len(records) // 2
    cluster.produce(records[:half])
    with ThreadPoolExecutor(1) as beside:
        rest = beside.submit(cluster.produce, records[half:])
        unleash(victims, schedule(seed, FAULTS, sorted(victims)), cluster.revive)
        assert rest.result() == len(records) - half  # an event that was refused there is an error here
    cluster.quiesce(300)
    for service in cluster.services:
        service.stop()
