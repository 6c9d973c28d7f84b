"""Replaying events into a cluster at a chosen pace, each new item announced to the catalogue before its first event."""

import math
import threading
import time
from collections.abc import Iterable, Iterator

from chronotope.datasets.catalogue import Catalogue
from chronotope.kafka.producer import EventProducer
from schemas.events import BehaviorEvent

SLICE_S = 0.02
LEAST_SLEEP_S = 0.005  # being this far ahead of the pace is not worth a system call per event


class Pace:
    """How fast a replay goes: at most ``rate`` events per second since its first one (``inf``: as fast as it can).

    Raises ValueError for a rate that is not positive.
    """

    def __init__(self, rate: float) -> None:
        if not rate > 0:
            raise ValueError(f"rate must be positive, got {rate:g}")
        self.rate = rate
        self._started: float | None = None
        self._passed = 0

    def next_sleep_s(self) -> float:
        """Count one event and say how long to wait before it."""
        now = time.monotonic()
        if self._started is None:
            self._started = now
        due = self._started + self._passed / self.rate
        self._passed += 1
        return max(0.0, due - now)


class Replay:
    """Sends every event of an iterator; the counters may be read from other threads while ``run`` works.

    ``users`` and ``last_event_time_ms`` say who was sent and how far the event time has come. Items that are ``known`` to the
    cluster are not announced: whoever keeps a catalogue knows more of them than an event tells.
    """

    def __init__(
        self,
        producer: EventProducer,
        events: Iterator[BehaviorEvent],
        rate: float = math.inf,
        known: Iterable[str] = (),
    ) -> None:
        self.producer = producer
        self.users: set[str] = set()
        self.catalogue = Catalogue(known)
        self.last_event_time_ms = 0
        self._events = events
        self._pace = Pace(rate)

    def run(self, stop: threading.Event | None = None, until_s: float = math.inf) -> None:
        """Send until the events or ``until_s`` seconds are over, or ``stop`` is set; then wait for the acknowledgements.

        Raises ClusterError, and whatever the iterator of events raises.
        """
        stop = stop or threading.Event()
        deadline = time.monotonic() + until_s
        for event in self._events:
            wait_s = self._pace.next_sleep_s()
            while wait_s > LEAST_SLEEP_S and not stop.wait(min(wait_s, SLICE_S)):
                self.producer.poll()
                wait_s -= SLICE_S
            if stop.is_set() or time.monotonic() > deadline:
                break
            item = self.catalogue.announce(event)
            if item is not None:
                self.producer.send_item(item)
            self.producer.send_event(event)
            self.users.add(event.user_id)
            self.last_event_time_ms = event.event_time_ms
        self.producer.flush()
