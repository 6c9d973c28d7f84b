"""How far the system itself says it has come: committed offsets, and the services' own counters."""

from collections.abc import Iterable

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from chronotope.kafka.offsets import OffsetReader, Partition
from chronotope.local.services import LocalServices, Service
from schemas.settings import KafkaSettings
from schemas.topics import EVENTS, INTERNAL_TOPICS

INTERNAL = tuple(spec.name for spec in INTERNAL_TOPICS)
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the system: events handled by outcome, and what is still on its way."""

    admitted: int
    repeated: int
    worker_lag: int
    server_lag: int
    refreshes_waiting: int

    @property
    def processed(self) -> int:
        """Events that the workers took in, those that they recognised as repeated included."""
        return self.admitted + self.repeated

    @property
    def settled(self) -> bool:
        """Nothing that was sent is still on its way."""
        return self.worker_lag == 0 and self.server_lag == 0 and self.refreshes_waiting == 0


class Accounting:
    """Reads the workers' and the server's metrics and both groups' committed offsets; a context manager.

    What was there before the demo (on a given cluster) is subtracted: counters start at the first ``look``.
    """

    def __init__(self, settings: KafkaSettings, services: LocalServices, worker_group: str, server_group: str) -> None:
        self._services = services
        self._workers = OffsetReader(settings, worker_group)
        self._server = OffsetReader(settings, server_group)
        self._worker_partitions = self._workers.partitions([EVENTS.name, *INTERNAL])
        self._event_partitions = [each for each in self._worker_partitions if each[0] == EVENTS.name]
        self._before = (0, 0)
        first = self.look()
        self._before = (first.admitted, first.repeated)

    def __enter__(self) -> "Accounting":
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.__exit__()
        self._server.__exit__()

    def look(self) -> Progress:
        """The progress now. Raises ClusterError."""
        ends = self._workers.ends(self._worker_partitions)
        samples = [_samples(worker) for worker in self._services.workers]
        server = _samples(self._services.server)
        return Progress(
            admitted=int(_total(samples, "chronotope_stage_events_total", stage="user", outcome="admitted"))
            - self._before[0],
            repeated=int(_total(samples, "chronotope_stage_events_total", stage="user", outcome="repeated"))
            - self._before[1],
            worker_lag=_lag(ends, self._workers.committed(self._worker_partitions)),
            # Its committed offsets follow the sinks; its own gauge tells what it has not even read.
            server_lag=max(
                _lag({each: ends[each] for each in self._event_partitions}, self._committed_by_server()),
                int(_total([server], "chronotope_server_lag_records")),
            ),
            refreshes_waiting=int(
                _total([server], "chronotope_refreshes_pending")
                + _total([server], "chronotope_unsettled_recommendations")
            ),
        )

    def _committed_by_server(self) -> dict[Partition, int]:
        return self._server.committed(self._event_partitions)


def _lag(ends: dict[Partition, int], committed: dict[Partition, int]) -> int:
    return sum(max(0, end - committed.get(each, 0)) for each, end in ends.items())


def _samples(service: Service) -> Samples:
    text = service.get("/metrics", timeout_s=10.0) or ""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _total(services: Iterable[Samples], name: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(
        value
        for samples in services
        for (each, found), value in samples.items()
        if each == name and wanted <= set(found)
    )
