"""Cuts and reports: regions absorb the same rows before they report, and what was reported before changes nothing."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from walking_crowds import (
    EVENTS_SEEN,
    STEP,
    all_told_by,
    clusters_of,
    moves_of,
    settings_for,
    store_and_load,
)

from processors.spatial import TileReport
from schemas.patterns import Pattern
from schemas.topics import INTERNAL_REGION, INTERNAL_UNION
from streams.pipeline import PatternPipeline
from streams.stages import crossing
from streams.stages import union as union_stage
from streams.stages.crossing import Cut, RegionReport, decode_message, encode_message
from streams.stages.crowd_counts import VisitCounts
from streams.stages.crowd_moves import whereabouts_of
from streams.stages.crowd_parts import NO_PARTS, parts_of
from streams.stages.factory import stage_factory


def test_reports_in_many_pieces_tell_the_same_as_whole_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def crowds(restart: Callable[[PatternPipeline], None] | None = None) -> list[Pattern]:
        """Without versions, which are offsets: there are more records in pieces."""
        told = all_told_by(3, restart)
        return [msgspec.structs.replace(one, version=0) for one in [*clusters_of(told), *moves_of(told)]]

    whole = crowds()
    monkeypatch.setattr(crossing, "PIECE_BYTES", 0)
    in_pieces = crowds()
    assert len(whole) > 100
    assert in_pieces == whole
    assert crowds(store_and_load) == whole


def test_a_piece_holds_what_a_broker_takes_and_each_part_is_in_one_piece() -> None:
    one, start = np.arange(4096), np.arange(40) * 4096
    columns = {name: np.tile(one, 40) for name in ("user", "item", "time_ms")}
    parts = parts_of(np.arange(40), columns | {"lat": np.zeros(40 * 4096), "lon": np.zeros(40 * 4096)}, start)
    labels = parts.labels
    structure = TileReport(2, labels, labels, labels[:0], labels[:0], labels[:0].reshape(0, 2))
    whereabouts = whereabouts_of(*(np.arange(300_000) for _ in range(4)))
    whole = RegionReport(
        2, 9, structure, parts, VisitCounts(one, one, one), Cut(1, [0], 0, True, False), whereabouts=whereabouts,
        gone=np.array([50]),
    )  # fmt: skip
    pieces = [decode_message(encode_message(piece)) for piece in crossing.pieces_of(whole, after=7)]
    assert max(len(encode_message(piece)) for piece in pieces) < 1_000_000
    assert [(piece.number, piece.more) for piece in pieces] == [
        (8 + at, at < len(pieces) - 1) for at in range(len(pieces))
    ]
    assert [label for piece in pieces for label in piece.parts.labels.tolist()] == list(range(40))
    assert [piece.gone.tolist() for piece in pieces] == [[50], *[[]] * (len(pieces) - 1)]
    assert (
        [piece.structure is None for piece in pieces]
        == [piece.visits is None for piece in pieces]
        == [False, *[True] * (len(pieces) - 1)]
    )
    users = [piece.whereabouts.users for piece in pieces if piece.whereabouts is not None]
    assert np.array_equal(np.concatenate(users), whereabouts.users)
    small = msgspec.structs.replace(
        whole, parts=NO_PARTS, whereabouts=whereabouts_of(*(np.arange(3) for _ in range(4)))
    )
    assert [piece.more for piece in crossing.pieces_of(small)] == [False]


def a_cut(number: int, heard: int, clock_ms: int) -> Cut:
    return Cut(number, [heard, -1], clock_ms, tell=True, full=False)


def region_with(events: int, region: int = 0) -> tuple[Any, list[Any]]:
    """A region of two, and what the user stage of partition 0 sends it of the first events, 40 at a time."""
    settings = settings_for(2)
    pipeline = PatternPipeline(settings)
    user, sent = pipeline.stages["user"][0], []
    for start in range(0, events, STEP):
        columns, _ = pipeline._decoder.columns_of(
            EVENTS_SEEN[start : start + STEP], np.arange(start, start + STEP), np.full(STEP, 2 * 10**12)
        )
        routed = user.apply(columns, start + STEP - 1, True).routed
        sent += [one.batch for one in routed if one.topic is INTERNAL_REGION and one.partition == region]
    return stage_factory("region", settings)(region, None), sent


def test_a_region_waits_for_the_rows_of_a_cut_and_absorbs_no_others() -> None:
    region, (first, second, third) = region_with(3 * STEP)
    last_ms = max(event.event_time_ms for event in EVENTS_SEEN[: 2 * STEP])
    assert region.apply([first, a_cut(1, 2 * STEP - 1, last_ms)], 1).routed == []
    (answer,) = region.apply([second, third], 3).routed
    rows = [len(batch.rows()["time_ms"]) for batch in (first, second, third)]
    assert answer.batch.exact and len(region.window) == sum(rows[:2])
    assert region.sizes()["rows_in_wait"] == rows[2]


def test_a_region_that_went_beyond_a_cut_says_so() -> None:
    region, (first, second) = region_with(2 * STEP)
    last_ms = max(event.event_time_ms for event in EVENTS_SEEN[: 2 * STEP])
    region.apply([first, second, a_cut(1, 2 * STEP - 1, last_ms)], 2)
    (answer,) = region.apply([a_cut(1, STEP - 1, last_ms)], 3).routed
    assert not answer.batch.exact
    (answer,) = region.apply([a_cut(2, 2 * STEP - 1, last_ms)], 4).routed
    assert answer.batch.exact


def test_nothing_is_told_of_reports_that_are_not_of_one_moment_and_the_telling_is_repeated_in_full() -> None:
    settings = settings_for(2)
    pipeline = PatternPipeline(settings)
    user, union = pipeline.stages["user"][0], stage_factory("union", settings)(0, None)
    columns, _ = pipeline._decoder.columns_of(EVENTS_SEEN[:200], np.arange(200), np.full(200, 2 * 10**12))
    routed = pipeline.stages["user"][1].announce(True) + user.apply(columns, 199, True).routed
    rows = [one.batch for one in routed if one.topic is INTERNAL_UNION]
    regions = [stage_factory("region", settings)(at, None) for at in range(2)]
    for at, region in enumerate(regions):
        region.apply([one.batch for one in routed if one.topic is INTERNAL_REGION and one.partition == at], 0)

    def answers(cuts: Sequence[Any], offset: int) -> list[RegionReport]:
        found = [regions[one.partition].apply([one.batch], offset).routed for one in cuts]
        return [decode_message(encode_message(report.batch)) for (report,) in found]  # type: ignore[misc]

    asked = union.apply(rows, 0).routed
    first, second = answers(asked, 1)
    output = union.apply([first, msgspec.structs.replace(second, exact=False)], 2)
    assert clusters_of(output.patterns) == []
    assert [one.batch.full for one in output.routed] == [True, True]
    output = union.apply(answers(output.routed, 2), 4)
    assert len(clusters_of(output.patterns)) > 3 and output.routed == []


@pytest.mark.parametrize("bound", [1_000, 30])
def test_while_a_telling_is_under_way_no_cut_is_made_but_for_very_many_rows(
    bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(union_stage, "MAX_UNCUT", bound)
    settings = settings_for(2)
    pipeline, union = PatternPipeline(settings), stage_factory("union", settings)(0, None)
    regions = [stage_factory("region", settings)(at, None) for at in range(2)]

    def of_events(first: int, last: int) -> list[Any]:
        """What the union stage gets of them, and the regions too."""
        numbers = np.arange(first, last)
        columns, _ = pipeline._decoder.columns_of(EVENTS_SEEN[first:last], numbers, np.full(len(numbers), 2 * 10**12))
        routed = pipeline.stages["user"][0].apply(columns, last - 1, True).routed
        for at, region in enumerate(regions):
            region.apply([one.batch for one in routed if one.topic is INTERNAL_REGION and one.partition == at], first)
        return [one.batch for one in routed if one.topic is INTERNAL_UNION]

    others = [one.batch for one in pipeline.stages["user"][1].announce(True) if one.topic is INTERNAL_UNION]
    asked = union.apply([*others, *of_events(0, 200)], 1).routed
    assert [one.batch.tell for one in asked] == [True, True]
    meanwhile = union.apply(of_events(200, 240), 2).routed
    assert [one.batch.tell for one in meanwhile] == ([] if bound == 1_000 else [False, False])
    answers = [region.apply([cut.batch], 900).routed[0].batch for region, cut in zip(regions, asked, strict=True)]
    after = union.apply([decode_message(encode_message(one)) for one in answers], 4).routed
    assert len(after) == 2 and all(one.batch.heard[0] == 239 for one in after)


def test_a_report_that_comes_again_does_not_bring_the_past_back() -> None:
    pipeline, reports = PatternPipeline(settings_for(2)), list[RegionReport]()
    union, region = pipeline.stages["union"][0], pipeline.stages["region"][0]
    absorb = region.apply

    def noted(messages: Sequence[Any], last_offset: int) -> Any:
        output = absorb(messages, last_offset)
        reports.extend(one.batch for one in output.routed)
        return output

    region.apply = noted
    for start in range(0, 600, STEP):
        pipeline.update(EVENTS_SEEN[start : start + STEP])
    present = union.teller.to_bytes()
    first, last = (decode_message(encode_message(report)) for report in (reports[0], reports[-1]))
    resumed = stage_factory("union", pipeline.settings)(0, union.to_bytes())
    for stage in (union, resumed):
        output = stage.apply([first, last], stage.absorbed_offset + 2)
        assert (stage.teller.to_bytes(), output.patterns) == (present, [])
