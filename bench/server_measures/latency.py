"""How long an event, or a request, waits for its recommendation."""

import argparse
import random
import time
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from chronotope.local.services import Service
from server_measures.city import await_, city


def measure_latency(options: argparse.Namespace) -> list[dict[str, float]]:
    rows = []
    with city(options) as around:
        for n in range(500):
            around.event(f"u{n}")
        around.flush()
        time.sleep(3.0)
        for rate in options.rates:
            around.latencies_ms()
            used_s, started_s, sent = around.processor_s(), time.time(), 0
            while (elapsed_s := time.time() - started_s) < options.seconds:
                while sent < rate * elapsed_s:
                    around.event(f"u{random.randrange(1_000)}")
                    sent += 1
                time.sleep(0.001)
            around.flush()
            busy = (around.processor_s() - used_s) / (time.time() - started_s)
            time.sleep(1.0)
            latencies_ms = around.latencies_ms()
            p50, p99 = np.percentile(latencies_ms, [50, 99]) if latencies_ms else (float("nan"),) * 2
            rows.append(
                {"events_per_s": rate, "sent": sent, "recommended": len(latencies_ms), "p50_ms": float(p50),
                 "p99_ms": float(p99), "processor_share": busy}
            )  # fmt: skip
        own = [
            percentile_of_histogram(around.server, "chronotope_freshness_seconds", q, trigger="event")
            for q in (0.5, 0.99)
        ]
        longest = percentile_of_histogram(around.server, "chronotope_server_learn_step_seconds", 1.0)
        rows[-1] |= {
            "confirmed_p50_s_at_most": own[0], "confirmed_p99_s_at_most": own[1], "learn_step_s_at_most": longest,
        }  # fmt: skip
    return rows


def measure_requests(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Look-ups over HTTP that ask for a fresh answer, one at a time, ten per second."""
    with city(options) as around:
        for n in range(500):
            around.event(f"u{n}")
        around.flush()
        await_(lambda: len(around.refreshed) == 500, "everybody has a recommendation")
        time.sleep(3.0)
        took_ms = []
        for n in range(int(10 * options.seconds)):
            started_s = time.perf_counter()
            answer = around.server.get(f"/recommendations/u{n % 500}?lat=40.7&lon=-74&k=10")
            took_ms.append(1000 * (time.perf_counter() - started_s))
            assert answer is not None
            time.sleep(0.1)
    p50, p99 = np.percentile(took_ms, [50, 99])
    return [{"answered": len(took_ms), "p50_ms": float(p50), "p99_ms": float(p99)}]


def percentile_of_histogram(server: Service, name: str, share: float, **labels: str) -> float:
    """The upper bound of the bucket that holds this share of a histogram's observations."""
    buckets = [
        (float(sample.labels["le"]), sample.value)
        for family in text_string_to_metric_families(server.get("/metrics", timeout_s=10.0) or "")
        for sample in family.samples
        if sample.name == f"{name}_bucket" and labels.items() <= sample.labels.items()
    ]
    total = max((count for _, count in buckets), default=0.0)
    return next((bound for bound, count in sorted(buckets) if count >= share * total), float("nan"))
