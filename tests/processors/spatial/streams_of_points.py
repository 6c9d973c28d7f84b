"""Streams of points that have broken density clusterers before, and the comparison with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import DBSCAN

from processors.spatial import EARTH_RADIUS_M, SlidingDBSCAN

Floats = NDArray[np.float64]
PLACES = [
    (0.0, 0.0),
    (40.7, -74.0),
    (-33.9, 179.7),
    (59.8, -180.0),
    (83.7, 10.0),
    (-84.2, 179.9),
    (89.7, 0.0),
    (-89.9, 50.0),
]
UNIT_DEG = 0.8  # the side of the unit square on the sphere


def gaussians(n: int, rng: np.random.Generator) -> Floats:
    centre, spread, which = rng.random((60, 2)), rng.uniform(0.01, 0.03, 60), rng.integers(0, 60, n)
    points = centre[which] + rng.normal(size=(n, 2)) * spread[which][:, None]
    noise = rng.random(n) < 0.3
    points[noise] = rng.random((int(noise.sum()), 2))
    return points


def uniform(n: int, rng: np.random.Generator) -> Floats:
    return rng.random((n, 2))


def lattice(n: int, rng: np.random.Generator) -> Floats:
    """Many coincident points, many pairs at exactly eps."""
    return np.round(gaussians(n, rng), 2)


def one_venue(n: int, rng: np.random.Generator) -> Floats:
    points = gaussians(n, rng)
    points[rng.random(n) < 0.4] = points[0]
    return points


def one_cell(n: int, rng: np.random.Generator) -> Floats:
    return 0.5 + rng.normal(size=(n, 2)) * 0.004


def moving_crowd(n: int, rng: np.random.Generator) -> Floats:
    turn = np.linspace(0, 4 * np.pi, n)
    points = 0.5 + 0.3 * np.stack([np.sin(turn), np.cos(turn)], axis=1) + rng.normal(size=(n, 2)) * 0.02
    noise = rng.random(n) < 0.1
    points[noise] = rng.random((int(noise.sum()), 2))
    return points


def bridge(n: int, rng: np.random.Generator) -> Floats:
    """Two crowds and a thin line between them that keeps breaking."""
    side = np.where(rng.random((n, 1)) < 0.5, 0.2, 0.8)
    points = np.hstack([np.full((n, 1), 0.5), side]) + rng.normal(size=(n, 2)) * 0.05
    line = rng.random(n) < 0.15
    points[line] = np.stack([np.full(int(line.sum()), 0.5), rng.uniform(0.2, 0.8, int(line.sum()))], axis=1)
    return points


KINDS = {
    "gaussians": gaussians, "uniform": uniform, "lattice": lattice, "one_venue": one_venue,
    "one_cell": one_cell, "moving_crowd": moving_crowd, "bridge": bridge,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A stream and the settings to cluster it with."""

    lat: Floats
    lon: Floats
    time_s: Floats
    eps: float
    min_samples: int
    window_s: float
    metric: str


def make_case(rng: np.random.Generator, kind: str, metric: str, n: int) -> Case:
    """A random case; times are a mixture of even, uneven and out of order."""
    points = KINDS[kind](n, rng)
    eps = float(rng.choice([0.01, 0.02, 0.03, 0.05, 0.1]))
    window_s = float(rng.choice([100, 300, 800, 1500]))
    time_s = np.arange(n, dtype=float)
    order = rng.integers(0, 3)
    if order == 1:
        time_s = np.sort(rng.uniform(0, n, n))
    elif order == 2:
        time_s += rng.normal(size=n) * window_s / 6
    lat, lon = points[:, 0], points[:, 1]
    if metric == "haversine":
        lat0, lon0 = PLACES[rng.integers(0, len(PLACES))]
        lat = np.clip(lat0 + lat * UNIT_DEG - UNIT_DEG / 2, -90, 90)
        stretch = 1 / max(0.004, np.cos(np.radians(lat0)))
        lon = (lon0 + (lon - 0.5) * UNIT_DEG * stretch + 180) % 360 - 180
        eps *= UNIT_DEG * np.pi / 180 * EARTH_RADIUS_M
        if kind == "lattice":  # ties along meridians
            lat, lon = np.round(lat, 3), np.round(lon, 3)
    return Case(lat, lon, time_s, eps, int(rng.choice([1, 2, 3, 4, 8, 30])), window_s, metric)


def replay(case: Case, rng: np.random.Generator, prefixes: int) -> list[str]:
    """Feed the stream in batches of random size; what differs from scikit-learn at random prefixes."""
    n = len(case.lat)
    dbscan = SlidingDBSCAN(case.eps, case.min_samples, case.window_s, case.metric)  # type: ignore[arg-type]
    taken = np.zeros(n, bool)
    stops = set(rng.integers(n // 10, n + 1, prefixes).tolist())
    at, wrong = 0, []
    while at < n:
        stop = min([n, at + int(rng.choice([1, 7, 60, 400, 1000])), *(s for s in stops if s > at)])
        batch = np.arange(at, stop)
        batch = batch[case.time_s[batch] > dbscan.now_s - case.window_s]
        dbscan.update(case.time_s[batch], case.lat[batch], case.lon[batch], batch)
        taken[batch] = True
        at = stop
        if at in stops:
            difference = differs(case, dbscan, taken)
            if difference:
                wrong.append(f"{difference} after {at}")
    return wrong


def differs(case: Case, dbscan: SlidingDBSCAN, taken: NDArray[np.bool_]) -> str:
    """How the snapshot differs from scikit-learn's DBSCAN of the live window; empty if it does not."""
    ids, labels, core = dbscan.snapshot()
    live = np.flatnonzero(taken & (case.time_s > dbscan.now_s - case.window_s))
    if not np.array_equal(np.sort(ids), live):
        return "the window"
    return differs_from_sklearn(case, ids, labels, core)


def differs_from_sklearn(case: Case, ids: NDArray[np.int64], labels: NDArray[np.int64], core: NDArray[np.bool_]) -> str:
    """How labels of the points `ids` differ from scikit-learn's DBSCAN of them."""
    if len(ids) == 0:
        return ""
    points = np.stack([case.lat[ids], case.lon[ids]], axis=1)
    eps = case.eps
    if case.metric == "haversine":
        points, eps = np.radians(points), case.eps / EARTH_RADIUS_M
    oracle = DBSCAN(eps=eps, min_samples=case.min_samples, metric=case.metric, algorithm="ball_tree").fit(points)
    want = np.zeros(len(ids), bool)
    want[oracle.core_sample_indices_] = True
    if (core != want).any():
        return f"{(core != want).sum()} core points"
    pairs = set(zip(oracle.labels_[core].tolist(), labels[core].tolist()))
    if not len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}):
        return "the partition"
    if ((oracle.labels_ < 0) != (labels < 0)).any():
        return "the noise"
    return wrong_border(points, labels, core, case.metric)


def wrong_border(points: Floats, labels: NDArray[np.int64], core: NDArray[np.bool_], metric: str) -> str:
    """A border point must have the label of a nearest core point."""
    border = np.flatnonzero(~core & (labels >= 0))[:200]
    if len(border) == 0:
        return ""
    a, b = points[border][:, None, :], points[core][None, :, :]
    if metric == "haversine":
        gap = np.sin((a[..., 0] - b[..., 0]) / 2) ** 2
        gap = gap + np.cos(a[..., 0]) * np.cos(b[..., 0]) * np.sin((a[..., 1] - b[..., 1]) / 2) ** 2
    else:
        gap = ((a - b) ** 2).sum(axis=-1)
    nearest = gap <= gap.min(axis=1, keepdims=True) * (1 + 1e-9)
    admissible = (nearest & (labels[core][None, :] == labels[border][:, None])).any(axis=1)
    return "" if admissible.all() else f"{(~admissible).sum()} border points"
