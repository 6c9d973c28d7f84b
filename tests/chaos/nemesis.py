"""What goes wrong in a chaos run, and when: a schedule that a seed determines."""

import random
import time
from collections.abc import Sequence

import msgspec
from cluster import Cluster

ACTIONS = ("kill", "pause", "leave", "nothing")


class Fault(msgspec.Struct, frozen=True):
    """After ``after_s`` seconds do ``action`` to a worker; what it takes away comes back ``for_s`` seconds later."""

    after_s: float
    action: str
    worker: int
    for_s: float


def schedule(seed: int, faults: int, workers: int) -> list[Fault]:
    """The faults of a run: kills, pauses (beyond the session timeout or within it) and workers that leave and come back."""
    rng = random.Random(seed)
    return [
        Fault(rng.uniform(0.2, 5.0), rng.choice(ACTIONS[:3]), rng.randrange(workers), rng.choice([0.3, 2.0, 9.0]))
        for _ in range(faults)
    ]


def unleash(cluster: Cluster, faults: Sequence[Fault], sleep: float = 1.0) -> None:
    """Let the faults happen, one after the other; every worker is back at the end. ``sleep`` scales all times."""
    for fault in faults:
        time.sleep(fault.after_s * sleep)
        worker = cluster.workers[fault.worker]
        if not worker.process.running:
            worker.start()
        if fault.action == "kill":
            worker.kill()
        elif fault.action == "pause":
            worker.pause()
        else:
            worker.stop()
        time.sleep(fault.for_s * sleep)
        if worker.paused:
            worker.resume()
        if not worker.process.running:
            worker.start()
