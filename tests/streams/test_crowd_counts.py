"""The visits of crowds by time: bins close once, for the busiest, whatever region counted them."""

import numpy as np
import pytest

from processors.code_index import Ints
from processors.temporal import ClosedBin
from streams.stages.crowd_counts import CrowdCounts, VisitCounts, visits_in
from streams.stages.settings import ForecastWatchSettings, RegionStageSettings

HOUR_MS = 3_600_000
SETTINGS = RegionStageSettings(
    window_s=4 * 3600.0, forecasts=ForecastWatchSettings(bin_s=3600.0, max_keys=2, min_events=10)
)


def visits(*rows: tuple[int, int, int]) -> VisitCounts:
    return VisitCounts(*np.array(rows, np.int64).reshape(-1, 3).T)


def ids_of(region: int, labels: Ints) -> Ints:
    """The labels of region 0 are the crowds' ids; region 1 knows crowd 5 as 0 and nothing else."""
    return labels if region == 0 else np.where(labels == 0, 5, -1)


def counts_at(hour: int) -> CrowdCounts:
    """Counts that begin at the start of an hour."""
    counts = CrowdCounts(SETTINGS)
    assert counts.close(hour * HOUR_MS, {5: 20}, ids_of) == []
    return counts


def plain(closed: list[ClosedBin]) -> list[tuple[float, list[int], list[int]]]:
    return [(one.start_s / 3600.0, one.keys.tolist(), one.counts.tolist()) for one in closed]


def test_what_the_regions_say_of_a_crowd_is_added_up_also_when_the_state_was_stored_between_them() -> None:
    counts = counts_at(100)
    counts.take(0, visits((5, 100, 3), (5, 101, 1), (7, 101, 4)))
    resumed = CrowdCounts(SETTINGS)
    resumed.load(counts.to_bytes())
    for one in (counts, resumed):
        one.take(1, visits((0, 100, 2), (9, 100, 50)))
        assert plain(one.close(102 * HOUR_MS, {5: 20, 7: 10}, ids_of)) == [(100, [5, 7], [5, 0]), (101, [5, 7], [1, 4])]


def test_a_region_that_reports_again_replaces_what_it_said() -> None:
    counts = counts_at(100)
    for number in (3, 4):
        counts.take(0, visits((5, 100, number)))
    assert plain(counts.close(101 * HOUR_MS, {5: 20}, ids_of)) == [(100, [5], [4])]


def test_a_bin_is_closed_once_and_not_before_its_end() -> None:
    counts = counts_at(100)
    assert counts.bins_due(101 * HOUR_MS - 1) == (100, 100)
    assert counts.bins_due(102 * HOUR_MS) == (100, 102)
    counts.close(102 * HOUR_MS, {5: 20}, ids_of)
    assert counts.bins_due(103 * HOUR_MS - 1) == (102, 102)


def test_bins_that_the_window_no_longer_holds_are_left_out() -> None:
    assert counts_at(100).bins_due(110 * HOUR_MS) == (106, 110)


def test_only_the_busiest_crowds_are_counted() -> None:
    counts = counts_at(100)
    counts.take(0, visits((1, 100, 1), (2, 100, 2), (3, 100, 3), (4, 100, 4)))
    assert plain(counts.close(101 * HOUR_MS, {1: 30, 2: 11, 3: 12, 4: 9}, ids_of)) == [(100, [1, 3], [1, 3])]
    assert plain(counts.close(102 * HOUR_MS, {2: 9, 4: 10}, ids_of)) == [(101, [4], [0])]


@pytest.mark.parametrize("bins", [(0, 0), (2, 5)])
def test_visits_are_those_in_the_bins_and_no_others(bins: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    labels, time_ms = rng.integers(0, 4, 500), rng.integers(0, 8 * HOUR_MS, 500)
    found = visits_in(bins, 3600.0, labels, time_ms)
    expected = {
        (label, at): int(((labels == label) & (time_ms // HOUR_MS == at)).sum())
        for label in range(4) for at in range(*bins)
    }  # fmt: skip
    assert dict(zip(zip(found.labels.tolist(), found.bins.tolist()), found.counts.tolist(), strict=True)) == expected
