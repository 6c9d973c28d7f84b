"""An A/B test of two strategies, simulated on what users did: how sure would it have been, and how long must it run?

Users are split as the model server splits them (the same hash). A user who was shown the other strategy is assumed to do the
same: what is simulated is noise and sample size, not persuasion.
"""

import math
from statistics import NormalDist

import msgspec
import numpy as np
import numpy.typing as npt

from chronotope.evaluation.results import LIST
from chronotope.evaluation.runner import Evaluation
from model_server.experiments import Assignment, team_draft
from model_server.ranking import RankedItem

Z95, Z80 = NormalDist().inv_cdf(0.975), NormalDist().inv_cdf(0.8)


class Interleaved(msgspec.Struct, frozen=True):
    """Both strategies in one list (team draft): events whose item one of them brought, and the events needed for 80 % power."""

    first_wins: int
    second_wins: int
    p_value: float
    needed_events: int | None


class ABTest(msgspec.Struct, frozen=True):
    """Hit rates at 10 of the two halves of the users, the difference (first - second), and what would settle it.

    ``ci95`` and ``p_value`` are of the split test (events of one user are not independent: variances are over users).
    ``paired_difference`` is known to the simulation alone: both strategies on everybody. ``needed_users`` of each half would
    find it at the 5 % level with 80 % power; None if there is no difference.
    """

    first: str
    second: str
    users: tuple[int, int]
    events: tuple[int, int]
    hit_rates: tuple[float, float]
    difference: float
    ci95: tuple[float, float]
    p_value: float
    paired_difference: float
    needed_users: int | None
    interleaved: Interleaved


def simulate(evaluation: Evaluation, first: str, second: str) -> ABTest:
    """The test of two evaluated strategies. Raises ValueError for a name that was not evaluated. O(events)."""
    for name in (first, second):
        if name not in evaluation.results:
            raise ValueError(f"{name!r} was not evaluated: {', '.join(evaluation.results)} were")
    stream, users = evaluation.stream, evaluation.stream.user[evaluation.at]
    hits = [(evaluation.results[name].ranks <= LIST).astype(float) for name in (first, second)]
    ids = {int(code): event.user_id for code, event in zip(stream.user, stream.events)}
    assignment = Assignment({first: 1.0, second: 1.0})
    distinct = np.unique(users)
    served_first = np.isin(users, [code for code in distinct.tolist() if assignment.of(ids[code]) == first])
    halves = [
        _Rate.of(hits[0][served_first], users[served_first]),
        _Rate.of(hits[1][~served_first], users[~served_first]),
    ]
    difference = halves[0].rate - halves[1].rate
    error = math.sqrt(sum(half.variance / max(half.users, 1) for half in halves))
    paired = float(hits[0].mean() - hits[1].mean())
    spread = sum(_Rate.of(each, users).variance for each in hits)
    return ABTest(
        first=first, second=second, users=(halves[0].users, halves[1].users), events=(halves[0].events, halves[1].events),
        hit_rates=(round(halves[0].rate, 4), round(halves[1].rate, 4)), difference=round(difference, 4),
        ci95=(round(difference - Z95 * error, 4), round(difference + Z95 * error, 4)), p_value=_two_sided(difference, error),
        paired_difference=round(paired, 4),
        needed_users=math.ceil((Z95 + Z80) ** 2 * spread / paired**2) if paired else None,
        interleaved=_interleave(evaluation, first, second),
    )  # fmt: skip


class _Rate(msgspec.Struct, frozen=True):
    """A ratio of sums over users with its variance per user (delta method)."""

    rate: float
    variance: float
    users: int
    events: int

    @classmethod
    def of(cls, hits: npt.NDArray[np.float64], users: npt.NDArray[np.int64]) -> "_Rate":
        if not len(hits):
            return cls(0.0, 0.0, 0, 0)
        _, user = np.unique(users, return_inverse=True)
        events, won = np.bincount(user), np.bincount(user, hits)
        rate = float(won.sum() / events.sum())
        apart = (won - rate * events) / events.mean()
        return cls(rate, float(apart.var(ddof=1)) if len(events) > 1 else 0.0, len(events), int(events.sum()))


def _interleave(evaluation: Evaluation, first: str, second: str) -> Interleaved:
    lists = [evaluation.results[name].lists for name in (first, second)]
    target = evaluation.stream.item[evaluation.at]
    wins = [0, 0]
    for n in np.flatnonzero((lists[0] == target[:, None]).any(1) | (lists[1] == target[:, None]).any(1)).tolist():
        items, teams = team_draft(_ranked(lists[0][n]), _ranked(lists[1][n]), LIST, seed=n)
        chosen = [team for item, team in zip(items, teams) if item.row == target[n]]
        if chosen:
            wins[chosen[0]] += 1
    clicks = sum(wins)
    share = wins[0] / clicks if clicks else 0.5
    needed = None
    if share != 0.5:
        needed = math.ceil((Z95 + Z80) ** 2 / 4 / (share - 0.5) ** 2 * len(target) / clicks)
    return Interleaved(wins[0], wins[1], _two_sided(share - 0.5, 0.5 / math.sqrt(max(clicks, 1))), needed)


def _ranked(codes: npt.NDArray[np.int64]) -> list[RankedItem]:
    return [RankedItem(item_id=str(code), row=code, probability=0.0) for code in codes[codes >= 0].tolist()]


def _two_sided(difference: float, error: float) -> float:
    if error == 0.0:
        return 1.0
    return float(f"{math.erfc(abs(difference) / error / math.sqrt(2)):.4g}")  # 1 - cdf would be 0 from 8 sigma on
