"""The user stage's messages: profiles and personal transitions in ids instead of codes."""

from collections.abc import Iterable, Sequence

import numpy as np

from processors.profile import UserProfile
from processors.quality import PatternBook, best_of, binomial_significances
from processors.sequence import NO_STATE, TransitionCounts
from schemas.patterns import AnchorPlace, NamedShare, PatternQuality, ProfileUpdate, TransitionUpdate
from streams.stages.names import Names
from streams.stages.transition_quality import best_follower

MS = 1000
PERSONAL_NEXT_STATES = 10


def profile_updates(
    profiles: Sequence[UserProfile], everybody: TransitionCounts, book: PatternBook, names: Names, version: int
) -> list[ProfileUpdate]:
    """The messages of profiles, but of users whose id is forgotten. ``everybody`` counts what all users do."""
    qualities = _profile_qualities(profiles, everybody, book)
    updates = (
        _profile_update(profile, quality, names, version) for profile, quality in zip(profiles, qualities, strict=True)
    )
    return [update for update in updates if update is not None]


def _profile_update(profile: UserProfile, quality: PatternQuality, names: Names, version: int) -> ProfileUpdate | None:
    user = names.get(profile.user)
    if user is None:
        return None
    anchors = [(anchor, names.get(anchor.item)) for anchor in profile.anchors]
    return ProfileUpdate(
        user_id=user,
        version=version,
        event_time_ms=int(profile.time_s * MS),
        events=profile.events,
        items=named_shares(profile.items, names),
        categories=named_shares(profile.categories, names),
        clusters=named_shares(profile.clusters, names),
        anchors=[
            AnchorPlace(role=anchor.role, item_id=item, share=anchor.share)
            for anchor, item in anchors
            if item is not None
        ],
        radius_of_gyration_m=profile.radius_of_gyration_m,
        explore_share=profile.explore_share,
        events_per_day=profile.events_per_day,
        usual_hours=profile.usual_hours,
        quality=quality,
    )


def _profile_qualities(
    profiles: Sequence[UserProfile], everybody: TransitionCounts, book: PatternBook
) -> list[PatternQuality]:
    """A profile claims its first item; by chance the user would touch it as often as everybody does."""
    if not profiles:
        return []
    time_s, every = profiles[0].time_s, everybody.total(None, profiles[0].time_s)
    claims = [profile.items[0][0] if profile.items else NO_STATE for profile in profiles]
    # An action's weight is not more evidence.
    events = np.array([min(profile.support, float(profile.events)) for profile in profiles])
    count = events * np.array([profile.items[0][1] if profile.items else 0.0 for profile in profiles])
    expected = np.minimum(np.maximum(everybody.counts_anywhere(claims, time_s), count) / max(every, 1e-300), 1.0)
    raw = binomial_significances(count, events, expected).tolist()
    return [
        book.record(
            profile.user, time_s=time_s, claim=claim, support=profile.support,
            significance=best_of(significance, len(profile.items)),
        )
        for profile, claim, significance in zip(profiles, claims, raw, strict=True)
    ]  # fmt: skip


def personal_transition(
    counts: TransitionCounts, book: PatternBook, names: Names, key: int, user: int, item: int, now_s: float,
    support: int, version: int,
) -> TransitionUpdate | None:  # fmt: skip
    """What a user does after an item, ``key`` in the book; None if an id is forgotten or the context is no longer held."""
    states, weights = counts.counts_of(item, now_s, owner=user)
    total = counts.total(item, now_s, owner=user)
    user_name, item_name = names.get(user), names.get(item)
    if user_name is None or item_name is None or total <= 0:
        return None
    top = slice(0, PERSONAL_NEXT_STATES)
    shares = zip(states[top].tolist(), (weights[top] / total).tolist(), strict=True)
    return TransitionUpdate(
        state_kind="item", from_state=item_name, version=version, event_time_ms=int(now_s * MS),
        next_states=named_shares(shares, names), total=total, user_id=user_name,
        quality=book.record(
            key, time_s=now_s, claim=int(states[0]), support=float(support),
            significance=best_follower(counts, item, now_s, states, weights, owner=user),
        ),
    )  # fmt: skip


def named_shares(shares: Iterable[tuple[int, float]], names: Names) -> list[NamedShare]:
    """Shares by id; codes whose id is forgotten are left out."""
    get = names.held.get
    return [NamedShare(name, share) for code, share in shares if (name := get(code)) is not None]
