"""What the model server keeps of the pattern topics: the last version of what is read, bounded, and nothing withdrawn."""

from typing import Any

import torch

from model_server.catalogue import Catalogue
from model_server.patterns import PatternStore
from schemas.patterns import (
    ClusterUpdate,
    CoVisit,
    CoVisitUpdate,
    NamedShare,
    PeriodEstimate,
    PeriodicityUpdate,
    ProfileUpdate,
    TransitionUpdate,
)

CPU = torch.device("cpu")


def crowd(name: str, version: int, change: Any = "grown") -> ClusterUpdate:
    return ClusterUpdate(
        cluster_id=name, version=version, change=change, event_time_ms=0, born_at_ms=0, lat=40.0, lon=0.0, radius_m=50.0,
        count=20, distinct_users=12,
    )  # fmt: skip


def period(user: str, item: str, version: int, periods: int = 1) -> PeriodicityUpdate:
    estimate = PeriodEstimate(
        period_s=86_400.0, phase_s=0.0, period_kind="recurring", strength=0.9, p_value=1e-6, next_due_ms=0
    )
    return PeriodicityUpdate(
        entity_kind="user_item", entity=f"{user}\x1f{item}", version=version, event_time_ms=0,
        periods=[estimate] * periods, user_id=user, item_id=item,
    )  # fmt: skip


def transition(state: str, version: int, user: str | None = None) -> TransitionUpdate:
    return TransitionUpdate(
        state_kind="item", from_state=state, version=version, event_time_ms=0, next_states=[NamedShare("cafe", 1.0)],
        total=1.0, user_id=user,
    )  # fmt: skip


def test_the_last_version_of_a_crowd_is_kept_until_it_dies() -> None:
    store = PatternStore(Catalogue(CPU), CPU)
    assert len(store.apply([crowd("c", 2), crowd("c", 1)])) == 1
    assert store.clusters["c"].version == 2
    assert store.apply([crowd("c", 3, "died")]) and not store.clusters
    assert store.apply([crowd("c", 2)]) == [] and not store.clusters


def test_a_period_is_kept_until_it_is_withdrawn() -> None:
    catalogue = Catalogue(CPU)
    store = PatternStore(catalogue, CPU)
    store.apply([period("ann", "gym", 1), period("ann", "cafe", 1)])
    gym, cafe = catalogue.rows_of(["gym", "cafe"])
    assert store.periods_of_user["ann"].keys() == {gym, cafe}
    store.apply([period("ann", "gym", 2, periods=0)])
    assert store.periods_of_user["ann"].keys() == {cafe}
    store.apply([period("ann", "cafe", 2, periods=0)])
    assert not store.periods_of_user


def test_of_a_place_without_co_visits_any_more_none_is_read() -> None:
    catalogue = Catalogue(CPU)
    store = PatternStore(catalogue, CPU)
    gym, cafe = catalogue.rows_of(["gym", "cafe"])

    def weight() -> float:
        return float(store.covisits.read(torch.tensor([[gym]]), torch.tensor([[cafe]])))

    update = CoVisitUpdate(item_id="gym", version=1, event_time_ms=0, neighbours=[CoVisit("cafe", 9.0, 0.5, 2.0, 0.3)])
    store.apply([update])
    assert weight() == 0.5
    store.apply([CoVisitUpdate(item_id="gym", version=2, event_time_ms=0, neighbours=[])])
    assert weight() == 0.0


def test_what_nobody_reads_is_passed_on_and_not_kept() -> None:
    store = PatternStore(Catalogue(CPU), CPU)
    unread = [transition(f"i{n}", 1, "ann") for n in range(9)]
    assert store.apply(unread) == unread == store.apply(unread)
    assert len(store) == 0


def test_an_old_profile_concerns_nobody() -> None:
    store = PatternStore(Catalogue(CPU), CPU)
    profile = ProfileUpdate(user_id="ann", version=1, event_time_ms=0, events=3, items=[])
    assert store.apply([profile]) == [profile] and store.apply([profile]) == []


def test_no_more_patterns_are_kept_than_the_bound_and_the_longest_untold_go_first() -> None:
    catalogue = Catalogue(CPU)
    store = PatternStore(catalogue, CPU, max_patterns=4)
    store.apply([period("ann", "gym", 1), crowd("a", 1), crowd("b", 1), transition("i1", 1)])
    store.apply([crowd("a", 2), crowd("c", 1), crowd("d", 1)])
    assert len(store) == 4
    assert store.clusters.keys() == {"a", "c", "d"} and not store.periods_of_user
