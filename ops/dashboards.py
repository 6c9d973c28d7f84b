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
    Panel("Admitted, late, repeated", "reqps", rate("chronotope_stage_events", "outcome")),
    Panel("Batch age when durable", "s", quantiles("chronotope_stage_batch_age_seconds", "stage"), "Event to pattern."),
    Panel("Records written", "reqps", rate("chronotope_records_written", "topic")),
    Panel("Rebalances", "short", {"rebalances": "sum(increase(chronotope_rebalances_total[5m]))"}),
    Panel(
        "Ready", "short", {"{{job}} {{instance}}": "chronotope_ready", "server {{instance}}": "chronotope_server_ready"}
    ),
    Panel("Sinks up", "short", {"{{sink}}": "min by (sink) (chronotope_sink_up)"}),
]
PATTERNS = [
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
    Panel("Fallbacks", "reqps", rate("chronotope_fallbacks", "stage")),
    Panel("Feedback", "reqps", rate("chronotope_feedback", "kind")),
]
CAPACITY = [
    Panel("Stage compute time", "s", quantiles("chronotope_stage_compute_seconds", "stage")),
    Panel("Stage write time", "s", quantiles("chronotope_stage_write_seconds", "stage")),
    Panel("State size", "bytes", {"{{table}}": "sum by (table) (chronotope_state_snapshot_bytes)"}),
    Panel("Ranking a batch", "s", quantiles("chronotope_rank_seconds")),
    Panel("Learning from a batch", "s", quantiles("chronotope_server_observe_seconds")),
    Panel("Server lag", "short", {"{{topic}}": "sum by (topic) (chronotope_server_lag_records)"}),
    Panel(
        "Users and items", "short", {"users": "sum(chronotope_server_users)", "items": "max(chronotope_server_items)"}
    ),
    Panel("HTTP answers", "s", quantiles("chronotope_http_request_seconds", "route")),
    Panel(
        "Memory and processor",
        "short",
        {
            "{{job}} bytes": 'process_resident_memory_bytes{job=~"chronotope.*"}',
            "{{job}} cores": 'rate(process_cpu_seconds_total{job=~"chronotope.*"}[$__rate_interval])',
        },
    ),
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
