"""Lag is told by group and partition, of what a worker owns now, and grows while nothing is fetched."""

from faust.types import TP
from prometheus_client import generate_latest

from model_server.metrics import ServerMetrics
from streams.metrics import WorkerMetrics

BOUNDED = {
    "call", "change", "expert", "group", "k", "kind", "measure", "outcome", "part", "partition", "reason", "route", "sink",
    "stage", "status", "strategy", "table", "topic", "trigger",
}  # fmt: skip


def lag(metrics: WorkerMetrics, partition: int) -> float | None:
    labels = {"group": "shop", "topic": "events", "partition": str(partition)}
    end, committed = (
        metrics.registry.get_sample_value(f"chronotope_{name}_offset", labels) for name in ("end", "committed")
    )
    return None if end is None or committed is None else end - committed


def test_partition_that_went_elsewhere_has_no_lag_here() -> None:
    metrics = WorkerMetrics("shop")
    metrics.on_offsets({TP("events", 0): (5, 9), TP("events", 1): (0, 7)})
    assert (lag(metrics, 0), lag(metrics, 1)) == (4, 7)
    metrics.on_offsets({TP("events", 1): (0, 8)})
    assert (lag(metrics, 0), lag(metrics, 1)) == (None, 8)


def test_labels_are_of_bounded_sets() -> None:
    """No user, item or cluster is a label: their number has no bound, and they are nobody's business."""
    for metrics in (WorkerMetrics(), ServerMetrics()):
        collectors = set(metrics.registry._names_to_collectors.values())
        assert {label for each in collectors for label in getattr(each, "_labelnames", ())} <= BOUNDED
        assert b"user-" not in generate_latest(metrics.registry)
