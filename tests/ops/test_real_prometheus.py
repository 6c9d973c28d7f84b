"""A real Prometheus scrapes a running stack: every panel of every dashboard shows data, and a fault makes its alert fire."""

import re
import threading
import time
from collections.abc import Iterator
from itertools import islice

import dashboards
import msgspec
import pytest
from confluent_kafka import Producer
from local_prometheus import LocalPrometheus, missing, targets_of, use_recommendations

from chronotope.kafka.producer import EventProducer
from chronotope.kafka.topics import apply_topics
from chronotope.local.services import LocalServices
from chronotope.local.stack import LocalStack
from chronotope.replay import Replay
from chronotope.simulator import Simulation
from schemas.settings import KafkaSettings
from schemas.topics import EVENTS

CLEAN_EVENTS, EVENTS_PER_S = 1_000, 120
PAUSE_S, GARBAGE_AT_A_TIME = 0.2, 8
RATE_INTERVAL = "15s"
METRIC = re.compile(r"\b(?:chronotope|process)_[a-z0-9_]+")
WITHOUT_GPU = {"chronotope_gpu_memory_bytes"}


class Traffic(threading.Thread):
    """A paced replay; then, among what goes on coming, a producer that has changed its format."""

    def __init__(self, kafka: KafkaSettings) -> None:
        super().__init__(daemon=True)
        self.kafka = kafka
        self.faulty = threading.Event()
        self.ended = threading.Event()

    def run(self) -> None:
        events = Simulation().events()
        Replay(EventProducer(self.kafka), islice(events, CLEAN_EVENTS), EVENTS_PER_S).run(self.ended)
        self.faulty.set()
        producer = Producer(self.kafka.confluent_producer())
        while not self.ended.wait(PAUSE_S):
            for event in islice(events, int(EVENTS_PER_S * PAUSE_S)):
                producer.produce(EVENTS.name, msgspec.json.encode(event), event.user_id)
            for number in range(GARBAGE_AT_A_TIME):
                producer.produce(EVENTS.name, b'{"evnt":"e1"}', f"user-{number}")
            producer.flush(5)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalServices, LocalPrometheus, Traffic]]:
    reason = missing()
    if reason is not None:
        pytest.skip(f"*** NOT TESTED HERE: {reason} ***")
    folder = tmp_path_factory.mktemp("prometheus")
    with LocalStack(folder) as stack:
        apply_topics(stack.kafka)
        with LocalServices(stack) as services:
            services.await_ready()
            with LocalPrometheus(folder / "prometheus", targets_of(services)) as prometheus:
                traffic = Traffic(stack.kafka)
                traffic.start()
                yield services, prometheus, traffic
                traffic.ended.set()
                traffic.join()


def _panels() -> list[tuple[str, str]]:
    return [
        (f"{uid}: {panel.title}", query.replace("$__rate_interval", RATE_INTERVAL))
        for uid, (_, panels) in dashboards.ALL.items()
        for panel in panels
        for query in panel.queries.values()
    ]


def _silent(prometheus: LocalPrometheus) -> list[str]:
    """The queries, with their panels, that have no finite value now; a query that does not parse raises."""
    return [
        f"{title}: {query}"
        for title, query in _panels()
        if not any(series["value"][1] not in ("NaN", "+Inf", "-Inf") for series in prometheus.query(query))
        and not WITHOUT_GPU & set(METRIC.findall(query))
    ]


@pytest.mark.integration
def test_every_panel_shows_data_and_a_changed_format_fires_its_alert(
    running: tuple[LocalServices, LocalPrometheus, Traffic],
) -> None:
    services, prometheus, traffic = running
    assert traffic.faulty.wait(60)
    assert "ChronotopeRejectedSpike" not in prometheus.alerts()
    use_recommendations(services, traffic.kafka)

    deadline = time.monotonic() + 25
    while (silent := _silent(prometheus)) and time.monotonic() < deadline:
        time.sleep(1)
    assert not silent
    named = {name for _, query in _panels() for name in METRIC.findall(query)}
    assert named - WITHOUT_GPU <= prometheus.metric_names()

    states = []
    deadline = time.monotonic() + 100  # the rule waits for a minute
    while "firing" not in states and time.monotonic() < deadline:
        time.sleep(1)
        states.append(prometheus.alerts().get("ChronotopeRejectedSpike", "inactive"))
    assert states[-1] == "firing"
    assert "pending" in states
