"""Metrics of ranks: one relevant item per event, so that hit rate, recall and accuracy at k are the same number."""

import numpy as np
import numpy.typing as npt

Ranks = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
CUTS = (1, 5, 10, 20)
RESAMPLES = 200


def metrics_of(ranks: Ranks) -> dict[str, float]:
    """All metrics of these ranks (1 is best, inf a miss); zeros of an empty slice.

    acc@k (= hit rate = recall@k): share of ranks <= k; precision@k = acc@k / k; f1@k = 2 acc@k / (k + 1);
    mrr = mean 1 / rank; ndcg@10 = mean of 1 / log2(1 + rank) over ranks <= 10.

    >>> metrics_of(np.array([1.0, 4.0, np.inf]))["acc@5"], round(metrics_of(np.array([1.0, 4.0, np.inf]))["mrr"], 4)
    (0.6667, 0.4167)
    """
    if len(ranks) == 0:
        ranks = np.array([np.inf])
        n = 0
    else:
        n = len(ranks)
    values: dict[str, float] = {"n": n}
    for k in CUTS:
        values[f"acc@{k}"] = float((ranks <= k).mean())
    values["mrr"] = float((1.0 / ranks).mean())
    values["ndcg@10"] = float((gains(ranks)).mean())
    for k in CUTS:
        values[f"precision@{k}"] = values[f"acc@{k}"] / k
        values[f"recall@{k}"] = values[f"acc@{k}"]
        values[f"f1@{k}"] = 2 * values[f"acc@{k}"] / (k + 1)
    return {
        name: value if name == "n" else round(value, 6 if "precision" in name else 4) for name, value in values.items()
    }


def gains(ranks: Ranks, cut: int = 10) -> Ranks:
    """The discounted gain of each rank, 0 beyond the cut."""
    return np.where(ranks <= cut, 1.0 / np.log2(1.0 + np.minimum(ranks, 1e9)), 0.0)


def intervals_of(ranks: Ranks, users: npt.NDArray[np.int64], seed: int = 0) -> dict[str, list[float]]:
    """95 % bootstrap intervals of acc@1, acc@5, acc@10, mrr and ndcg@10; users are drawn, not events."""
    if len(ranks) == 0:
        return {}
    columns = [ranks <= 1, ranks <= 5, ranks <= 10, 1.0 / ranks, gains(ranks)]
    _, user = np.unique(users, return_inverse=True)
    number = user.max() + 1
    sums = np.stack([np.bincount(user, column, number) for column in columns])
    sizes = np.bincount(user, minlength=number)
    drawn = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), RESAMPLES)
    means = (drawn @ sums.T) / (drawn @ sizes)[:, None]
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    names = ("acc@1", "acc@5", "acc@10", "mrr", "ndcg@10")
    return {name: [round(float(a), 4), round(float(b), 4)] for name, a, b in zip(names, low, high, strict=True)}


def difference_of(ranks: Ranks, other: Ranks, users: npt.NDArray[np.int64], seed: int = 0) -> dict[str, list[float]]:
    """95 % bootstrap intervals of the paired differences (ours - other) of acc@1, acc@10 and mrr; users are drawn."""
    _, user = np.unique(users, return_inverse=True)
    number = user.max() + 1
    columns = [
        (ranks <= 1).astype(float) - (other <= 1),
        (ranks <= 10).astype(float) - (other <= 10),
        1.0 / ranks - 1.0 / other,
    ]
    sums = np.stack([np.bincount(user, column, number) for column in columns])
    sizes = np.bincount(user, minlength=number)
    drawn = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), RESAMPLES)
    means = (drawn @ sums.T) / (drawn @ sizes)[:, None]
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return {name: [round(float(a), 4), round(float(b), 4)] for name, a, b in zip(("acc@1", "acc@10", "mrr"), low, high)}
