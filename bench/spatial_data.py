"""The streams that bench/spatial.py feeds, and the radius and the clock it uses."""

from __future__ import annotations

import csv
import gzip
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.neighbors import BallTree

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "processors" / "spatial"))

from streams_of_points import KINDS  # noqa: E402

from processors.spatial import EARTH_RADIUS_M  # noqa: E402

MIN_SAMPLES, NEIGHBOURS = 8, 20
DATA = Path(os.environ.get("CHRONOTOPE_DATA", ROOT.parent / "shared" / "data"))


def eps_for(lat: Any, lon: Any, metric: str, rng: np.random.Generator, neighbours: int = NEIGHBOURS) -> float:
    """The radius at which a point has about `neighbours` neighbours."""
    points = np.stack([lat, lon], axis=1)
    if metric == "haversine":
        points = np.radians(points)
    tree = BallTree(points, metric=metric)
    sample = points[rng.integers(0, len(points), 500)]
    low, high = 1e-9, float(np.ptp(points, axis=0).max())
    for _ in range(30):
        middle = (low * high) ** 0.5
        if tree.query_radius(sample, middle, count_only=True).mean() > neighbours:
            high = middle
        else:
            low = middle
    return middle * (EARTH_RADIUS_M if metric == "haversine" else 1.0)


def stream(kind: str, n: int, metric: str, rng: np.random.Generator) -> tuple[Any, Any]:
    """lat, lon of n events: a made stream, in the unit square or around New York, or a real one, repeated if it is short."""
    if kind in ("geolife", "earthquakes"):
        lat, lon = real(kind)
        at = np.arange(n) % len(lat)
        jitter = 1e-4 * rng.normal(size=(2, n)) * (np.arange(n) >= len(lat))
        return np.clip(lat[at] + jitter[0], -90, 90), lon[at] + jitter[1]
    points = KINDS[kind](n, rng)
    if metric == "haversine":
        return 40.3 + points[:, 0] * 0.8, -74.0 + points[:, 1] * 0.8 / np.cos(np.radians(40.7))
    return points[:, 0].copy(), points[:, 1].copy()


def real(kind: str) -> tuple[Any, Any]:
    folder = DATA / ("geolife_10u" if kind == "geolife" else "usgs_earthquakes")
    path = next(p for p in sorted(folder.iterdir()) if ".csv" in p.name)
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as lines:
        rows = list(csv.DictReader(lines))
    names = ("lat", "lon") if "lat" in rows[0] else ("latitude", "longitude")
    times = np.array([row.get("time_utc") or row["time"] for row in rows])
    order = np.argsort(times, kind="stable")
    lat, lon = (np.array([float(row[name]) for row in rows])[order] for name in names)
    return lat, lon


def timed(action: Callable[..., Any], *arguments: Any) -> float:
    """CPU seconds of this thread: everything measured here runs in one thread and waits for nothing."""
    start = time.thread_time()
    action(*arguments)
    return time.thread_time() - start
