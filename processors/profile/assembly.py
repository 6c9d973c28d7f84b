"""Puts together the profiles of many users at once, out of the bank's packed columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from processors.profile.habits import events_per_day, radius_of_gyration_m
from processors.profile.settings import ProfileSettings
from processors.profile.user_profile import Anchor, Shares, UserProfile
from processors.sequence import NO_STATE, TransitionCounts

NIGHT, WORKDAY = 1, 2  # the bands of the day in which an item may be an anchor


def assemble_profiles(
    habits: Any,
    items: TransitionCounts,
    others: tuple[TransitionCounts, TransitionCounts],
    time_s: Any,
    settings: ProfileSettings,
) -> list[UserProfile]:
    """The profiles of the users of ``habits`` (their rows) as of ``time_s`` (one time, or one each). O(items of the users).

    ``items`` also counts by band of the day; ``others`` are the categories and the clusters.
    """  # fmt: skip
    users = np.ascontiguousarray(habits["user"])
    fade = 0.5 ** (np.maximum(time_s - habits["last_s"], 0.0) / settings.half_life_s)
    by_hour = habits["hours"].astype(np.float64).reshape(-1, 2, 24)
    total = np.maximum(by_hour.sum(axis=(1, 2)), np.finfo(np.float64).tiny)
    radius = radius_of_gyration_m(habits)
    columns = (
        users.tolist(),
        habits["version"].tolist(),
        np.broadcast_to(time_s, users.shape).tolist(),
        habits["events"].tolist(),
        (habits["weight"] * fade).tolist(),
        *(_shares(bank, users, time_s, settings.top) for bank in (items, *others)),
        _anchors(items, users, time_s, settings),
        [None if metres != metres else metres for metres in radius.tolist()],
        (habits["novel"] / habits["count"]).tolist(),
        events_per_day(habits, time_s, settings.half_life_s).tolist(),
        (by_hour.sum(axis=1) / total[:, None]).round(6).tolist(),
        (by_hour[:, 1].sum(axis=1) / total).tolist(),
    )
    return list(map(UserProfile, *columns))


def _shares(bank: TransitionCounts, users: Any, time_s: Any, top: int) -> list[Shares]:
    if not bank.n_contexts:
        return [[] for _ in users]
    listed = bank.heaviest(np.full(len(users), NO_STATE), time_s, top, owners=users)
    shares = (listed.counts / np.where(listed.total > 0, listed.total, 1.0)[:, None]).tolist()
    lengths = (listed.states != NO_STATE).sum(axis=1).tolist()
    return [
        list(zip(codes[:length], share[:length], strict=True))
        for codes, share, length in zip(listed.states.tolist(), shares, lengths, strict=True)
    ]


def _anchors(items: TransitionCounts, users: Any, time_s: Any, settings: ProfileSettings) -> list[list[Anchor]]:
    """The commonest item of the nights, and the commonest of the weekday days that is not that one, if common enough."""
    anchors: list[list[Anchor]] = [[] for _ in users]
    for role, band in (("home", NIGHT), ("work", WORKDAY)):
        listed = items.heaviest(np.full(len(users), band), time_s, 2, owners=users)
        enough = listed.counts >= settings.min_anchor_visits
        enough &= listed.counts >= settings.min_anchor_share * listed.total[:, None]
        for row, place in np.argwhere(enough).tolist():
            item, count = int(listed.states[row, place]), float(listed.counts[row, place])
            taken = [anchor for anchor in anchors[row] if anchor.item == item or anchor.role == role]
            if not taken:
                share = count / float(listed.total[row])
                anchors[row].append(Anchor("home" if role == "home" else "work", item, share, count))
    return anchors
