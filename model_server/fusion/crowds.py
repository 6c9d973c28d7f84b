"""The crowd expert: how many people are gathered around each item, by the clusters that the pattern topic carries."""

import torch
from torch import Tensor

from model_server.catalogue import Catalogue, arc_km, grown, unit_vectors
from schemas.patterns import ClusterUpdate

REACH_KM = 0.3


class Crowds:
    """The distinct users of the live clusters around each catalogue row, fading with the distance beyond their radius."""

    def __init__(self, device: torch.device) -> None:
        self.around = torch.zeros(1024, device=device)
        self.changes = 0  # so that what is derived knows when it is out of date
        self._held: dict[str, tuple[Tensor, Tensor]] = {}

    def update(self, cluster: ClusterUpdate, nearby: Tensor, catalogue: Catalogue) -> None:
        """Take in the last version of a cluster; ``nearby`` int64 are the rows that it may reach. O(rows nearby)."""
        self.reserve(len(catalogue))
        self.changes += 1
        before = self._held.pop(cluster.cluster_id, None)
        if before is not None:
            self.around.index_add_(0, before[0], -before[1])
        if cluster.change in ("died", "merged") or not len(nearby):
            return
        centre = unit_vectors(torch.tensor(cluster.lat), torch.tensor(cluster.lon)).to(self.around.device)
        beyond = (arc_km(catalogue.position[nearby], centre) - cluster.radius_m / 1000).clamp(min=0)
        weight = cluster.distinct_users * torch.exp(-beyond / REACH_KM)
        self._held[cluster.cluster_id] = nearby, weight
        self.around.index_add_(0, nearby, weight)

    def of(self, rows: Tensor) -> Tensor:
        """log(1 + people) around these rows, same shape."""
        return torch.log1p(self.around[rows].clamp(min=0))

    def reserve(self, rows: int) -> None:
        """Make room for this many rows."""
        if rows > len(self.around):
            self.around = grown(self.around, max(rows, 2 * len(self.around)))
