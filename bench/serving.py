"""The model server end to end, and its ranking against plain scoring loops and ``implicit``.

    python bench/serving.py [latency] [requests] [capacity] [ranking] [--items 5000] [--users 20000] [--rates 100,1000]
                            [--strategy fused|popular] [--preset nano] [--broker embedded|kafka] [--servers 1] [--json OUT]

``latency``   event to recommendation at fixed rates: from the event's Kafka timestamp until a consumer holds the
              recommendation that knows it (an upper bound of "in Kafka"), and as the server's own histogram has it.
``requests``  look-ups over HTTP for a given time and place, at low load.
``capacity``  users refreshed per second, after an event each (learning included) and by one pattern that concerns all of
              them (no learning), with the server's processor time and memory.
``ranking``   users ranked per second by catalogue size and batch, with what the ranker takes in memory and to be made, against
              a PyTorch full-scoring loop and, where ``implicit`` is installed, its ALS.

The server is the real one (``chronotope serve``) in a process of its own, on the embedded broker (or, with ``--broker kafka``,
on Apache Kafka) and Redis. Of several ``--servers`` each owns its part of the users; learned is by each from its own.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from server_measures.capacity import measure_capacity
from server_measures.latency import measure_latency, measure_requests
from server_measures.ranking import measure_ranking

MEASURES: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
    "latency": measure_latency, "requests": measure_requests, "capacity": measure_capacity, "ranking": measure_ranking,
}  # fmt: skip


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def shown(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "measures", nargs="*", choices=[*MEASURES, []], help="what to measure; all of it if nothing is named"
    )
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--rates", type=numbers, default=[100, 1_000], help="events per second")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of one rate")
    parser.add_argument("--pass-limit-s", type=float, default=60.0, help="longest pass of capacity, complete or not")
    parser.add_argument("--sizes", type=numbers, default=[5_000, 50_000, 1_000_000], help="catalogue sizes to rank")
    parser.add_argument("--batches", type=numbers, default=[1, 64])
    parser.add_argument("--broker", choices=["embedded", "kafka"], default="embedded")
    parser.add_argument(
        "--servers", type=int, default=1, help="how many share the users; look-ups and histograms are of the first"
    )
    parser.add_argument("--strategy", default="fused")
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = {name: MEASURES[name](options) for name in options.measures or MEASURES}
    for name, rows in results.items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        table = Table(*columns, title=f"{name} ({options.strategy})")
        for row in rows:
            table.add_row(*(shown(row.get(column, "")) for column in columns))
        Console().print(table)
    if options.json is not None:
        options.json.write_text(
            json.dumps({"strategy": options.strategy, "preset": options.preset, **results}, indent=1)
        )


if __name__ == "__main__":
    main()
