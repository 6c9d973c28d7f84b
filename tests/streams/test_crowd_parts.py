"""Parts of crowds: what is counted apart and added up is what is counted at once."""

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from walking_crowds import EVENTS_SEEN, STEP, settings_for

from processors.quality import poisson_significance
from processors.spatial.hull import convex_hull
from streams.pipeline import PatternPipeline
from streams.stages import crowd_parts
from streams.stages.cluster_summary import MAX_HULL, summaries
from streams.stages.crossing import RegionReport, decode_message
from streams.stages.crowd_parts import (
    KINDS,
    NO_PARTS,
    CrowdParts,
    SomeParts,
    added,
    crowds_of,
    joined,
    pack_parts,
    parts_of,
    sums_of,
    unpack_parts,
)
from streams.stages.factory import stage_factory
from streams.stages.packing import pack_blobs, unpack_blobs

HOUR_MS = 3_600_000
Points = dict[str, np.ndarray]


def some_points(number: int, seed: int, lat: float = 35.6, lon: float = 139.7) -> Points:
    rng = np.random.default_rng(seed)
    return {
        "user": rng.integers(0, 9, number) * 10**17,
        "item": rng.integers(0, 7, number),
        "time_ms": rng.integers(0, 400 * HOUR_MS, number),
        "lat": lat + rng.normal(0, 3e-4, number),
        "lon": (lon + rng.normal(0, 3e-4, number) + 180) % 360 - 180,
    }


def part_of(points: Points, label: int = 7) -> CrowdParts:
    return parts_of(np.array([label]), points, np.array([0]))


def some(points: Points, rows: slice) -> Points:
    return {name: column[rows] for name, column in points.items()}


def assert_same(found: CrowdParts, expected: CrowdParts) -> None:
    for name, kind in KINDS.items():
        assert getattr(found, name).dtype == kind, name
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("lon", [139.7, 180.0])
def test_parts_add_up_to_the_part_of_all_points(lon: float) -> None:
    points, other = some_points(300, 1, lon=lon), some_points(20, 2)
    pieces = [part_of(some(points, rows)) for rows in (slice(0, 1), slice(1, 120), slice(120, 300))]
    both = added(joined([part_of(other, 3), *pieces, part_of(other, 9)]))
    assert both.labels.tolist() == [3, 7, 9]
    whole = part_of(points)
    summed = both.select(np.array([1]))
    assert summed.spread_m2 == pytest.approx(whole.spread_m2, rel=1e-6)
    assert_same(msgspec.structs.replace(summed, spread_m2=whole.spread_m2), whole)
    assert_same(both.select(np.array([0, 2])), joined([part_of(other, 3), part_of(other, 9)]))


def test_many_parts_at_once_are_those_of_each_and_rows_can_be_taken_in_any_order() -> None:
    sizes = [4, 1, 90, 2]
    points = some_points(sum(sizes), 3)
    start = np.cumsum([0, *sizes[:-1]])
    each = [
        part_of(some(points, slice(a, a + n)), label) for label, (a, n) in enumerate(zip(start, sizes, strict=True))
    ]
    found = parts_of(np.arange(4), points, start)
    assert_same(found, joined(each))
    assert_same(found.select(np.array([2, 0])), joined([each[2], each[0]]))
    assert_same(unpack_parts(pack_parts(found)), found)
    assert_same(joined([NO_PARTS, found.select(np.array([], np.int64))]), NO_PARTS)


def test_of_many_people_the_smallest_codes_are_kept_and_their_number_is_estimated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crowd_parts, "MAX_USERS", 512)
    people = 6_000
    points = some_points(people, 4) | {"user": np.random.default_rng(5).integers(0, 2**63 - 1, people)}
    few, whole = part_of(some(points, slice(0, 100))), part_of(points)
    halves = added(joined([part_of(some(points, slice(0, 3_000))), part_of(some(points, slice(2_000, people)))]))
    assert few.distinct_users.tolist() == [100]
    assert whole.users.tolist() == halves.users.tolist() == np.sort(points["user"])[:512].tolist()
    assert whole.distinct_users[0] == halves.distinct_users[0] == pytest.approx(people, rel=0.1)


def test_a_summary_says_what_a_count_of_the_points_says() -> None:
    points, other = some_points(400, 6), some_points(3, 7)
    crowds = joined([part_of(other, 1), part_of(points, 2)])
    _, summary = summaries(crowds, window_points=5_000, window_area_m2=1e7)
    assert (summary.count, summary.distinct_users) == (400, 9)
    often = Counter(points["item"].tolist())
    assert summary.items == sorted(often.items(), key=lambda item: (-item[1], item[0]))
    hours = Counter(((points["time_ms"] // HOUR_MS + 72) % 168).tolist())
    assert summary.hour_of_week == [hours[hour] for hour in range(168)]
    north = np.radians(points["lat"] - summary.lat) * 6_371_008.8
    east = np.radians(points["lon"] - summary.lon) * 6_371_008.8 * np.cos(np.radians(summary.lat))
    away_m = np.hypot(north, east)
    assert summary.radius_m == pytest.approx(np.sqrt((away_m**2).mean()), rel=1e-3)
    expected = 5_000 * min(np.pi * away_m.max() ** 2 / 1e7, 1)
    assert summary.significance == pytest.approx(poisson_significance(400, expected), rel=1e-2)


def test_an_outline_has_its_corners_in_turn_and_not_too_many_of_them() -> None:
    angle = np.random.default_rng(8).permutation(60) / 60 * 2 * np.pi
    ring = some_points(60, 8) | {"lat": 0.01 * np.sin(angle), "lon": 0.01 * np.cos(angle)}
    triangle = some_points(3, 9) | {"lat": np.array([0.0, 0.0, 0.01]), "lon": np.array([0.0, 0.01, 0.0])}
    many, few = summaries(joined([part_of(ring), part_of(triangle, 8)]), 100, 1e7)
    corners = [(ring["lat"][at], ring["lon"][at]) for at in convex_hull(ring["lon"], ring["lat"]).tolist()]
    assert many.hull == corners[::3] and len(many.hull) <= MAX_HULL
    assert few.hull == [(0.0, 0.0), (0.0, 0.01), (0.01, 0.0)]


def listed_as_before(parts: CrowdParts, row: int) -> tuple[Any, ...]:
    """A part as it was written when each was packed by itself."""
    one = parts.select(np.array([row]))
    week = np.zeros(168, np.int64)
    week[one.hours] = one.hour_counts
    columns = (one.users, one.items, one.item_counts, week)
    hull = list(zip(one.corner_lat.tolist(), one.corner_lon.tolist(), strict=True))
    direction = (float(one.x[0]), float(one.y[0]), float(one.z[0]))
    return int(one.counts[0]), direction, float(one.spread_m2[0]), *(column.tobytes() for column in columns), hull


def test_reports_that_were_written_part_by_part_are_still_read() -> None:
    parts = joined([part_of(some_points(30, 10), 4), part_of(some_points(5, 11), 6)])
    listed = [(4, listed_as_before(parts, 0)), (5, None), (6, listed_as_before(parts, 1))]
    cut = ("cut", 1, [3], 0, True, False, (0, 0), False)
    report = decode_message(msgspec.msgpack.encode(("report", 2, 9, None, listed, None, cut, True, 1, False, None)))
    assert isinstance(report, RegionReport)
    assert_same(report.parts, parts)
    assert report.gone.tolist() == [5]


def test_a_state_that_was_written_part_by_part_goes_on_as_if_it_had_been_written_now() -> None:
    pipeline = PatternPipeline(settings_for(2))
    for start in range(0, 800, STEP):
        pipeline.update(EVENTS_SEEN[start : start + STEP])
    blobs = unpack_blobs(pipeline.stages["union"][0].to_bytes())
    teller = unpack_blobs(blobs["teller"])
    told = msgspec.msgpack.decode(teller["told"], strict=False)
    parts = {region: unpack_parts(packed) for region, packed in told["parts"].items()}
    told["parts"] = [
        ((region, label), listed_as_before(held, row))
        for region, held in parts.items()
        for row, label in enumerate(held.labels.tolist())
    ]
    told["fresh"] = [(region, label) for region, labels in told["fresh"].items() for label in labels]
    before = pack_blobs(blobs | {"teller": pack_blobs(teller | {"told": msgspec.msgpack.encode(told)})})
    resumed = stage_factory("union", pipeline.settings)(0, before)
    assert len(told["parts"]) > 5
    assert resumed.teller.to_bytes() == pipeline.stages["union"][0].teller.to_bytes()


def test_crowds_are_put_together_from_the_parts_of_several_regions() -> None:
    points = [some_points(number, seed) for number, seed in ((40, 12), (25, 13), (9, 14), (60, 15))]
    one = joined([part_of(points[0], 2), part_of(points[1], 5)])
    other = joined([part_of(points[2], 0), part_of(points[3], 1)])
    found = [
        SomeParts(one, np.array([0, 1]), np.array([70, 60])),
        SomeParts(other, np.array([1]), np.array([70])),
        SomeParts(NO_PARTS, np.array([], np.int64), np.array([], np.int64)),
    ]
    both = {name: np.concatenate([points[0][name], points[3][name]]) for name in points[0]}
    crowds = crowds_of(found, np.array([60, 70]))
    assert crowds.labels.tolist() == [60, 70]
    assert_same(crowds.select(np.array([0])), part_of(points[1], 60))
    whole = part_of(both, 70)
    summed = crowds.select(np.array([1]))
    assert_same(msgspec.structs.replace(summed, spread_m2=whole.spread_m2), whole)
    assert crowds_of(found, np.array([60])).labels.tolist() == [60]
    sums = sums_of(found)
    assert (sums.labels.tolist(), sums.counts.tolist()) == ([60, 70], [25, 100])
    np.testing.assert_allclose(sums.centres, crowds.centres)
    assert len(sums_of([]).labels) == len(crowds_of([], np.array([60]))) == 0
