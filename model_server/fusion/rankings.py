"""From scores to rankings: the best allowed items by name, with what each owes to whom."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model_server.catalogue import Catalogue
from model_server.fusion.chances import foremost
from model_server.fusion.experts import SHARED
from model_server.fusion.head import Head, Merged, Scored, merge
from model_server.fusion.placement import LENGTH
from model_server.fusion.shares import expert_shares
from model_server.ranking import ONE_SHARE, Query, RankedItem, Ranking, Shares
from model_server.visits import VisitCounts


class Rankings:
    """Names what was scored, for users with a history, and what is popular, for those without."""

    def __init__(self, catalogue: Catalogue, visits: VisitCounts) -> None:
        self._catalogue, self._visits = catalogue, visits

    def ordered(self, head: Head, scored: Scored) -> tuple[Merged, Tensor]:
        """The list of each user and the scores that it is shown by; -1 where there is nothing."""
        merged = merge(scored, self._catalogue.available)
        return merged, head.placement.order(merged.probability, merged.explore)

    def of(self, queries: Sequence[Query], head: Head, scored: Scored) -> list[Ranking]:
        """The ranking of each query from what its user was scored."""
        depth = max(query.k for query in queries)
        anything = all(query.allowed is None for query in queries)
        merged = merge(scored, self._catalogue.available, max(depth, LENGTH) if anything else None)
        rows, order = merged.rows, head.placement.order(merged.probability, merged.explore)
        for index, query in enumerate(queries):
            if query.allowed is not None:
                order[index, ~self._allowed(query.allowed)[rows[index]]] = -1.0
        scores, best = foremost(order, depth)
        shares = expert_shares(head, scored, merged.column.gather(1, best)).cpu().numpy()
        shown = rows.gather(1, best).tolist()
        p = torch.where(scores >= 0, merged.probability.gather(1, best), -1.0).tolist()
        gates = scored.gate.tolist()
        return [
            Ranking(
                user_id=query.user_id,
                items=self._items(shown[index][: query.k], p[index], shares[index]),
                explore_probability=gates[index],
            )
            for index, query in enumerate(queries)
        ]

    def _items(self, rows: list[int], probabilities: list[float], shares: Iterable[Shares]) -> list[RankedItem]:
        ids = self._catalogue.item_ids
        return [
            RankedItem(item_id=ids[row], row=row, probability=p, experts=SHARED, shares=share)
            for row, p, share in zip(rows, probabilities, shares)
            if p >= 0
        ]

    def popular(self, query: Query) -> Ranking:
        """The most visited of the items that the query allows."""
        mask = self._catalogue.rankable()
        self._visits.reserve(len(mask), 0)
        if query.allowed is not None:
            mask = mask & self._allowed(query.allowed)[:-1]
        rows = mask.nonzero()[:, 0]
        weight = self._visits.touches[rows] + 1e-3
        best = weight.topk(min(query.k, len(rows)))
        total = float(weight.sum())
        items = [
            RankedItem(
                item_id=self._catalogue.item_ids[row],
                row=row,
                probability=w / total,
                experts=("popularity",),
                shares=ONE_SHARE,
            )
            for row, w in zip(rows[best.indices].tolist(), best.values.tolist())
        ]
        return Ranking(user_id=query.user_id, items=items, explore_probability=1.0, fallback="popularity")

    def _allowed(self, allowed: npt.NDArray[np.bool_]) -> Tensor:
        mask = torch.zeros(len(self._catalogue) + 1, dtype=torch.bool, device=self._catalogue.device)
        given = torch.from_numpy(np.asarray(allowed[: len(self._catalogue)], dtype=bool))
        mask[: len(given)] = given.to(self._catalogue.device)
        return mask
