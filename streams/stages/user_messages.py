"""The user stage's messages: profiles and personal transitions in ids instead of codes."""

from collections.abc import Iterable, Sequence

import numpy as np

from processors.code_index import Ints
from processors.profile import UserProfile
from processors.quality import PatternBook, best_of, binomial_significances
from processors.sequence import NO_STATE, TransitionCounts
from schemas.patterns import AnchorPlace, NamedShare, PatternQuality, ProfileUpdate, TransitionUpdate
from streams.stages.names import Names
from streams.stages.pair_names import PairNames
from streams.stages.transition_quality import best_followers

MS = 1000
PERSONAL_NEXT_STATES = 10


def profile_updates(
    profiles: Sequence[UserProfile], everybody: TransitionCounts, book: PatternBook, names: Names, version: int
) -> list[ProfileUpdate]:
    """The messages of profiles, but of users whose id is forgotten. ``everybody`` counts what all users do."""
    names.read(np.array([profile.user for profile in profiles], np.int64))
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


def personal_transitions(
    counts: TransitionCounts, book: PatternBook, names: Names, pairs: PairNames, due: Ints, support: Ints, now_s: float,
    version: int,
) -> list[TransitionUpdate]:  # fmt: skip
    """What users do after items, for the pairs of a user and an item with the codes ``due``, which are their keys in the book.

    Those of which an id is forgotten or the context is no longer held are left out.
    """
    user, item, known = pairs.both(due)
    listed = counts.heaviest(item, now_s, PERSONAL_NEXT_STATES, owners=user)
    names.read(np.concatenate([user, item, listed.states[listed.states != NO_STATE]]))
    known &= listed.total > 0
    shares = listed.counts / np.where(known, listed.total, 1.0)[:, None]
    columns = due, user, item, listed.states, shares, listed.total, support, known
    rows = zip(*(column.tolist() for column in columns), best_followers(counts, listed, now_s, user), strict=True)
    name_of, event_time_ms = names.get, int(now_s * MS)
    return [
        TransitionUpdate(
            state_kind="item", from_state=item_name, version=version, event_time_ms=event_time_ms,
            next_states=named_shares(zip(states, share, strict=True), names), total=total, user_id=user_name,
            quality=book.record(
                key, time_s=now_s, claim=states[0], support=float(events), significance=significance
            ),
        )
        for key, whose, what, states, share, total, events, is_known, significance in rows
        if is_known and (user_name := name_of(whose)) is not None and (item_name := name_of(what)) is not None
    ]  # fmt: skip


def named_shares(shares: Iterable[tuple[int, float]], names: Names) -> list[NamedShare]:
    """Shares by id; codes whose id is forgotten are left out."""
    get = names.get
    return [NamedShare(name, share) for code, share in shares if (name := get(code)) is not None]
