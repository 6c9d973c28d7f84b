"""When crowds are told: by the wall clock that the batches carry, soon after something is new however large the window is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from walking_crowds import clusters_of, moves_of, teller_stage

from schemas.events import BehaviorEvent
from schemas.patterns import ClusterUpdate, Pattern
from streams.engine.fetching import Round
from streams.pipeline import PatternPipeline, pass_on
from streams.stages.crossing import Cut
from streams.stages.factory import stage_factory
from streams.stages.output import Routed
from streams.stages.settings import QUIET_SHARE, TELL_EVERY_MS, MiningSettings
from streams.stages.union import UNANSWERED_MS
from streams.ticking import FIRST_AFTER_S, LAST_AFTER_S, WHEN_BUSY, Ticker

START_MS, NOW_MS = 1_400_000_000_000, 1_700_000_000_000
CAFE = (40.75, -73.99)


class Live:
    """All stages without a broker, as events come in: a batch of each partition says when it was sent."""

    def __init__(self, partitions: int) -> None:
        self.pipeline = PatternPipeline(MiningSettings(partitions=partitions), examinations_per_1000_events=0)
        self._events = 0

    def take(self, places: Sequence[tuple[float, float]], sent_ms: int) -> list[ClusterUpdate]:
        """What is told of crowds when somebody is at each of these places."""
        return clusters_of(self.patterns_of(places, sent_ms))

    def patterns_of(self, places: Sequence[tuple[float, float]], sent_ms: int) -> list[Pattern]:
        """All that is told behind the user stage when somebody is at each of these places."""
        events = [self._event(lat, lon) for lat, lon in places]
        routed: list[Routed] = []
        for partition, mine in self.pipeline._by_partition(events):
            user: Any = self.pipeline.stages["user"][partition]
            offsets = np.arange(user.absorbed_offset + 1, user.absorbed_offset + 1 + len(mine))
            columns, _ = self.pipeline._decoder.columns_of(mine, offsets, np.full(len(mine), NOW_MS))
            output = user.apply(columns, int(offsets[-1]), caught_up=True, sent_ms=sent_ms)
            routed += output.routed
        return pass_on(self.pipeline.stages, routed)

    def tick(self, partition: int, sent_ms: int) -> list[ClusterUpdate]:
        """What is told of crowds when a partition has no events for a while."""
        return clusters_of(self.patterns_of_tick(partition, sent_ms))

    def patterns_of_tick(self, partition: int, sent_ms: int) -> list[Pattern]:
        """All that is told when a partition has no events for a while."""
        user: Any = self.pipeline.stages["user"][partition]
        return pass_on(self.pipeline.stages, user.tick(sent_ms))

    def _event(self, lat: float, lon: float) -> BehaviorEvent:
        self._events += 1
        return BehaviorEvent(
            event_id=f"e{self._events}", user_id=f"u{self._events % 97}", item_id=f"i{self._events % 7}", action="view",
            event_time_ms=START_MS + 1000 * self._events, lat=lat, lon=lon,
        )  # fmt: skip


def scattered(number: int) -> list[tuple[float, float]]:
    """Places that are nobody's neighbours."""
    return [(40.0 + 0.01 * (at % 70), -74.0 + 0.01 * (at // 70)) for at in range(number)]


@pytest.mark.parametrize("partitions", [1, 4])
def test_a_few_people_in_a_new_place_are_told_at_once_though_the_window_holds_thousands(partitions: int) -> None:
    live = Live(partitions)
    live.take(scattered(4_000), NOW_MS)
    told = live.take([CAFE] * 8, NOW_MS + 1_000)
    assert [(one.change, one.lat, one.lon) for one in told] == [("born", pytest.approx(40.75), pytest.approx(-73.99))]


@pytest.mark.parametrize("read_back", [False, True])
@pytest.mark.parametrize("partitions", [1, 4])
def test_moves_follow_their_crowds_with_the_next_records(partitions: int, read_back: bool) -> None:
    live, park = Live(partitions), (40.78, -73.97)
    live.take([CAFE] * 97, NOW_MS)
    told = live.patterns_of([park] * 97, NOW_MS + 1_000)
    assert [one.count for one in clusters_of(told)] == [97] and moves_of(told) == []
    if read_back:
        name, stage = "region" if partitions == 1 else "union", teller_stage(live.pipeline)
        live.pipeline.stages[name] = [stage_factory(name, live.pipeline.settings)(0, stage.to_bytes())]
    (move,) = moves_of(live.patterns_of_tick(0, NOW_MS + 1_100))
    assert move.total == 97.0
    assert moves_of(live.patterns_of_tick(0, NOW_MS + 1_200)) == []


@pytest.mark.parametrize("partitions", [1, 4])
def test_crowds_are_looked_at_only_so_often(partitions: int) -> None:
    live = Live(partitions)
    live.take(scattered(1_000), NOW_MS)
    assert live.take([CAFE] * 20, NOW_MS + TELL_EVERY_MS // 2) == []
    assert [one.change for one in live.take([CAFE], NOW_MS + TELL_EVERY_MS)] == ["born"]


def test_a_backlog_is_looked_at_before_it_has_passed() -> None:
    live = Live(1)
    live.take(scattered(1_000), NOW_MS)
    assert [one.change for one in live.take([CAFE] * 120, NOW_MS + 1)] == ["born"]


def test_a_larger_window_is_looked_at_less_often() -> None:
    live, large = Live(1), scattered(40_000)
    live.take(large, NOW_MS)
    assert live.take([CAFE] * 20, NOW_MS + TELL_EVERY_MS) == []
    assert len(live.take([CAFE], NOW_MS + 2 * TELL_EVERY_MS + 1)) == 1


@pytest.mark.parametrize("partitions", [1, 4])
def test_the_last_people_before_a_pause_are_told_by_a_tick(partitions: int) -> None:
    live = Live(partitions)
    live.take(scattered(1_000), NOW_MS)
    assert live.take([CAFE] * 20, NOW_MS + 1) == []
    quiet_ms = round(TELL_EVERY_MS * QUIET_SHARE)
    for partition in range(partitions):
        assert live.tick(partition, NOW_MS + quiet_ms - 1) == []
    assert [one.count for one in live.tick(0, NOW_MS + quiet_ms + 1)] == [20]
    assert live.tick(0, NOW_MS + 100 * TELL_EVERY_MS) == []


def test_while_another_partition_has_events_a_tick_tells_no_sooner_than_they_do() -> None:
    live = Live(4)
    live.take(scattered(1_000), NOW_MS)
    assert live.take([CAFE] * 20, NOW_MS + 1) == []
    for partition in range(3):
        assert live.tick(partition, NOW_MS + TELL_EVERY_MS - 1) == []
    assert [one.count for one in live.tick(0, NOW_MS + TELL_EVERY_MS + 1)] == [20]


def test_a_tick_of_one_partition_says_nothing_of_another_ones_clock() -> None:
    live = Live(4)
    live.take(scattered(1_000), NOW_MS)
    assert live.take([CAFE] * 20, NOW_MS + 1) == []
    hour_ms = 3_600_000
    assert len(live.tick(2, NOW_MS + hour_ms)) == 1  # another worker's clock is an hour ahead
    live.take([CAFE] * 30, NOW_MS + 2)
    assert len(live.tick(1, NOW_MS + TELL_EVERY_MS + 2)) == 1


def test_a_telling_that_no_region_answers_is_repeated_after_a_minute() -> None:
    live = Live(4)
    live.take(scattered(1_000), NOW_MS)
    union: Any = teller_stage(live.pipeline)
    union._asked = Cut(99, [], 0, True, False)
    assert live.take([CAFE] * 20, NOW_MS + UNANSWERED_MS - 1) == []
    assert [one.change for one in live.take([CAFE], NOW_MS + UNANSWERED_MS + 1)] == ["born"]


def test_a_clock_that_was_set_back_delays_crowds_by_no_more_than_a_pause() -> None:
    live = Live(1)
    live.take([CAFE] * 200, NOW_MS)
    live.take(scattered(1_000), NOW_MS + TELL_EVERY_MS)
    assert live.take([CAFE] * 60, NOW_MS - 5_000_000) == []
    assert [one.change for one in live.take([CAFE], NOW_MS - 5_000_000 + TELL_EVERY_MS)] == ["grown"]


@pytest.mark.parametrize("partitions", [1, 4])
def test_a_state_that_was_read_back_keeps_its_pause(partitions: int) -> None:
    live = Live(partitions)
    live.take(scattered(1_000), NOW_MS)
    stage = teller_stage(live.pipeline)
    name = "region" if partitions == 1 else "union"
    live.pipeline.stages[name] = [stage_factory(name, live.pipeline.settings)(0, stage.to_bytes())]
    assert live.take([CAFE] * 20, NOW_MS + TELL_EVERY_MS // 2) == []
    assert len(live.take([CAFE], NOW_MS + TELL_EVERY_MS)) == 1


def test_a_quiet_partition_ticks_at_growing_distances_and_then_no_more() -> None:
    ticker = Ticker(None, Round())  # type: ignore[arg-type]
    look_s = np.arange(0.0, 3 * LAST_AFTER_S, 0.02)
    ticks = [float(at) for at in look_s if ticker.notice(3, 7, float(at), is_idle=True)]
    assert ticks[0] == pytest.approx(FIRST_AFTER_S, abs=0.021)
    assert np.allclose(np.diff(ticks), np.array(ticks[:-1]), atol=0.2)
    assert len(ticks) < 12 and ticks[-1] <= LAST_AFTER_S + 0.1


def test_a_partition_with_events_does_not_tick() -> None:
    ticker = Ticker(None, Round())  # type: ignore[arg-type]
    assert not any(ticker.notice(3, at, 0.75 * FIRST_AFTER_S * at, is_idle=True) for at in range(100))


def test_a_busy_worker_waits_longer_until_it_has_asked_for_events_in_vain() -> None:
    ticker, round_, at_s = Ticker(None, Round()), Round(), 1.5 * FIRST_AFTER_S  # type: ignore[arg-type]
    assert not ticker.notice(3, 7, 0.0, round_.has_asked_in_vain(0.0))
    assert not ticker.notice(3, 7, at_s, round_.has_asked_in_vain(at_s))
    round_.note_asking(at_s)
    assert not ticker.notice(3, 7, at_s + 0.01, round_.has_asked_in_vain(at_s + 0.01))
    round_.note_asking(at_s + 0.01)
    assert ticker.notice(3, 7, at_s + 0.02, round_.has_asked_in_vain(at_s + 0.02))
    round_.note_fetched()
    assert not round_.has_asked_in_vain(9.0)


def test_a_busy_worker_ticks_all_the_same() -> None:
    ticker = Ticker(None, Round())  # type: ignore[arg-type]
    looks_s = np.arange(0.0, 1.5 * WHEN_BUSY * FIRST_AFTER_S, 0.02)
    ticks_s = [float(at) for at in looks_s if ticker.notice(3, 7, float(at), is_idle=False)]
    assert ticks_s == [pytest.approx(WHEN_BUSY * FIRST_AFTER_S, abs=0.021)]
