"""How many users are ranked per second, by catalogue size and batch, against loops that score the whole catalogue."""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from schemas.events import BehaviorEvent, Item
from server_measures.city import MINUTE_MS, START_MS, resident_mb


def placed_item(n: int, east: float, north: float) -> Item:
    return Item(item_id=f"i{n}", categories=[f"c{n % 50}"], lat=40.6 + north / 5, lon=-74.1 + east / 5)


def measure_ranking(options: argparse.Namespace) -> list[dict[str, Any]]:
    import torch

    torch.set_num_threads(1)
    rows = []
    for size in options.sizes:
        rng = np.random.default_rng(0)
        users = [f"u{n}" for n in range(512)]
        visits = (size * rng.random((len(users), 20)) ** 2).astype(int)
        started_s, before_mb = time.perf_counter(), resident_mb("self")
        contenders = {"ours": our_ranker(options, users, visits, rng.random((size, 2)))}
        made = {"made in s": time.perf_counter() - started_s, "its MB": resident_mb("self") - before_mb}
        contenders |= peers(size, visits)
        for batch in options.batches:
            parts = [list(range(start, min(start + batch, len(users)))) for start in range(0, len(users), batch)]
            speeds: dict[str, list[float]] = {name: [] for name in contenders}
            for _ in range(3):
                for name, rank in contenders.items():
                    speeds[name].append(users_per_s(rank, parts))
            medians = {name: statistics.median(each) for name, each in speeds.items()}
            rows.append({"items": size, "batch": batch} | medians | made)
    return rows


def our_ranker(
    options: argparse.Namespace, users: list[str], visits: "np.ndarray[Any, Any]", places: "np.ndarray[Any, Any]"
) -> Callable[[list[int]], Any]:
    """The served strategy over users with a history each, ranking for their last event."""
    from model_server.ranking import Query
    from model_server.settings import ServerSettings
    from model_server.strategies import build_strategy

    ranker = build_strategy(options.strategy, ServerSettings(model_preset=options.preset)).ranker
    ranker.upsert_items([placed_item(n, east, north) for n, (east, north) in enumerate(places)])
    for step in range(visits.shape[1]):
        ranker.observe(
            [
                BehaviorEvent(
                    event_id="",
                    user_id=user,
                    item_id=f"i{item}",
                    action="checkin",
                    event_time_ms=START_MS + step * 60 * MINUTE_MS,
                )
                for user, item in zip(users, visits[:, step], strict=True)
            ]
        )
    return lambda part: ranker.rank([Query(user_id=users[n], k=10) for n in part])


def peers(size: int, visits: "np.ndarray[Any, Any]") -> dict[str, Callable[[list[int]], Any]]:
    """A vector per user and item, the whole catalogue scored: in a loop, in a batch, and by implicit's ALS, if it is there."""
    import torch

    users, steps = visits.shape
    user_vectors, item_vectors = torch.randn(users, 64), torch.randn(size, 64)
    found: dict[str, Callable[[list[int]], Any]] = {
        "torch loop": lambda part: [torch.topk(item_vectors @ user_vectors[n], 10) for n in part],
        "torch batched": lambda part: torch.topk(user_vectors[part] @ item_vectors.T, 10),
    }
    try:
        from implicit.cpu.als import AlternatingLeastSquares
        from scipy.sparse import csr_matrix
    except ImportError:
        return found
    matrix = csr_matrix((np.ones(visits.size), (np.repeat(np.arange(users), steps), visits.ravel())), (users, size))
    als = AlternatingLeastSquares(factors=64, iterations=1, num_threads=1)
    als.fit(matrix, show_progress=False)
    return found | {"implicit ALS": lambda part: als.recommend(np.array(part), matrix[part], N=10)}


def users_per_s(rank: Callable[[list[int]], Any], parts: list[list[int]], limit_s: float = 2.0) -> float:
    rank(parts[0])
    started_s, done = time.perf_counter(), 0
    for part in parts:
        rank(part)
        done += len(part)
        if time.perf_counter() - started_s > limit_s:
            break
    return done / (time.perf_counter() - started_s)
