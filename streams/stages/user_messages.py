"""The user stage's messages: profiles and personal transitions in ids instead of codes."""

from collections.abc import Iterable

from processors.profile import UserProfile
from processors.sequence import TransitionCounts
from schemas.patterns import AnchorPlace, NamedShare, PatternQuality, ProfileUpdate, TransitionUpdate
from streams.stages.names import Names

MS = 1000
PERSONAL_NEXT_STATES = 10


def profile_update(profile: UserProfile, names: Names, version: int) -> ProfileUpdate | None:
    """The message of a profile; None for a user whose id is forgotten."""
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
        quality=PatternQuality(support=profile.support, significance=0.0, stability=1.0),
    )


def personal_transition(
    counts: TransitionCounts, names: Names, user: int, item: int, now_s: float, support: int, version: int
) -> TransitionUpdate | None:
    """What a user does after an item; None if an id is forgotten or the context is no longer held."""
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
        quality=PatternQuality(support=float(support), significance=0.0, stability=1.0),
    )  # fmt: skip


def named_shares(shares: Iterable[tuple[int, float]], names: Names) -> list[NamedShare]:
    """Shares by id; codes whose id is forgotten are left out."""
    get = names.held.get
    return [NamedShare(name, share) for code, share in shares if (name := get(code)) is not None]
