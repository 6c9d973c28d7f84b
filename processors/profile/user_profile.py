"""What is known of one user, ready to be read or published."""

from __future__ import annotations

from typing import Literal

import msgspec

Shares = list[tuple[int, float]]
"""Codes and their shares in [0, 1], largest first."""


class Anchor(msgspec.Struct, frozen=True, gc=False):
    """A place that holds a user's life together: the commonest of the nights (home) or of weekday days (work)."""

    role: Literal["home", "work"]
    item: int
    share: float
    visits: float


class UserProfile(msgspec.Struct, frozen=True):
    """A user's decayed preferences, anchors, range and habits as of ``time_s``.

    ``support`` is the decayed weight behind it, ``usual_hours`` the share of events in each local hour of the day.
    """

    user: int
    version: int
    time_s: float
    events: int
    support: float
    items: Shares
    categories: Shares
    clusters: Shares
    anchors: list[Anchor]
    radius_of_gyration_m: float | None
    explore_share: float
    events_per_day: float
    usual_hours: list[float]
    weekend_share: float


def distance(old: UserProfile, new: UserProfile) -> float:
    """How far a profile has moved, in [0, 1]: the largest of its parts' moves.

    Shares move by their total variation distance over the listed codes, range and rate by how much one is short of the
    other, relatively; an anchor that came, went or changed is a move of 1.
    """
    moves = [_shares_moved(getattr(old, name), getattr(new, name)) for name in ("items", "categories", "clusters")]
    moves.append(abs(old.explore_share - new.explore_share))
    moves.append(_ratio_moved(old.events_per_day, new.events_per_day, least=0.1))
    moves.append(_ratio_moved(old.radius_of_gyration_m or 0.0, new.radius_of_gyration_m or 0.0, least=100.0))
    moves.append(float({(a.role, a.item) for a in old.anchors} != {(a.role, a.item) for a in new.anchors}))
    return max(moves)


def _shares_moved(old: Shares, new: Shares) -> float:
    before, after = dict(old), dict(new)
    gained = sum(max(after.get(code, 0.0) - before.get(code, 0.0), 0.0) for code in before.keys() | after.keys())
    lost = sum(max(before.get(code, 0.0) - after.get(code, 0.0), 0.0) for code in before.keys() | after.keys())
    return max(gained, lost)


def _ratio_moved(old: float, new: float, least: float) -> float:
    """Differences below ``least`` matter less and less."""
    return abs(old - new) / (max(old, new) + least)
