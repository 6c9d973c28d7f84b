"""The worker's metrics, declared once: Prometheus names with the prefix ``chronotope_`` and base units."""

import time
from typing import Any

from faust.sensors import Monitor
from faust.types import TP
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class WorkerMetrics:
    """Counters of one worker in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        keep: dict[str, Any] = {"registry": self.registry}
        self.records = Counter("chronotope_stage_records", "Records that a stage has absorbed.", ["stage"], **keep)
        self.events = Counter(
            "chronotope_stage_events",
            "Events by what a stage did with them: admitted, late, repeated, stale; or keys it evicted.",
            ["stage", "outcome"], **keep,
        )  # fmt: skip
        self.rejected = Counter(
            "chronotope_events_rejected", "Records written to the rejected topic.", ["reason"], **keep
        )
        self.written = Counter("chronotope_records_written", "Records written, by topic.", ["topic"], **keep)
        self.compute_seconds = Histogram(
            "chronotope_stage_compute_seconds", "Time to absorb one batch.", ["stage"], buckets=SECONDS, **keep
        )
        self.write_seconds = Histogram(
            "chronotope_stage_write_seconds", "Time until one batch was durable.", ["stage"], buckets=SECONDS, **keep
        )
        self.batch_age_seconds = Histogram(
            "chronotope_stage_batch_age_seconds",
            "Time from the oldest record's timestamp to its batch being durable.", ["stage"], buckets=SECONDS, **keep,
        )  # fmt: skip
        self.committed_offset = Gauge(
            "chronotope_committed_offset", "Committed offset.", ["topic", "partition"], **keep
        )
        self.end_offset = Gauge("chronotope_end_offset", "End offset last seen.", ["topic", "partition"], **keep)
        self.rebalances = Counter("chronotope_rebalances", "Rebalances of the worker's group.", **keep)
        self.state_bytes = Gauge("chronotope_state_snapshot_bytes", "Last snapshot.", ["table", "partition"], **keep)
        self.ready = Gauge("chronotope_ready", "1 while the worker has its partitions and their state.", **keep)

    def on_batch(self, stage: str, records: Any, work: Any, compute_s: float, write_s: float) -> None:
        """A batch was absorbed and made durable."""
        self.records.labels(stage).inc(len(records))
        for outcome, number in work.counts.items():
            name, _, reason = outcome.partition(":")
            if reason:
                self.rejected.labels(reason).inc(number)
            elif number:
                self.events.labels(stage, name).inc(number)
        topics: dict[str, int] = {}
        for record in work.records:
            topics[record.topic] = topics.get(record.topic, 0) + 1
        for topic, number in topics.items():
            self.written.labels(topic).inc(number)
        self.compute_seconds.labels(stage).observe(compute_s)
        self.write_seconds.labels(stage).observe(write_s)
        self.batch_age_seconds.labels(stage).observe(max(0.0, time.time() - records[0].timestamp / 1000.0))


class WorkerMonitor(Monitor):
    """Faust's monitor, feeding our metrics; without its per-message bookkeeping."""

    def __init__(self, metrics: WorkerMetrics) -> None:
        super().__init__()
        self.metrics = metrics

    def track_tp_end_offset(self, tp: TP, offset: int) -> None:
        """The end offset of a partition was seen."""
        super().track_tp_end_offset(tp, offset)
        if offset is not None:
            self.metrics.end_offset.labels(tp.topic, tp.partition).set(offset)

    def on_tp_commit(self, tp_offsets: dict[TP, int]) -> None:
        """Offsets were committed."""
        super().on_tp_commit(tp_offsets)
        for tp, offset in tp_offsets.items():
            self.metrics.committed_offset.labels(tp.topic, tp.partition).set(offset)

    def on_rebalance_start(self, app: Any) -> Any:
        """A rebalance began."""
        self.metrics.rebalances.inc()
        self.metrics.ready.set(0)
        return super().on_rebalance_start(app)
