"""What goes wrong in a chaos run, and when: a schedule that a seed determines."""

import random
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
from cluster import Victim

ACTIONS = ("kill", "pause", "leave")


class Fault(msgspec.Struct, frozen=True):
    """After ``after_s`` seconds do ``action`` to a victim; what it takes away comes back ``for_s`` seconds later."""

    after_s: float
    action: str
    victim: str
    for_s: float


def schedule(seed: int, faults: int, victims: Sequence[str]) -> list[Fault]:
    """The faults of a run: kills, pauses (beyond the session timeout or within it) and processes that leave and come back."""
    rng = random.Random(seed)
    return [
        Fault(rng.uniform(0.2, 5.0), rng.choice(ACTIONS), rng.choice(victims), rng.choice([0.3, 2.0, 9.0]))
        for _ in range(faults)
    ]


def unleash(victims: Mapping[str, Victim], faults: Sequence[Fault], revive: Callable[[], None]) -> None:
    """Let the faults happen, one after the other; every victim is back at the end.

    ``revive`` is called after each of them: a fault may end others than its victim.
    """
    for fault in faults:
        time.sleep(fault.after_s)
        victim = victims[fault.victim]
        if not victim.process.running:
            victim.start()
        if fault.action == "kill":
            victim.kill()
        elif fault.action == "pause":
            victim.pause()
        else:
            victim.stop()
        time.sleep(fault.for_s)
        if victim.paused:
            victim.resume()
        if not victim.process.running:
            victim.start()
        revive()
