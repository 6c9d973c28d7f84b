"""The period expert: which own items are due, by the periods that the pattern topic carries."""

import math

import torch
from torch import Tensor

from model_server.fusion.batch import UserBatch
from model_server.patterns import PatternStore
from schemas.patterns import PeriodEstimate

WIDTH = 0.1
STRONG = 2.0


def due_now(batch: UserBatch, user_ids: list[str], patterns: PatternStore) -> Tensor:
    """For every own pair, float32 [pairs]: 0 without a period, above 0 when the item is due, below when it is not.

    Of a standing answer the moment is unknown; it is taken for due what falls due within the period's width of the last event.
    """
    due = torch.zeros(len(batch.own.row), device=batch.own.row.device)
    users = [user_ids[slot] for slot in batch.slots.tolist()]
    with_periods = [index for index, user in enumerate(users) if patterns.periods_of_user.get(user)]
    for index in with_periods:
        now_s = float(batch.now_s[index])
        periods = patterns.periods_of_user[users[index]]
        for pair in (batch.own.user == index).nonzero()[:, 0].tolist():
            found = periods.get(int(batch.own.row[pair]))
            if found:
                due[pair] = max(dueness(period, now_s) for period in found)
    return due


def dueness(period: PeriodEstimate, now_s: float) -> float:
    """The log-lift of a visit now: a wrapped Gaussian around the due times against a uniform phase, weighted by strength.

    >>> every_100_s = PeriodEstimate(period_s=100.0, phase_s=0.0, period_kind="recurring", strength=1.0, p_value=1e-6,
    ...                              next_due_ms=50_000)
    >>> dueness(every_100_s, 150.0) > 0 > dueness(every_100_s, 100.0)
    True
    """
    away = ((now_s - period.next_due_ms / 1000) / period.period_s + 0.5) % 1.0 - 0.5
    density = math.exp(-0.5 * (away / WIDTH) ** 2) / (WIDTH * math.sqrt(2 * math.pi))
    return min(period.strength, 1.0) * max(math.log(density + 1e-3), -STRONG)
