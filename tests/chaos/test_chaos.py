"""Random schedules of faults on real brokers: the verifier must be content after each. ``make chaos`` runs them.

``CHRONOTOPE_CHAOS_SEEDS="1 2 3"`` chooses the schedules, ``CHRONOTOPE_CHAOS_FAULTS`` their length. A seed that fails reproduces
its schedule and its events.
"""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from nemesis import schedule, unleash
from workload import workload

SEEDS = [int(seed) for seed in os.environ.get("CHRONOTOPE_CHAOS_SEEDS", "1 2 3").split()]
FAULTS = int(os.environ.get("CHRONOTOPE_CHAOS_FAULTS", "5"))
EVENTS = 20_000
WORKERS = 2

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.timeout(900)]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_verifier_is_content_after_a_random_schedule_of_faults(any_broker: Any, tmp_path: Path, seed: int) -> None:
    with Cluster(any_broker.bootstrap, tmp_path, workers=WORKERS) as cluster:
        for worker in cluster.workers:
            worker.start()
        events = list(workload(seed, EVENTS))
        half = len(events) // 2
        cluster.produce(events[:half])
        later = threading.Thread(target=cluster.produce, args=(events[half:],))
        later.start()
        unleash(cluster, schedule(seed, FAULTS, WORKERS))
        later.join()
        cluster.quiesce(300)
        for worker in cluster.workers:
            worker.stop()
        code, report = cluster.verdict()
        assert code == 0, f"seed {seed}: {report}"
