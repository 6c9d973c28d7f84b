"""Moves between crowds: those of the live window and of the crowds as they are now, however the work is shared."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from walking_crowds import EVENTS_SEEN, REGION, STEP, Truth, moves_of, settings_for, teller_stage

from processors.code_index import Ints
from schemas.codes import code_of
from schemas.events import BehaviorEvent
from schemas.patterns import ClusterUpdate, TransitionUpdate
from streams.pipeline import PatternPipeline
from streams.stages import crowd_moves
from streams.stages.crossing import RegionReport
from streams.stages.crowd_counts import NO_BINS
from streams.stages.crowd_moves import CrowdMoves, whereabouts_of
from streams.stages.crowd_teller import CrowdTeller
from streams.stages.names import Names
from streams.stages.settings import RegionStageSettings

Row = tuple[float, list[float]]
MINUTE_MS = 60_000


def rows_of(moves: Sequence[TransitionUpdate]) -> list[Row]:
    """What is told of each crowd that people leave, without ids, sorted."""
    return sorted((one.total, [round(next_.share, 9) for next_ in one.next_states]) for one in moves if one.next_states)


def walked(truth: Truth) -> list[Row]:
    """The same, by walking through the events of each user that are in public crowds."""
    lives = defaultdict[str, list[tuple[int, int, int]]](list)
    for crowd, members in enumerate(truth.public()):
        for event in members:
            lives[event.user_id].append((event.event_time_ms, int(event.event_id[1:]), crowd))
    went = defaultdict[int, dict[int, list[str]]](lambda: defaultdict(list))
    for user, life in lives.items():
        for (before_ms, _, left), (after_ms, _, entered) in pairwise(sorted(life)):
            if left != entered and after_ms - before_ms <= 1000 * REGION.move_gap_s:
                went[left][entered].append(user)
    rows = []
    for targets in went.values():
        told = sorted(
            (len(users) for users in targets.values() if len(set(users)) >= REGION.min_users), reverse=True
        )  # fmt: skip
        total = sum(map(len, targets.values()))
        if told:
            rows.append((float(total), [round(number / total, 9) for number in told]))
    return sorted(rows)


@pytest.mark.parametrize("partitions", [1, 3, 4])
def test_every_telling_has_the_moves_of_a_walk_through_the_window(partitions: int) -> None:
    pipeline, truth, tellings, between = PatternPipeline(settings_for(partitions)), Truth(), 0, 0
    for start in range(0, len(EVENTS_SEEN), STEP):
        part = EVENTS_SEEN[start : start + STEP]
        truth.absorb(part)
        told = rows_of(moves_of(pipeline.update(part)))
        if told:
            assert told == walked(truth)
            tellings += 1
            between += sum(len(shares) for _, shares in told)
    assert 20 <= tellings <= 24 < len(EVENTS_SEEN) / STEP
    assert between > 10 * tellings


def visit(user: int, place: tuple[float, float], minute: float) -> BehaviorEvent:
    return BehaviorEvent(
        event_id=f"{user}-{minute}-{place}", user_id=f"u{user}", item_id="x", action="checkin", lat=place[0],
        lon=place[1], event_time_ms=1_400_000_000_000 + round(minute * MINUTE_MS),
    )  # fmt: skip


HOME, STATION, OFFICE = (40.0, -74.0), (40.02, -74.0), (40.7, -74.9)


class Town:
    """A pipeline, and what it last told of each crowd by the place where it is."""

    def __init__(self, partitions: int) -> None:
        settings = settings_for(partitions)
        region = msgspec.structs.replace(REGION, window_s=6 * 3600.0, move_gap_s=3600.0, min_users=3)
        self.pipeline = PatternPipeline(msgspec.structs.replace(settings, region=region))
        self.told: dict[str, TransitionUpdate] = {}
        self.place: dict[str, tuple[float, float]] = {}

    def update(self, events: Sequence[BehaviorEvent]) -> None:
        patterns = self.pipeline.update(events)
        places = (HOME, STATION, OFFICE)
        for one in patterns:
            if isinstance(one, ClusterUpdate):
                self.place[one.cluster_id] = min(places, key=lambda at: abs(at[0] - one.lat) + abs(at[1] - one.lon))
        self.told |= {one.from_state: one for one in moves_of(patterns)}

    def moves(self) -> dict[tuple[Any, Any], float]:
        """By place and place how many of those who leave the one go to the other."""
        return {
            (self.place[one.from_state], self.place[target.name]): target.share
            for one in self.told.values() for target in one.next_states
        }  # fmt: skip


def commuting(day_min: float, users: int) -> list[BehaviorEvent]:
    """Everybody from home to the station; two of three on to the office, the others back home."""
    found = []
    for user in range(users):
        found += [visit(user, HOME, day_min + user / 10), visit(user, STATION, day_min + 20 + user / 10)]
        found += [visit(user, OFFICE if user % 3 else HOME, day_min + 50 + user / 10)]
    return sorted(found, key=lambda event: event.event_time_ms)


@pytest.mark.parametrize("partitions", [1, 4])
def test_moves_lead_from_crowd_to_crowd_by_their_ids_with_their_quality(partitions: int) -> None:
    town = Town(partitions)
    town.update(commuting(0, users=18))
    assert town.moves() == {(HOME, STATION): 1.0, (STATION, OFFICE): pytest.approx(2 / 3), (STATION, HOME): 1 / 3}
    by_place = {town.place[one.from_state]: one for one in town.told.values()}
    home, station = by_place[HOME].quality, by_place[STATION].quality
    assert home is not None and station is not None
    assert home.support == by_place[HOME].total == station.support == 18.0
    # All 36 moves but the six to home end at the station 18 times; those but the 18 to the station at the office 12 times.
    assert home.significance == pytest.approx(18 * np.log10(30 / 18))
    assert station.significance == 0.0


def test_what_few_people_do_is_not_told_however_often_they_do_it() -> None:
    town = Town(1)
    crowds = [visit(user, place, user / 10) for place in (HOME, STATION) for user in range(9 * (place == STATION), 18)]
    to_and_fro = [visit(user, (HOME, STATION)[at % 2], 10 + at + user / 2) for at in range(20) for user in range(2)]
    town.update(sorted(crowds[:9] + crowds[18:] + to_and_fro, key=lambda event: event.event_time_ms))
    assert len(town.place) == 2 and town.moves() == {}
    town.update(
        [visit(3, HOME, 40.0), visit(3, STATION, 41.0)] + [visit(20 + at, HOME, 42 + at / 10) for at in range(20)]
    )
    assert town.moves().keys() == {(HOME, STATION)}


def test_moves_from_a_crowd_that_is_gone_are_withdrawn() -> None:
    town = Town(1)
    town.update(commuting(0, users=18))
    gone = [one for one in town.told if town.place[one] in (HOME, STATION)]
    town.update([visit(user, OFFICE, 7 * 60 + user) for user in range(18)])
    assert [town.told[one].next_states for one in gone] == [[], []]
    assert town.moves() == {} and len(teller_stage(town.pipeline).teller.moves) == 0


def all_told(
    moves: CrowdMoves, now_ms: int, public: Sequence[int], regions: Sequence[int], version: int = 1
) -> list[TransitionUpdate]:
    """What a telling of these regions, whose labels are the crowds' ids, has to say of moves."""
    moves.close(now_ms, regions)
    return moves.tell(public, lambda region, labels: labels, version)


def moves_between_two_regions(store: bool = False) -> list[TransitionUpdate]:
    """Four people from crowd 5 in region 0 to crowd 6 in region 1, told after both have said so."""
    settings = RegionStageSettings(min_users=4)

    def ids_of(region: int, labels: Ints) -> Ints:
        return labels + 5 + region

    moves, users = CrowdMoves(settings, str), np.arange(4)
    moves.note(8)
    assert moves.is_due(40) and not moves.is_due(41)
    moves.ask()
    for region in (0, 1):
        at_ms, source = np.full(4, region * MINUTE_MS), users + 4 * region
        moves.take(region, whereabouts_of(np.zeros(4, np.int64), users, at_ms, source))
        if store:
            kept, moves = moves.to_bytes(), CrowdMoves(settings, str)
            moves.load(kept)
    moves.close(MINUTE_MS, [0, 1])
    assert not moves.is_due(1)
    if store:
        kept, moves = moves.to_bytes(), CrowdMoves(settings, str)
        moves.load(kept)
    told = moves.tell([5, 6], ids_of, 1)
    assert moves.tell([5, 6], ids_of, 2) == []
    return told


def test_a_state_that_is_stored_between_two_regions_reports_tells_the_same() -> None:
    (one,) = moves_between_two_regions()
    assert (one.from_state, [(to.name, to.share) for to in one.next_states]) == ("5", [("6", 1.0)])
    assert moves_between_two_regions(store=True) == [one]


def test_what_is_told_of_a_crowd_is_withdrawn_with_it_whether_or_not_moves_are_due() -> None:
    moves, users = CrowdMoves(RegionStageSettings(min_users=1), str), np.zeros(2, np.int64)
    moves.take(0, whereabouts_of(np.array([5, 6]), users, np.arange(2), users))
    (told,) = all_told(moves, 0, [5, 6], [0], version=1)
    assert told.from_state == "5" and told.next_states
    assert all_told(moves, 1, [5], [0], version=2) == []
    (withdrawn,) = all_told(moves, 2, [6], [0], version=3)
    assert (withdrawn.from_state, withdrawn.version, withdrawn.next_states, withdrawn.total) == ("5", 3, [], 0.0)


def test_a_region_says_of_each_of_its_own_points_in_a_crowd_once_who_and_when() -> None:
    pipeline, truth, heard = PatternPipeline(settings_for(4)), Truth(), list[tuple[int, int]]()
    teller = teller_stage(pipeline).teller
    teller.moves.take = lambda region, found: heard.extend(
        zip(found.users.tolist(), found.time_ms.tolist(), strict=True)
    )
    pipeline.update(EVENTS_SEEN[:240])
    truth.absorb(EVENTS_SEEN[:240])
    in_crowds = [truth.events[at] for at in truth.dbscan.snapshot()[0][truth.dbscan.snapshot()[1] >= 0].tolist()]
    assert sorted(heard) == sorted((code_of(event.user_id), event.event_time_ms) for event in in_crowds) != []


def test_a_report_takes_the_place_of_one_for_a_telling_that_did_not_come_about() -> None:
    pipeline = PatternPipeline(settings_for(1))
    pipeline.update(EVENTS_SEEN[:400])
    report = pipeline.stages["region"][0].window.report(NO_BINS, full=True, moves=True)
    where = report.whereabouts
    stale = msgspec.structs.replace(
        report, whereabouts=whereabouts_of(where.labels[::-1], where.users, where.time_ms, where.turns)
    )  # fmt: skip

    def told(reports: Sequence[RegionReport]) -> list[TransitionUpdate]:
        teller = CrowdTeller(REGION, 0)
        for one in reports:
            teller.take(one)
        assert moves_of(teller.tell(EVENTS_SEEN[400].event_time_ms, 1e9, Names(1), 1)) == []
        return teller.tell_moves(2)

    assert told([stale, report]) == told([report]) != []


def test_nothing_is_told_before_every_region_has_said_who_was_where() -> None:
    moves, where = CrowdMoves(RegionStageSettings(min_users=1), str), np.array([0, 1])
    moves.note(2)
    moves.take(0, whereabouts_of(where, np.zeros(2, np.int64), where, where))
    assert all_told(moves, 0, [0, 1], [0, 1]) == []
    assert moves.is_due(2)


def test_the_most_frequent_targets_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd_moves, "MAX_TARGETS", 2)
    moves = CrowdMoves(RegionStageSettings(min_users=1), str)
    targets = np.repeat([1, 2, 3, 4], [1, 4, 2, 3])
    users = np.repeat(np.arange(10), 2)
    labels = np.stack([np.zeros(10, np.int64), targets], 1).ravel()
    times = np.tile([0, 1], 10)
    moves.take(0, whereabouts_of(labels, users, times, times))
    (one,) = all_told(moves, 0, range(5), [0])
    assert [(to.name, to.share) for to in one.next_states] == [("2", 0.4), ("4", 0.3)] and one.total == 10.0


def test_what_comes_while_the_answers_are_on_their_way_is_new_to_the_next_telling() -> None:
    moves = CrowdMoves(REGION, str)
    moves.note(5)
    moves.ask()
    moves.note(100)
    nobody = np.empty(0, np.int64)
    moves.take(0, whereabouts_of(nobody, nobody, nobody, nobody))
    moves.close(0, (0,))
    assert moves.is_due(100)
    assert not moves.is_due(1_000)
