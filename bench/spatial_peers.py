"""Others that cluster points as they come, and their tables for bench/spatial.py.

Each takes one event at a time: in goes the new point, out goes the one that leaves the window. The exact ones are incdbscan,
its translation to Rust incdbscan-rs, and scikit-learn, which computes the whole window anew. river's DBSTREAM and DenStream
are approximate, forget by decay and not by a window, and are only asked to learn, never for a label. A peer that is not
installed (``pip install .[bench]``) is left out, and so is one that links neighbours where that would be millions of links.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from sklearn.cluster import DBSCAN
from sklearn.neighbors import BallTree
from spatial_data import DATA, MIN_SAMPLES, eps_for, stream, timed

from processors.spatial import EARTH_RADIUS_M, SlidingDBSCAN

MOST_LINKS = 4_000_000
SPARE = 6000  # events after the window


class Work(NamedTuple):
    """A stream, of which the first `window` points fill the window."""

    points: Any  # (lat, lon) or (y, x) of each, and the same as columns, with a time and an id
    columns: tuple[Any, Any, Any, Any]
    eps: float
    window: int
    metric: str


class Peer(Protocol):
    """A clusterer whose window is full."""

    def slide(self, at: int) -> None:
        """Take in point `at`, and let go the point a window before it."""


class Window:
    """Ours."""

    def __init__(self, work: Work) -> None:
        self.columns = work.columns
        self.dbscan = SlidingDBSCAN(work.eps, MIN_SAMPLES, float(work.window), work.metric)  # type: ignore[arg-type]
        for at in range(0, work.window, 1000):
            self.take(at, 1000)

    def take(self, at: int, n: int) -> None:
        self.dbscan.update(*(column[at : at + n] for column in self.columns))

    def slide(self, at: int) -> None:
        self.take(at, 1)


class Incremental:
    """incdbscan or incdbscan-rs, on the plane."""

    def __init__(self, module: str, work: Work) -> None:
        self.points, eps = on_plane(work)
        self.window = work.window
        self.clusterer = import_module(module).IncrementalDBSCAN(eps=eps, min_pts=MIN_SAMPLES)
        self.clusterer.insert(self.points[: work.window])

    def slide(self, at: int) -> None:
        self.clusterer.insert(self.points[at : at + 1])
        self.clusterer.delete(self.points[at - self.window : at - self.window + 1])


class Recompute:
    """scikit-learn, the whole window anew."""

    def __init__(self, work: Work) -> None:
        self.points, self.window, eps = work.points, work.window, work.eps
        if work.metric == "haversine":
            self.points, eps = np.radians(work.points), eps / EARTH_RADIUS_M
        self.oracle = DBSCAN(eps=eps, min_samples=MIN_SAMPLES, metric=work.metric, algorithm="ball_tree")

    def slide(self, at: int) -> None:
        self.oracle.fit(self.points[at + 1 - self.window : at + 1])


class River:
    """river's DBSTREAM or DenStream, on the plane."""

    def __init__(self, name: str, work: Work) -> None:
        from river import cluster

        self.points, eps = on_plane(work)
        models = {
            "DBSTREAM": lambda: cluster.DBSTREAM(clustering_threshold=eps),
            "DenStream": lambda: cluster.DenStream(epsilon=eps),
        }
        self.model: Any = models[name]()
        for at in range(work.window):
            self.slide(at)

    def slide(self, at: int) -> None:
        y, x = self.points[at].tolist()
        self.model.learn_one({"y": y, "x": x})


PEERS: dict[str, Callable[[Work], Peer]] = {
    "ours": Window,
    "incdbscan": partial(Incremental, "incdbscan"),
    "incdbscan-rs": partial(Incremental, "incdbscan_rs"),
    "scikit-learn": Recompute,
    "river DBSTREAM": partial(River, "DBSTREAM"),
    "river DenStream": partial(River, "DenStream"),
}


def on_plane(work: Work) -> tuple[Any, float]:
    """The points and the radius in a plane: degrees become metres on an equirectangular map."""
    if work.metric == "euclidean":
        return np.ascontiguousarray(work.points), work.eps
    metres = np.radians(work.points) * EARTH_RADIUS_M
    metres[:, 1] *= np.cos(np.radians(np.median(work.points[:, 0])))
    return metres, work.eps


def make_work(kind: str, window: int) -> Work:
    rng = np.random.default_rng(2)
    metric = "haversine" if kind in ("geolife", "earthquakes") else "euclidean"
    lat, lon = stream(kind, window + SPARE, metric, rng)
    usual = stream("gaussians", window, metric, rng) if kind.startswith("one_") else (lat[:window], lon[:window])
    eps = 0.05 if kind == "one_cell" else eps_for(*usual, metric, rng)
    return work_of(lat, lon, eps, window, metric)


def work_of(lat: Any, lon: Any, eps: float, window: int, metric: str) -> Work:
    columns = np.arange(len(lat), dtype=np.float64), lat, lon, np.arange(len(lat))
    return Work(np.stack([lat, lon], axis=1), columns, eps, window, metric)


def can_do(name: str, work: Work) -> bool:
    """Whether a peer is installed and keeps few enough links between neighbours."""
    if not name.startswith("incdbscan"):
        return True
    if find_spec(name.replace("-", "_")) is None:
        return False
    points, eps = on_plane(work)
    distinct = np.unique(points[: work.window], axis=0)
    sample = distinct[:: max(1, len(distinct) // 500)]
    return len(distinct) * BallTree(distinct).query_radius(sample, eps, count_only=True).mean() < MOST_LINKS


def seconds_of_each(peer: Peer, work: Work, events: int, within_s: float) -> Any:
    """CPU seconds of each of up to `events` single events, as many as fit into `within_s`."""
    found: list[float] = []
    while len(found) < events and sum(found) < within_s:
        found.append(timed(peer.slide, work.window + len(found)))
    return np.array(found)


def rates(quick: bool) -> Iterator[dict[str, Any]]:
    """Events per second of every peer, one event per call, by data and window."""
    cases = [("gaussians", w) for w in (2000, 10_000, 50_000)]
    kinds = ("uniform", "one_cell", "one_venue", "moving_crowd", *(("geolife", "earthquakes") if DATA.exists() else ()))
    cases += [(kind, 10_000) for kind in kinds]
    for kind, window in cases[:1] if quick else cases:
        work = make_work(kind, window)
        row: dict[str, Any] = {"data": kind, "window": window}
        for name, make in PEERS.items():
            if can_do(name, work):
                seconds = seconds_of_each(make(work), work, 1000, 2.0)
                row[name] = len(seconds) / seconds.sum()
        yield row


def strides(quick: bool) -> Iterator[dict[str, Any]]:
    """Events per second when the answer is wanted after every stride: ours, and scikit-learn recomputing once a stride."""
    for window in (2000,) if quick else (10_000, 50_000, 100_000):
        work = make_work("gaussians", window)
        anew = min(timed(Recompute(work).slide, window - 1) for _ in range(3))
        for stride in (1, 100, 1000, 5000):
            ours, at = Window(work), window
            seconds = []
            while at + stride <= min(window + SPARE, window + 1000 * stride):
                seconds.append(timed(ours.take, at, stride))
                at += stride
            rate = stride * len(seconds) / sum(seconds)
            yield {
                "window": window,
                "stride": stride,
                "ours": rate,
                "scikit-learn": stride / anew,
                "ratio": rate * anew / stride,
            }


def cost_of_one(quick: bool) -> Iterator[dict[str, Any]]:
    """Microseconds of one event and bytes per point of every peer."""
    work = make_work("gaussians", 2000 if quick else 10_000)
    for name, make in PEERS.items():
        if not can_do(name, work):
            continue
        micro = seconds_of_each(make(work), work, SPARE, 8.0) * 1e6
        quantiles = np.quantile(micro, (0.5, 0.99, 0.999)).tolist()
        yield {
            "peer": name, "window": work.window, "events": len(micro),
            **dict(zip(("p50 us", "p99 us", "p99.9 us"), quantiles)), "max us": micro.max(),
            "bytes/point": bytes_per_point(name, work),
        }  # fmt: skip


def bytes_per_point(name: str, work: Work) -> float:
    """How much a process grows by a full window and a tenth more events, per point of it.

    For ours the larger of that and its own count, which includes memory that it holds and has not written to yet.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(growth_of, (name, work)) / work.window


def growth_of(name: str, work: Work) -> int:
    small = work_of(*work.points[-2000:].T.copy(), work.eps, 1000, work.metric)
    SlidingDBSCAN.warm_up()
    PEERS[name](small).slide(1000)  # what it imports and compiles is no part of its window
    give_back_freed()
    before = resident_bytes()
    peer = PEERS[name](work)
    for at in range(work.window, work.window + (1 if name == "scikit-learn" else work.window // 10)):
        peer.slide(at)
    grown = resident_bytes() - before
    return max(grown, peer.dbscan.nbytes) if isinstance(peer, Window) else grown


def give_back_freed() -> None:
    """Return freed memory to the system (glibc), for a window that reused it would seem smaller than it is."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
