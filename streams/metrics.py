"""The worker's metrics, declared once: Prometheus names with the prefix ``chronotope_`` and base units."""

import time
from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from typing import Any

from faust.sensors import Monitor
from faust.types import TP
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from schemas.patterns import Pattern, kind_of
from streams.decoding import REASONS

RECOVERY_SECONDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class WorkerMetrics:
    """Counters of one worker of a consumer ``group``, in a registry of its own."""

    def __init__(self, group: str = "chronotope") -> None:
        self.group = group
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
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
        for reason in REASONS:  # from zero on, or the rate of the first rejected records would be missed
            self.rejected.labels(reason)
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
            "chronotope_committed_offset", "Committed offset.", ["group", "topic", "partition"], **keep
        )
        self.end_offset = Gauge(
            "chronotope_end_offset", "End of a partition that the worker owns.", ["group", "topic", "partition"], **keep
        )
        self.rebalances = Counter("chronotope_rebalances", "Rebalances of the worker's group.", **keep)
        self.state_bytes = Gauge("chronotope_state_snapshot_bytes", "Last snapshot.", ["table", "partition"], **keep)
        self.ready = Gauge("chronotope_ready", "1 while the worker has its partitions and their state.", **keep)
        self.patterns = Counter(
            "chronotope_patterns_published", "Patterns written, by kind and, for crowds, by what happened to them.",
            ["kind", "change"], **keep,
        )  # fmt: skip
        self.changelog_seconds = Histogram(
            "chronotope_changelog_write_seconds", "Time until a batch's input was durable in the stage's changelog.",
            ["stage"], buckets=SECONDS, **keep,
        )  # fmt: skip
        self.log_bytes = Gauge(
            "chronotope_state_log_bytes", "Changelog since the last snapshot.", ["table", "partition"], **keep
        )
        self.state_entries = Gauge(
            "chronotope_state_entries", "What the states of a stage hold, by kind.", ["stage", "kind"], **keep
        )
        self.event_time = Gauge(
            "chronotope_stage_event_timestamp_seconds",
            "Latest event time that a stage has absorbed (Unix time).", ["stage", "partition"], **keep,
        )  # fmt: skip
        self.recovery_seconds = Histogram(
            "chronotope_recovery_seconds", "From the start of a rebalance until every state was live again.",
            buckets=RECOVERY_SECONDS, **keep,
        )  # fmt: skip

    def on_batch(self, stage: str, records: Any, work: Any, compute_s: float, write_s: float) -> None:
        """A batch was absorbed and made durable."""
        self.records.labels(stage).inc(len(records))
        for outcome, number in work.counts.items():
            name, _, reason = outcome.partition(":")
            if reason:
                self.rejected.labels(reason).inc(number)
            else:
                self.events.labels(stage, name).inc(number)
        self.on_written(work.records, work.patterns)
        self.compute_seconds.labels(stage).observe(compute_s)
        self.write_seconds.labels(stage).observe(write_s)
        self.batch_age_seconds.labels(stage).observe(max(0.0, time.time() - records[0].timestamp / 1000.0))

    def on_written(self, records: Iterable[Any], patterns: Iterable[Pattern]) -> None:
        """Records were acknowledged, ``patterns`` among them."""
        for topic, number in Tally(record.topic for record in records).items():
            self.written.labels(topic).inc(number)
        for labels, number in Tally((kind_of(one), getattr(one, "change", "")) for one in patterns).items():
            self.patterns.labels(*labels).inc(number)

    def on_offsets(self, offsets: Mapping[TP, tuple[int, int]]) -> None:
        """Note the committed offset and the end of each partition that the worker owns, and of no others."""
        of = {(self.group, tp.topic, str(tp.partition)): both for tp, both in offsets.items()}
        _replace(self.committed_offset, {labels: committed for labels, (committed, _) in of.items()})
        _replace(self.end_offset, {labels: end for labels, (_, end) in of.items()})

    def on_states(self, tables: Mapping[str, Any]) -> None:
        """Note how large the live states of each stage's table are, and how far their event time has come."""
        logs = [(stage, str(p), extent) for stage, table in tables.items() for p, extent in table.extents.items()]
        states = [(stage, str(p), state) for stage, table in tables.items() for p, state in table.states.items()]
        _replace(self.state_bytes, {(stage, p): extent.snapshot_bytes for stage, p, extent in logs})
        _replace(self.log_bytes, {(stage, p): extent.chunk_bytes for stage, p, extent in logs})
        _replace(
            self.event_time, {(stage, p): s for stage, p, state in states if (s := state.event_time_s) is not None}
        )
        entries: dict[tuple[str, ...], float] = {}
        for stage, _, state in states:
            for kind, number in state.sizes().items():
                entries[stage, kind] = entries.get((stage, kind), 0) + number
        _replace(self.state_entries, entries)


def _replace(gauge: Gauge, values: Mapping[tuple[str, ...], float]) -> None:
    """These values and no others: what a partition that went elsewhere said must not stay."""
    for labels in set(gauge._metrics) - set(values):
        gauge.remove(*labels)
    for labels, value in values.items():
        gauge.labels(*labels).set(value)


class WorkerMonitor(Monitor):
    """Faust's monitor, feeding our metrics; without its per-message bookkeeping."""

    def __init__(self, metrics: WorkerMetrics) -> None:
        super().__init__()
        self.metrics = metrics

    def track_tp_end_offset(self, tp: TP, offset: int) -> None:
        """The end offset of a partition was seen."""
        super().track_tp_end_offset(tp, offset)
        if offset is not None:
            self.metrics.end_offset.labels(self.metrics.group, tp.topic, tp.partition).set(offset)

    def on_tp_commit(self, tp_offsets: dict[TP, int]) -> None:
        """Offsets were committed."""
        super().on_tp_commit(tp_offsets)
        for tp, offset in tp_offsets.items():
            self.metrics.committed_offset.labels(self.metrics.group, tp.topic, tp.partition).set(offset)

    def on_rebalance_start(self, app: Any) -> Any:
        """A rebalance began."""
        self.metrics.rebalances.inc()
        self.metrics.ready.set(0)
        return super().on_rebalance_start(app)

    def on_rebalance_end(self, app: Any, state: Any) -> None:
        """The states of the new assignment are live."""
        super().on_rebalance_end(app, state)
        self.metrics.recovery_seconds.observe(state["latency_end"])
