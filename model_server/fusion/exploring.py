"""Experts on items that the user does not know yet: features of every candidate, [users, candidates]."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_server.catalogue import Catalogue, arc_km
from model_server.fusion.batch import DAY_S, HOUR_S, UserBatch
from model_server.fusion.crowds import Crowds
from model_server.neighbours import ItemNeighbours
from model_server.patterns import PatternStore
from model_server.visits import DAY_PARTS, VisitCounts

NAMES = (
    "popularity", "trend", "trend", "trend", "trend", "distance", "distance", "distance", "distance", "distance",
    "home", "home", "category", "category", "category", "hour", "hour", "transition", "covisit", "neighbours", "sequence",
    "crowd",
)  # fmt: skip
PRIOR = {0: 0.6, 5: -0.5, 19: 0.2, 20: 0.3}
TOUCHES, CROWD = 5, 6  # columns of the public features


def explore_features(
    batch: UserBatch,
    catalogue: Catalogue,
    visits: VisitCounts,
    patterns: PatternStore,
    neighbours: ItemNeighbours,
    crowds: Crowds,
    candidates: Tensor,
    sequence: Tensor,
    ascending: bool,
) -> Tensor:
    """Features float32 [users, candidates, len(NAMES)] of distinct catalogue rows int64 [users, candidates] (-1: none).

    ``sequence`` [users, candidates] are logits. ``ascending`` says that the rows of every user are in ascending order, which
    saves sorting them. Where there is no row the features are finite and mean nothing.
    """
    inside = candidates.clamp(min=0)
    placed = catalogue.has_place[inside]
    km = arc_km(catalogue.position[batch.last_row][:, None], catalogue.position[inside])
    km = km * (placed & catalogue.has_place[batch.last_row][:, None])
    home = batch.home_row
    home_km = arc_km(catalogue.position[home][:, None], catalogue.position[inside])
    home_km = home_km * (placed & catalogue.has_place[home][:, None])
    log_km, close = torch.log1p(km / 0.3), torch.exp(-km / 0.4)
    moving = torch.exp(-batch.gap_s / HOUR_S)[:, None] if batch.timed else torch.zeros_like(km[:, :1])
    rows = len(catalogue)
    if rows < candidates.numel():
        public = public_features(torch.arange(rows, device=candidates.device), visits, crowds)[inside]
    else:
        public = public_features(inside, visits, crowds)
    touches = public[..., TOUCHES]
    hour = (batch.now_week_s / HOUR_S).long() % DAY_PARTS
    at_hour = visits.hours[inside, hour[:, None]]
    category = catalogue.category[inside]
    likes, likes_now, at_this_hour = category_lifts(batch, catalogue, visits, hour)
    total = visits.touches.sum()
    in_order = torch.arange(candidates.shape[1], device=candidates.device).expand(candidates.shape)
    order = in_order if ascending else candidates.argsort(1)
    transition = patterns.transitions.read(batch.last_row[:, None], candidates, order=order)
    covisit = patterns.covisits.read(batch.last_row[:, None], candidates, order=order)
    alike = neighbours.read(batch.recent_rows, candidates, visits.visitors, order)
    personal = torch.stack(
        (
            log_km, close, torch.exp(-km / 2), moving * log_km, moving * close,
            torch.log1p(home_km / 0.3), torch.log(torch.exp(-home_km / 2) + 0.01),
            likes.gather(1, category), likes_now.gather(1, category),
            (category == catalogue.category[batch.last_row][:, None]).float(),
            torch.log((at_hour + 0.25) / (touches + 6) * DAY_PARTS), at_this_hour.gather(1, category),
            torch.log(transition + 0.2 * touches / (total + 1) + 2e-4),
            torch.log(covisit + 1e-3), torch.log(alike + 1e-3), sequence,
        ),
        2,
    )  # fmt: skip
    return torch.cat((public[..., :TOUCHES], personal, public[..., CROWD:]), 2)


def public_features(rows: Tensor, visits: VisitCounts, crowds: Crowds) -> Tensor:
    """What is the same for every user: the popularity and trend features, touches, and the crowd feature, [*rows, 7]."""
    return torch.stack(
        (
            torch.log(visits.visitors[rows] + 0.3),
            torch.log(visits.recent_visitors(rows, 2) + 0.1),
            torch.log(visits.recent(rows, 1) + 0.1),
            torch.log(visits.recent(rows, 0) + 0.1),
            torch.log1p(visits.age_s(rows) / DAY_S),
            visits.touches[rows],
            crowds.of(rows),
        ),
        -1,
    )


def category_lifts(batch: UserBatch, catalogue: Catalogue, visits: VisitCounts, hour: Tensor) -> tuple[Tensor, ...]:
    """Log-lifts [users, categories]: of the user's taste, of that taste at this hour, and of everybody's at this hour."""
    e, kinds = batch.events, len(catalogue.category_names)
    visits.reserve(0, kinds)
    share = visits.category_visitors[:kinds] + 0.5
    share = share / share.sum()
    key = e.user * kinds + catalogue.category[e.row]
    gap = (e.week_s / HOUR_S - (batch.now_week_s / HOUR_S)[e.user]).abs() % 24
    near = torch.exp(-0.5 * (torch.minimum(gap, 24 - gap) / 2.5) ** 2)

    def tally(weight: Tensor) -> Tensor:
        flat = torch.zeros(batch.users * kinds, device=weight.device)
        return flat.index_add_(0, key, weight).view(batch.users, kinds)

    own, now = tally(torch.ones_like(near)), tally(near)
    taste = (own + 5 * share) / (own.sum(1, keepdim=True) + 5) / share
    taste_now = (now + 3 * taste * share) / (now.sum(1, keepdim=True) + 3) / share
    usual = visits.category_hours[:kinds].sum(1)
    usual = (usual + 0.5) / (usual + 0.5).sum()
    here = visits.category_hours[:kinds, hour].T
    at_hour = (here + 5 * usual) / (here.sum(1, keepdim=True) + 5) / usual
    return torch.log(taste), torch.log(taste_now), torch.log(at_hour)


class ExploreNetwork(nn.Module):
    """A small network on top of the linear weights: what several features say together."""

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.hidden = nn.Linear(len(NAMES), hidden)
        self.out = nn.Linear(hidden, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Corrections [users, candidates] to the linear logits."""
        return self.out(F.silu(self.hidden(features)))[..., 0]


def own_mask(own_rows: Tensor, candidates: Tensor) -> Tensor:
    """bool [users, candidates]: is the candidate one of the user's own rows, int64 [users, m] (-1: none)?

    The candidates of every user are distinct and ascending, but for -1 at the left. O(own rows x log candidates).

    >>> own_mask(torch.tensor([[2, 7, -1]]), torch.tensor([[-1, -1, 1, 2, 5]])).tolist()
    [[False, False, False, True, False]]
    """
    at = torch.searchsorted(candidates.contiguous(), own_rows).clamp(max=candidates.shape[1] - 1)
    user, place = ((candidates.gather(1, at) == own_rows) & (own_rows >= 0)).nonzero(as_tuple=True)
    mask = torch.zeros(candidates.shape, dtype=torch.bool, device=candidates.device)
    mask[user, at[user, place]] = True
    return mask
