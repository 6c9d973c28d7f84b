"""Writes the Grafana dashboards to ops/grafana/dashboards from the panels that are declared here.

Run ``python ops/dashboards.py`` after a change; a test holds the files against this module and every query against the
metrics that the processes export.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

DASHBOARDS = Path(__file__).resolve().parent / "grafana" / "dashboards"
COLUMNS, WIDTH, HEIGHT = 3, 8, 8


class Panel(NamedTuple):
    """One time series panel: title, unit (Grafana's name) and queries by legend."""

    title: str
    unit: str
    queries: dict[str, str]
    description: str = ""


def quantiles(metric: str, by: str = "") -> dict[str, str]:
    """Queries for p50 and p99 of a histogram, apart by one label if given."""
    labels = f"le, {by}" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    return {
        f"p{round(q * 100)}{legend}": f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket[$__rate_interval])))"
        for q in (0.5, 0.99)
    }


def rate(metric: str, by: str) -> dict[str, str]:
    """The rate of a counter by one label."""
    return {f"{{{{{by}}}}}": f"sum by ({by}) (rate({metric}_total[$__rate_interval]))"}


PIPELINE = [
    Panel("Records absorbed", "reqps", rate("chronotope_stage_records", "stage"), "By stage of the workers."),
    Panel(
        "Worker lag",
        "short",
        {"{{topic}}": "sum by (topic) (clamp_min(chronotope_end_offset - chronotope_committed_offset, 0))"},
        "Records between the end of a topic and what is committed.",
    ),
    Panel(
        "Rejected", "reqps", rate("chronotope_events_rejected", "reason"), "By reason; see behavior.event.rejected.v1."
    ),
    Panel(
        "Admitted, late, repeated",
        "reqps",
        {
            "{{outcome}}": "sum by (outcome)"
            ' (rate(chronotope_stage_events_total{stage="user",outcome=~"admitted|late|repeated"}[$__rate_interval]))'
        },
    ),
    Panel("Batch age when durable", "s", quantiles("chronotope_stage_batch_age_seconds", "stage"), "Event to pattern."),
    Panel("Records written", "reqps", rate("chronotope_records_written", "topic")),
    Panel(
        "Event time behind the wall clock",
        "s",
        {"{{stage}}": "time() - max by (stage) (chronotope_stage_event_timestamp_seconds)"},
        "The watermark delay of each stage; in a replay the age of what is replayed.",
    ),
    Panel(
        "Event time behind the newest",
        "s",
        {
            "{{stage}}": "scalar(max(chronotope_stage_event_timestamp_seconds))"
            " - max by (stage) (chronotope_stage_event_timestamp_seconds)"
        },
        "How far each stage is behind the furthest one: meaningful in a replay too.",
    ),
    Panel(
        "Commit progress",
        "reqps",
        {"{{topic}}": "sum by (topic) (rate(chronotope_committed_offset[$__rate_interval]))"},
        "Offsets committed per second.",
    ),
    Panel("Rebalances", "short", {"rebalances": "sum(increase(chronotope_rebalances_total[5m]))"}),
    Panel(
        "Recovery",
        "s",
        {"{{instance}}": "chronotope_recovery_seconds_sum / chronotope_recovery_seconds_count"},
        "Mean time from the start of a rebalance until every state was live.",
    ),
    Panel(
        "Ready", "short", {"{{job}} {{instance}}": "chronotope_ready", "server {{instance}}": "chronotope_server_ready"}
    ),
    Panel("Sinks up", "short", {"{{sink}}": "min by (sink) (chronotope_sink_up)"}),
    Panel("Sink errors", "reqps", rate("chronotope_sink_errors", "sink")),
]
PATTERNS = [
    Panel("Patterns published by kind", "reqps", rate("chronotope_patterns_published", "kind")),
    Panel(
        "What happened to crowds",
        "reqps",
        {"{{change}}": 'sum by (change) (rate(chronotope_patterns_published_total{kind="cluster"}[$__rate_interval]))'},
        "Churn: born, grown, shrunk, moved, merged, split, died.",
    ),
    Panel(
        "Crowds",
        "short",
        {
            "clusters": 'sum(chronotope_state_entries{kind="clusters"})',
            "public": 'sum(chronotope_state_entries{kind="public_clusters"})',
        },
        "Clusters of the live window, and those with enough different people to be published.",
    ),
    Panel(
        "What the stages hold",
        "short",
        {"{{stage}} {{kind}}": 'sum by (stage, kind) (chronotope_state_entries{kind!~".*clusters"})'},
    ),
    Panel(
        "What the model holds", "short", {"{{strategy}} {{kind}}": "max by (strategy, kind) (chronotope_model_entries)"}
    ),
    Panel(
        "Patterns published",
        "reqps",
        {"{{topic}}": 'sum by (topic) (rate(chronotope_records_written_total{topic=~"pattern.*"}[$__rate_interval]))'},
    ),
    Panel(
        "Patterns read by the server",
        "reqps",
        {"{{topic}}": 'sum by (topic) (rate(chronotope_server_records_total{topic=~"pattern.*"}[$__rate_interval]))'},
    ),
    Panel(
        "Refreshes by a pattern or a due time",
        "reqps",
        {
            "{{trigger}}": 'sum by (trigger) (rate(chronotope_refreshes_total{trigger=~"pattern|due"}[$__rate_interval]))'
        },
    ),
]
RECOMMENDATIONS = [
    Panel("Freshness", "s", quantiles("chronotope_freshness_seconds", "trigger"), "Cause to recommendation in Kafka."),
    Panel("Refreshes", "reqps", rate("chronotope_refreshes", "trigger")),
    Panel("Users waiting", "short", {"pending": "sum(chronotope_refreshes_pending)"}),
    Panel(
        "Hit rate, test then train",
        "percentunit",
        {
            "{{strategy}} first {{k}}": "sum by (strategy, k) (rate(chronotope_prequential_hits_total[15m]))"
            " / on (strategy) group_left sum by (strategy) (rate(chronotope_prequential_events_total[15m]))"
        },
    ),
    Panel(
        "Mean reciprocal rank",
        "percentunit",
        {
            "{{strategy}}": "sum by (strategy) (rate(chronotope_prequential_reciprocal_rank_total[15m]))"
            " / sum by (strategy) (rate(chronotope_prequential_events_total[15m]))"
        },
    ),
    Panel("Share of each expert", "percentunit", {"{{expert}}": "avg by (expert) (chronotope_expert_share)"}),
    Panel("Probability of something new", "percentunit", quantiles("chronotope_explore_probability"), "The gate."),
    Panel(
        "Model loss",
        "short",
        {"{{strategy}} {{part}}": "avg by (strategy, part) (chronotope_model_loss)"},
        "Nats on new events, before they are learned.",
    ),
    Panel(
        "Errors of the predictions",
        "short",
        {"{{measure}}": "avg by (measure) (chronotope_prediction_error)"},
        "Of the next behaviour: Brier score, calibration, and coverage of the times minus its nominal level.",
    ),
    Panel(
        "Share of fallbacks",
        "percentunit",
        {
            "{{stage}}": "sum by (stage) (rate(chronotope_fallbacks_total[$__rate_interval]))"
            " / ignoring (stage) group_left sum(rate(chronotope_recommendations_total[$__rate_interval]))"
        },
        "Of the recommendations, those that a fallback filled up or made.",
    ),
    Panel(
        "Events not trained on", "reqps", rate("chronotope_server_untrained_events", "strategy"), "For lack of time."
    ),
    Panel("Feedback", "reqps", rate("chronotope_feedback", "kind")),
]
CAPACITY = [
    Panel("Stage compute time", "s", quantiles("chronotope_stage_compute_seconds", "stage")),
    Panel("Stage write time", "s", quantiles("chronotope_stage_write_seconds", "stage")),
    Panel("Changelog write time", "s", quantiles("chronotope_changelog_write_seconds", "stage")),
    Panel(
        "State in the changelog",
        "bytes",
        {
            "{{table}} snapshot": "sum by (table) (chronotope_state_snapshot_bytes)",
            "{{table}} since": "sum by (table) (chronotope_state_log_bytes)",
        },
        "The last snapshots, and what came after them.",
    ),
    Panel(
        "Evicted",
        "reqps",
        {
            "{{stage}} {{outcome}}": "sum by (stage, outcome)"
            ' (rate(chronotope_stage_events_total{outcome=~"evicted_.*"}[$__rate_interval]))',
            "server users": "sum(rate(chronotope_server_evicted_users_total[$__rate_interval]))",
        },
        "What was let go to stay within the bounds.",
    ),
    Panel("Ranking a batch", "s", quantiles("chronotope_rank_seconds")),
    Panel("Learning from a batch", "s", quantiles("chronotope_server_observe_seconds")),
    Panel("Server lag", "short", {"{{topic}}": "sum by (topic) (chronotope_server_lag_records)"}),
    Panel(
        "Users and items", "short", {"users": "sum(chronotope_server_users)", "items": "max(chronotope_server_items)"}
    ),
    Panel("Write time of Kafka", "s", quantiles("chronotope_kafka_write_seconds"), "Recommendation sent to confirmed."),
    Panel("Write time of Redis", "s", quantiles("chronotope_redis_write_seconds"), "One batch."),
    Panel("HTTP answers", "s", quantiles("chronotope_http_request_seconds", "route")),
    Panel("Memory", "bytes", {"{{job}} {{instance}}": 'process_resident_memory_bytes{job=~"chronotope.*"}'}),
    Panel(
        "Processor",
        "short",
        {"{{job}} {{instance}}": 'rate(process_cpu_seconds_total{job=~"chronotope.*"}[$__rate_interval])'},
        "Cores.",
    ),
    Panel("GPU memory", "bytes", {"{{instance}} {{kind}}": "chronotope_gpu_memory_bytes"}, "Empty without a GPU."),
]
ALL: dict[str, tuple[str, list[Panel]]] = {
    "pipeline": ("Chronotope: pipeline health", PIPELINE),
    "patterns": ("Chronotope: patterns", PATTERNS),
    "recommendations": ("Chronotope: recommendations", RECOMMENDATIONS),
    "capacity": ("Chronotope: capacity", CAPACITY),
}


def dashboard(uid: str, title: str, panels: list[Panel]) -> dict[str, Any]:
    """One dashboard as Grafana provisions it, with a data source variable."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "uid": f"chronotope-{uid}",
        "title": title,
        "tags": ["chronotope"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}]
        },
        "panels": [_panel(number, panel, source) for number, panel in enumerate(panels)],
    }


def _panel(number: int, panel: Panel, source: dict[str, str]) -> dict[str, Any]:
    row, column = divmod(number, COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": source,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 10}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + i), "expr": query, "legendFormat": legend, "datasource": source}
            for i, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def dashboard_files() -> dict[str, str]:
    """The text of every dashboard file by its name."""
    return {f"{uid}.json": json.dumps(dashboard(uid, *declared), indent=2) + "\n" for uid, declared in ALL.items()}


if __name__ == "__main__":
    for name, text in dashboard_files().items():
        (DASHBOARDS / name).write_text(text)
