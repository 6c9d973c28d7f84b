"""Sliding-window DBSCAN against its peers and against the counting floor.

    python bench/spatial.py --json spatial.json          # all tables, a few minutes
    python bench/spatial.py --only throughput,latency    # some of them
    python bench/spatial.py --exactness 2000             # random prefixes compared with scikit-learn, nothing else

Throughput is the median over interleaved runs: a batch of ours, then the same batch of the floors, and so on, so that a
disturbance of the machine meets all. The floors (bench/spatial_floor.py) only count neighbours: the grid floor inserts
and expires in a dense grid itself, the ideal floor knows every point's place in memory in advance. The peers
(bench/spatial_peers.py) get the same points; those that are not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests" / "processors" / "spatial")]

from spatial_data import DATA, MIN_SAMPLES, eps_for, stream, timed  # noqa: E402
from spatial_floor import CountingFloor, GridCountingFloor  # noqa: E402
from spatial_peers import cost_of_one, rates, strides  # noqa: E402
from streams_of_points import KINDS, make_case, replay  # noqa: E402

from processors.spatial import EARTH_RADIUS_M, SlidingDBSCAN  # noqa: E402

CONSOLE = Console(width=140)


class Ours:
    """Feeds a stream one batch after the other, one event a second."""

    def __init__(
        self, lat: Any, lon: Any, eps: float, window: int, metric: str, min_samples: int = MIN_SAMPLES
    ) -> None:
        self.lat, self.lon, self.at = lat, lon, 0
        self.time_s, self.ids = np.arange(len(lat), dtype=np.float64), np.arange(len(lat))
        self.dbscan = SlidingDBSCAN(eps, min_samples, float(window), metric)  # type: ignore[arg-type]

    def run(self, n: int) -> None:
        part = slice(self.at, self.at + n)
        self.dbscan.update(self.time_s[part], self.lat[part], self.lon[part], self.ids[part])
        self.at += n


def throughput(quick: bool) -> Iterator[dict[str, Any]]:
    """Events per second next to the floor, by kind, window, batch and metric."""
    cases = [("gaussians", w, b, "euclidean") for w in (10_000, 50_000, 100_000) for b in (100, 1000)]
    cases += [("gaussians", 100_000, 5000, "euclidean"), ("gaussians", 100_000, 1000, "haversine")]
    cases += [(kind, 100_000, 1000, "euclidean") for kind in ("uniform", "one_venue", "one_cell", "moving_crowd")]
    cases += [(kind, 20_000, 1000, "haversine") for kind in ("geolife", "earthquakes") if DATA.exists()]
    for kind, window, batch, metric in cases[:2] if quick else cases:
        rng = np.random.default_rng(1)
        rounds = max(20, min(200, 60_000 // batch))
        lat, lon = stream(kind, window + rounds * batch, metric, rng)
        usual = stream("gaussians", window, metric, rng) if kind.startswith("one_") else (lat[:window], lon[:window])
        eps = 0.05 if kind == "one_cell" else eps_for(*usual, metric, rng)
        ours = Ours(lat, lon, eps, window, metric)
        floors = planar_floors(lat, lon, eps, window, metric)
        for _ in range(window // 1000):
            ours.run(1000)
        for floor in floors:
            floor.run(window)
        runs = [[timed(each.run, batch) for each in (ours, *floors)] for _ in range(rounds)]
        mine, *theirs = np.array(runs).T
        against = dict(zip(("grid floor", "ideal floor"), theirs))
        yield {
            "data": kind, "metric": metric, "window": window, "batch": batch, "events/s": batch / np.median(mine),
            **{f"{name} events/s": batch / np.median(seconds) for name, seconds in against.items()},
            **{f"share of {name}": float(np.median(seconds / mine)) for name, seconds in against.items()},
            "bytes/point": ours.dbscan.nbytes / len(ours.dbscan), "clusters": ours.dbscan.n_clusters,
        }  # fmt: skip


def growth(quick: bool) -> Iterator[dict[str, Any]]:
    """How the cost of an event grows with the window at 20 neighbours, and with the neighbours at a window of 50,000."""
    cases = [(w, 20) for w in (5000, 20_000, 50_000, 100_000, 200_000, 400_000)]
    cases += [(50_000, k) for k in (2, 5, 10, 40, 80, 160, 320)]
    for window, neighbours in cases[:1] if quick else cases:
        rng = np.random.default_rng(6)
        lat, lon = stream("gaussians", window + 40_000, "euclidean", rng)
        eps = eps_for(lat[:window], lon[:window], "euclidean", rng, neighbours)
        ours, floor = Ours(lat, lon, eps, window, "euclidean"), GridCountingFloor(lat, lon, eps, window)
        for _ in range(window // 1000):
            ours.run(1000)
        floor.run(window)
        mine, theirs = np.array([[timed(each.run, 1000) for each in (ours, floor)] for _ in range(40)]).T
        yield {
            "window": window, "neighbours": neighbours, "events/s": 1000 / np.median(mine),
            "share of grid floor": float(np.median(theirs / mine)),
            "bytes/point": ours.dbscan.nbytes / len(ours.dbscan), "clusters": ours.dbscan.n_clusters,
        }  # fmt: skip


def planar_floors(
    lat: Any, lon: Any, eps: float, window: int, metric: str
) -> tuple[()] | tuple[GridCountingFloor, CountingFloor]:
    """The floors on the plane, or on an equirectangular map; none where their box would be too large."""
    if metric == "haversine":
        eps /= np.radians(1) * EARTH_RADIUS_M
        lon = lon * np.cos(np.radians(np.median(lat)))
    if np.ptp(lat) * np.ptp(lon) / (eps * eps / 2) > 2e7:
        return ()
    return GridCountingFloor(lat, lon, eps, window), CountingFloor(lat, lon, eps, window)


def single_events(make: Callable[[], Ours], events: int, replays: int) -> Any:
    """Microseconds of each of `events` updates with one event: the least over replays of the same stream.

    What the method costs at an event comes back in every replay; what other processes cost does not.
    """
    runs = []
    for _ in range(replays):
        ours = make()
        for _ in range(int(ours.dbscan.settings.window_s) // 1000):
            ours.run(1000)
        runs.append([timed(ours.run, 1) * 1e6 for _ in range(events)])
    return np.min(runs, axis=0)


def latency(quick: bool) -> Iterator[dict[str, Any]]:
    """Time of an update with one event, call overhead included."""
    for metric, window in (("euclidean", 10_000), ("euclidean", 100_000), ("haversine", 100_000))[: 1 if quick else 3]:
        rng = np.random.default_rng(3)
        lat, lon = stream("gaussians", window + 20_000, metric, rng)
        eps = eps_for(lat[:window], lon[:window], metric, rng)
        micro = single_events(partial(Ours, lat, lon, eps, window, metric), 20_000, 2 if quick else 5)
        quantiles = np.quantile(micro, (0.5, 0.99, 0.999, 1.0)).tolist()
        yield {"metric": metric, "window": window, **dict(zip(("p50 us", "p99 us", "p99.9 us", "max us"), quantiles))}


def worst(quick: bool) -> Iterator[dict[str, Any]]:
    """Streams built to be expensive; cost per event relative to the ordinary stream in batches of one."""
    window = 5000 if quick else 20_000
    base = None
    for name, (lat, lon, eps, min_samples) in adversaries(window).items():
        micro = single_events(partial(Ours, lat, lon, eps, window, "euclidean", min_samples), len(lat) - window, 3)
        base = np.median(micro) if base is None else base
        p999, most = np.quantile(micro, (0.999, 1.0))
        yield {
            "stream": name, "p50 us": np.median(micro), "mean us": micro.mean(), "mean / ordinary p50": micro.mean() / base,
            "p99.9 us": p999, "max us": most,
        }  # fmt: skip


def adversaries(window: int) -> dict[str, tuple[Any, Any, float, int]]:
    """name -> (lat, lon, eps, min_samples), half a window longer than the window."""
    rng = np.random.default_rng(4)
    n = window * 3 // 2
    lat, lon = stream("gaussians", n, "euclidean", rng)
    eps = eps_for(lat[:window], lon[:window], "euclidean", rng)
    site = np.where(rng.random((n, 1)) < 0.5, 0.5, rng.random((n, 2)))
    side = np.where(rng.random(n) < 0.5, 0.25, 0.75)
    crowd = rng.normal(size=(n, 2)) * 0.06 + np.stack([side, np.full(n, 0.5)], axis=1)
    on_bridge = np.arange(n) % 40 == 0
    crowd[on_bridge] = np.stack([rng.uniform(0.3, 0.7, on_bridge.sum()), np.full(on_bridge.sum(), 0.5)], axis=1)
    turn = rng.uniform(0, 2 * np.pi, n)
    ring = 0.5 + 0.45 * np.stack([np.sin(turn), np.cos(turn)], axis=1)
    ring_eps = 0.9 * np.pi * 0.45 / window * 12
    # two crowded cells more than eps apart but for one pair, which dies and comes back
    gap = np.where(rng.random((n, 1)) < 0.5, 0.0, 1.04)
    pair = np.hstack([gap, np.zeros((n, 1))]) + rng.uniform(-0.01, 0.01, (n, 2))
    close = np.arange(n) % (window // 8) == 0
    pair[close, 0] = np.where(pair[close, 0] > 0.5, 1.0, 0.02)
    return {
        "ordinary": (lat, lon, eps, MIN_SAMPLES),
        "all in one cell": (*(0.5 + rng.normal(size=(2, n)) * 0.001), 0.02, MIN_SAMPLES),
        "half on one site": (site[:, 0].copy(), site[:, 1].copy(), eps, MIN_SAMPLES),
        "giant clusters, a bridge that breaks": (crowd[:, 0].copy(), crowd[:, 1].copy(), 0.02, MIN_SAMPLES),
        "two crowded cells, one close pair": (pair[:, 0].copy(), pair[:, 1].copy(), 1.0, MIN_SAMPLES),
        "thin ring, cut everywhere": (ring[:, 0].copy(), ring[:, 1].copy(), ring_eps, 2),
    }


def footprint(quick: bool) -> Iterator[dict[str, Any]]:
    """Memory, saving, restoring and reading a window."""
    for metric in ("euclidean", "haversine"):
        window, rng = 10_000 if quick else 100_000, np.random.default_rng(5)
        lat, lon = stream("gaussians", 2 * window, metric, rng)
        ours = Ours(lat, lon, eps_for(lat[:window], lon[:window], metric, rng), window, metric)
        for _ in range(2 * window // 1000):
            ours.run(1000)
        saved, size = ours.dbscan.to_bytes(), ours.dbscan.nbytes / len(ours.dbscan)
        yield {
            "metric": metric, "points": len(ours.dbscan), "bytes/point": size,
            "bytes/point, wandered": bytes_after_moves(ours, window, metric, rng),
            "saved bytes/point": len(saved) / len(ours.dbscan), "save s": timed(ours.dbscan.to_bytes),
            "restore s": min(timed(SlidingDBSCAN.from_bytes, saved) for _ in range(3)),
            "snapshot ms": 1e3 * min(timed(ours.dbscan.snapshot) for _ in range(3)),
        }  # fmt: skip


def bytes_after_moves(ours: Ours, window: int, metric: str, rng: np.random.Generator) -> float:
    """The most bytes per point while all clusters jump to other places after each of three windows."""
    restored, most = SlidingDBSCAN.from_bytes(ours.dbscan.to_bytes()), 0.0
    for step in range(3 * window // 1000):
        if step % (window // 1000) == 0:
            lat, lon = stream("gaussians", window, metric, rng)
        part = slice(step * 1000 % window, step * 1000 % window + 1000)
        time_s = ours.at + 1000.0 * step + np.arange(1000)
        restored.update(time_s, lat[part], lon[part], time_s.astype(np.int64))
        most = max(most, restored.nbytes / len(restored))
    return most


def exactness(prefixes: int) -> Iterator[dict[str, Any]]:
    """Random prefixes of random streams that differ from scikit-learn."""
    per_stream, seed = 5, int(time.time())
    for kind in KINDS:
        for metric in ("euclidean", "haversine"):
            compared, wrong = 0, []
            while compared < prefixes / (2 * len(KINDS)):
                rng = np.random.default_rng([seed, compared])
                wrong += replay(make_case(rng, kind, metric, 3000), rng, per_stream)
                compared += per_stream
            yield {
                "data": kind,
                "metric": metric,
                "prefixes": compared,
                "different": len(wrong),
                "first": str(wrong[:1]),
            }


TABLES = {
    "throughput": throughput, "growth": growth, "latency": latency, "worst": worst, "footprint": footprint,
    "peers": rates, "strides": strides, "peers-one": cost_of_one,
}  # fmt: skip


def show(name: str, rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for row in rows:
        found.append({key: float(v) if isinstance(v, np.floating) else v for key, v in row.items()})
        CONSOLE.print(f"[dim]{name}: {', '.join(f'{k} {as_text(v)}' for k, v in row.items())}[/dim]", highlight=False)
    table = Table(title=name)
    columns = list(dict.fromkeys(key for row in found for key in row))
    for key in columns:
        table.add_column(key, justify="left" if isinstance(found[0].get(key), str) else "right")
    for row in found:
        table.add_row(*(as_text(row.get(key, "-")) for key in columns))
    CONSOLE.print(table)
    return found


def as_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the tables to this file")
    parser.add_argument("--only", default=",".join(TABLES), help="tables to make, comma-separated")
    parser.add_argument("--quick", action="store_true", help="a few small cases, to see that it runs")
    parser.add_argument("--exactness", type=int, metavar="N", help="only compare N random prefixes with scikit-learn")
    given = parser.parse_args()
    SlidingDBSCAN.warm_up()
    if given.exactness:
        results = {"exactness": show("exactness", exactness(given.exactness))}
    else:
        results = {name: show(name, TABLES[name](given.quick)) for name in given.only.split(",")}
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
