"""Experiments among strategies: who is served by which, and rankings interleaved for every user."""

import random
from collections.abc import Sequence

from model_server.ranking import RankedItem
from schemas.codes import code_of


class Assignment:
    """Which strategy serves a user: by a hash of the user, so the same on every instance and after every restart.

    >>> assignment = Assignment({"a": 1.0, "b": 3.0})
    >>> served = [assignment.of(f"user-{n}") for n in range(1000)]
    >>> 200 < served.count("a") < 300
    True
    """

    def __init__(self, shares: dict[str, float]) -> None:
        total = sum(shares.values())
        self.names = list(shares)
        self._until: list[tuple[float, str]] = []
        reached = 0.0
        for name, share in shares.items():
            reached += share / total
            self._until.append((reached, name))

    def of(self, user_id: str) -> str:
        """The name of the user's strategy. O(strategies)."""
        if len(self._until) == 1:
            return self._until[0][1]
        point = code_of("strategy:" + user_id) / 2**63
        return next((name for until, name in self._until if point < until), self._until[-1][1])


def team_draft(
    first: Sequence[RankedItem], second: Sequence[RankedItem], k: int, seed: int
) -> tuple[list[RankedItem], list[int]]:
    """Two rankings interleaved (team draft: Radlinski, Kurup and Joachims, CIKM 2008), and which of the two chose each item.

    In each round a coin decides who picks first; each then adds its best item that is not there yet. A click is a point for
    the strategy that chose the item; neither has an advantage if they are equally good. O(k).

    >>> a, b = (RankedItem(item_id=name, row=0, probability=0.5) for name in "ab")
    >>> items, teams = team_draft([a, b], [b, a], k=2, seed=1)
    >>> sorted(item.item_id for item in items), sorted(teams)
    (['a', 'b'], [0, 1])
    """
    coin = random.Random(seed)
    rankings = (list(first), list(second))
    at = [0, 0]
    taken: set[str] = set()
    items: list[RankedItem] = []
    teams: list[int] = []
    while len(items) < k:
        before = len(items)
        start = coin.getrandbits(1)
        for team in (start, 1 - start):
            ranking = rankings[team]
            while at[team] < len(ranking) and ranking[at[team]].item_id in taken:
                at[team] += 1
            if at[team] < len(ranking) and len(items) < k:
                taken.add(ranking[at[team]].item_id)
                items.append(ranking[at[team]])
                teams.append(team)
        if len(items) == before:
            break
    return items, teams
