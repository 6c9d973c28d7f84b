"""Reasons are in words, strongest first, and carry the patterns' own facts."""

import msgspec
import numpy as np
import pytest

from model_server.distances_in_words import from_last, steps_of
from model_server.fusion.shares import SHARED
from model_server.items import ItemTable
from model_server.ranking import RankedItem
from model_server.reasons import ReasonWriter, Shown
from model_server.rules.fallback import STAGES
from model_server.usual_reasons import WORDS
from schemas.events import Item
from schemas.patterns import ClusterUpdate, PeriodEstimate, PeriodicityUpdate
from schemas.recommendations import Reason

FRIDAY_EVENING_MS = 1_333_738_800_000


@pytest.fixture
def writer() -> ReasonWriter:
    items = ItemTable()
    items.upsert(
        [
            Item(item_id="cafe", lat=40.0, lon=0.0),
            Item(item_id="gym", lat=40.01, lon=0.0),
            Item(item_id="web"),
            Item(item_id="bakery", lat=40.0001, lon=0.0),
        ]
    )
    return ReasonWriter(items, reasons_per_item=2)


def item(name: str, **shares: float) -> RankedItem:
    return RankedItem(
        item_id=name, row=0, probability=0.5, experts=tuple(shares), shares=np.array(list(shares.values()))
    )


def texts(writer: ReasonWriter, ranked: RankedItem, last_item: str = "gym") -> list[str]:
    return [reason.text for reason in reasons(writer, ranked, last_item)]


def reasons(writer: ReasonWriter, ranked: RankedItem, last_item: str = "gym") -> list[Reason]:
    ((of_item,),) = writer.write([Shown("ann", last_item, [ranked])])
    return of_item


def crowd(change: str = "born", lat: float = 40.003) -> ClusterUpdate:
    return ClusterUpdate(
        cluster_id="c", version=2 if change != "born" else 1, change=change, event_time_ms=0, born_at_ms=0, lat=lat, lon=0.0,
        radius_m=50.0, count=20, distinct_users=12,
    )  # type: ignore[arg-type]  # fmt: skip


def test_every_expert_and_every_fallback_stage_has_words() -> None:
    assert set(SHARED) | set(STAGES) <= set(WORDS)


def test_the_strongest_positive_shares_come_first_with_their_part_of_the_evidence(writer: ReasonWriter) -> None:
    ranked = item("cafe", habit=3.0, hour=1.0, popularity=0.5, repeat=-9.0)
    assert [(reason.pattern, reason.weight) for reason in reasons(writer, ranked)] == [
        ("habit", 0.667),
        ("hour", 0.222),
    ]


def test_a_weekly_visit_is_told_by_day_and_part_of_day_until_it_is_retired(writer: ReasonWriter) -> None:
    period = PeriodEstimate(
        period_s=7 * 86_400.0, phase_s=0, period_kind="recurring", strength=1, p_value=0, next_due_ms=FRIDAY_EVENING_MS
    )
    update = PeriodicityUpdate(
        entity_kind="user_item",
        entity="ann\x1fcafe",
        version=1,
        event_time_ms=0,
        periods=[period],
        user_id="ann",
        item_id="cafe",
    )
    writer.note([update])
    assert texts(writer, item("cafe", weekday=1.0)) == ["you come here on Friday evenings"]
    assert texts(writer, item("gym", weekday=1.0)) == ["you come here on this day of the week"]
    writer.note([msgspec.structs.replace(update, version=2, periods=[])])
    assert texts(writer, item("cafe", weekday=1.0)) == ["you come here on this day of the week"]


def test_a_crowd_is_told_by_its_distance_and_forgotten_when_it_dies(writer: ReasonWriter) -> None:
    writer.note([crowd()])
    assert texts(writer, item("cafe", cluster=1.0)) == ["a crowd is forming 330 m away"]
    writer.note([crowd("moved", lat=40.0)])
    assert texts(writer, item("cafe", crowd=1.0)) == ["a crowd of 12 has gathered here"]
    writer.note([crowd("died")])
    assert texts(writer, item("cafe", crowd=1.0)) == ["people are gathering here"]


def test_places_are_told_by_distance_and_by_the_place_before(writer: ReasonWriter) -> None:
    assert texts(writer, item("cafe", distance=1.0)) == ["it is 1.1 km from where you were last"]
    assert texts(writer, item("gym", distance=1.0)) == ["it is where you were last"]
    assert texts(writer, item("bakery", distance=1.0), "cafe") == ["it is next to where you were last"]
    assert texts(writer, item("web", distance=1.0)) == ["it is close to where you were last"]
    assert texts(writer, item("cafe", transition=1.0)) == ["this is where you go next from gym"]
    assert texts(writer, item("cafe", transition=1.0), last_item="") == ["this is where you go next"]


@pytest.mark.parametrize("share", [float("nan"), float("inf"), 0.0, -1.0])
def test_shares_that_say_nothing_give_no_reason(writer: ReasonWriter, share: float) -> None:
    assert reasons(writer, item("cafe", habit=share)) == []


def test_lists_that_are_written_together_keep_their_own_reasons(writer: ReasonWriter) -> None:
    mixed = [item("cafe", habit=1.0, hour=3.0), item("gym", popular=1.0), item("web", habit=2.0, hour=0.0)]
    alone = [[reasons(writer, each, last) for each in mixed] for last in ("gym", "")]
    assert writer.write([Shown("ann", "gym", mixed), Shown("bob", "", []), Shown("bob", "", mixed)]) == [
        alone[0],
        [],
        alone[1],
    ]


def test_an_expert_without_words_is_named(writer: ReasonWriter) -> None:
    assert texts(writer, item("cafe", oracle=1.0)) == ["the oracle expert favours it"]


def test_distances_are_told_of_every_list_from_its_own_last_item(writer: ReasonWriter) -> None:
    near, far = item("cafe", distance=1.0), item("bakery", distance=1.0, habit=2.0)
    lists = [Shown("ann", "gym", [near, far]), Shown("bob", "", [near]), Shown("eve", "bakery", [far, near])]
    assert [[[reason.text for reason in of_item] for of_item in each] for each in writer.write(lists)] == [
        [["it is 1.1 km from where you were last"], ["you come here often", "it is 1.1 km from where you were last"]],
        [["it is close to where you were last"]],
        [["you come here often", "it is where you were last"], ["it is next to where you were last"]],
    ]


def test_an_item_that_comes_to_be_placed_is_told_of_a_crowd_near_it(writer: ReasonWriter) -> None:
    writer.note([crowd("moved", lat=40.0)])
    assert texts(writer, item("web", crowd=1.0)) == ["people are gathering here"]
    writer._items.upsert([Item(item_id="web", lat=40.0, lon=0.0)])
    assert texts(writer, item("web", crowd=1.0)) == ["a crowd of 12 has gathered here"]


@pytest.mark.parametrize(
    ("away_m", "told"),
    [(14.9, "next to"), (15.1, "20 m from"), (994.9, "990 m from"), (996.0, "1000 m from"), (1_049.0, "1.0 km from"),
     (1_051.0, "1.1 km from"), (12_345_678.0, "12345.7 km from")],
)  # fmt: skip
def test_distances_are_told_in_steps(away_m: float, told: str) -> None:
    assert from_last(*steps_of(np.array([away_m]))) == f"it is {told} where you were last"


def test_the_same_evidence_is_the_same_reason_for_everybody(writer: ReasonWriter) -> None:
    ranked = item("cafe", habit=1.0, hour=3.0)
    first, second = writer.write([Shown("ann", "gym", [ranked]), Shown("bob", "", [ranked])])
    assert first == second and first[0][0] is second[0][0]
