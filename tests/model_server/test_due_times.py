"""A user is refreshed before the usual visit, a missed visit is expected again, and old data announce nothing."""

from model_server.refresh.due import DueTimes
from schemas.patterns import PeriodEstimate, PeriodicityUpdate

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW_MS = 1_700_000_000_000


def periodicity(
    due_ms: int, version: int = 1, period_s: float = 86_400.0, user: str | None = "ann"
) -> PeriodicityUpdate:
    period = PeriodEstimate(
        period_s=period_s, phase_s=0.0, period_kind="recurring", strength=0.9, p_value=1e-9, next_due_ms=due_ms
    )
    return PeriodicityUpdate(
        entity_kind="user_item",
        entity="ann\x1fcafe",
        version=version,
        event_time_ms=0,
        periods=[period],
        user_id=user,
        item_id="cafe",
    )


def test_a_visit_is_prepared_an_hour_ahead() -> None:
    due = DueTimes(lead_s=3600.0)
    due.note(periodicity(NOW_MS + 2 * HOUR_MS), NOW_MS)
    assert due.pop_due(NOW_MS + HOUR_MS - 1) == []
    (visit,) = due.pop_due(NOW_MS + HOUR_MS)
    assert (visit.user_id, visit.due_ms) == ("ann", NOW_MS + 2 * HOUR_MS)
    assert due.pop_due(NOW_MS + 2 * HOUR_MS) == []


def test_a_newer_version_replaces_the_due_time_and_an_older_one_does_not() -> None:
    due = DueTimes(lead_s=0.0)
    due.note(periodicity(NOW_MS + 10, version=1), NOW_MS)
    due.note(periodicity(NOW_MS + HOUR_MS, version=3), NOW_MS)
    due.note(periodicity(NOW_MS + 20, version=2), NOW_MS)
    assert due.pop_due(NOW_MS + HOUR_MS - 1) == []
    assert [visit.version for visit in due.pop_due(NOW_MS + HOUR_MS)] == [3]


def test_a_missed_visit_is_expected_three_more_times() -> None:
    due = DueTimes(lead_s=0.0)
    due.note(periodicity(NOW_MS + 1), NOW_MS)
    announced = [day for day in range(10) if due.pop_due(NOW_MS + 1 + day * DAY_MS)]
    assert announced == [0, 1, 2, 3]


def test_patterns_of_long_ago_announce_nothing() -> None:
    due = DueTimes(lead_s=3600.0)
    due.note(periodicity(NOW_MS - 4000 * DAY_MS), NOW_MS)
    assert len(due) == 0


def test_a_visit_missed_yesterday_is_expected_today() -> None:
    due = DueTimes(lead_s=0.0)
    due.note(periodicity(NOW_MS - DAY_MS + 5), NOW_MS)
    assert [visit.due_ms for visit in due.pop_due(NOW_MS + 5)] == [NOW_MS + 5]


def test_a_retired_pattern_announces_nothing() -> None:
    due = DueTimes(lead_s=0.0)
    due.note(periodicity(NOW_MS + 5), NOW_MS)
    retired = PeriodicityUpdate(
        entity_kind="user_item",
        entity="ann\x1fcafe",
        version=2,
        event_time_ms=0,
        periods=[],
        user_id="ann",
        item_id="cafe",
    )
    due.note(retired, NOW_MS)
    assert due.pop_due(NOW_MS + DAY_MS) == []


def test_periods_of_a_place_concern_nobody_alone() -> None:
    due = DueTimes(lead_s=0.0)
    due.note(periodicity(NOW_MS + 5, user=None), NOW_MS)
    assert len(due) == 0
