"""Who is refreshed next: coalesced, most valuable first, nobody starved, within the budget."""

from hypothesis import given, settings
from hypothesis import strategies as st

from model_server.refresh.scheduler import RefreshScheduler

PATIENCE_S = {"event": 0.05, "pattern": 0.5, "due": 0.5, "request": 0.01}


def names(scheduler: RefreshScheduler, now_s: float, limit: int = 100) -> list[str]:
    return [refresh.user_id for refresh in scheduler.take(now_s, limit)]


def test_many_causes_of_one_user_are_one_refresh_since_the_first() -> None:
    scheduler = RefreshScheduler(PATIENCE_S)
    for ms in (30, 10, 20):
        scheduler.mark("ann", "event", now_s=0.0, since_ms=ms)
    (refresh,) = scheduler.take(0.0, 10)
    assert (refresh.user_id, refresh.since_ms) == ("ann", 10)
    assert len(scheduler) == 0


def test_an_event_takes_precedence_over_a_pattern_whichever_came_first() -> None:
    scheduler = RefreshScheduler(PATIENCE_S)
    scheduler.mark("ann", "pattern", now_s=0.0, since_ms=0, now_ms=99)
    scheduler.mark("ann", "event", now_s=0.0, since_ms=1)
    scheduler.mark("bob", "event", now_s=0.0, since_ms=0)
    scheduler.mark("bob", "pattern", now_s=0.0, since_ms=1, now_ms=99)
    assert [(r.trigger, r.now_ms) for r in scheduler.take(0.0, 10)] == [("event", None), ("event", None)]


def test_the_more_valuable_of_two_marks_goes_first() -> None:
    scheduler = RefreshScheduler(PATIENCE_S)
    scheduler.mark("poor", "pattern", now_s=0.0, since_ms=0, value=0.1)
    scheduler.mark("rich", "pattern", now_s=0.0, since_ms=0, value=2.0)
    assert names(scheduler, 0.0) == ["rich", "poor"]


def test_a_held_mark_waits_and_an_event_releases_it() -> None:
    scheduler = RefreshScheduler(PATIENCE_S)
    scheduler.mark("ann", "pattern", now_s=0.0, since_ms=0, not_before_s=5.0)
    scheduler.mark("bob", "pattern", now_s=0.0, since_ms=0, not_before_s=5.0)
    assert names(scheduler, 4.9) == []
    scheduler.mark("ann", "event", now_s=4.9, since_ms=0)
    assert names(scheduler, 4.9) == ["ann"]
    assert names(scheduler, 5.0) == ["bob"]


def test_the_budget_limits_the_rate_and_the_least_valuable_wait() -> None:
    scheduler = RefreshScheduler(PATIENCE_S, per_s=10.0)
    for n in range(20):
        scheduler.mark(f"pattern-{n}", "pattern", now_s=0.0, since_ms=0)
    scheduler.mark("event", "event", now_s=0.0, since_ms=0)
    taken = [(step / 10, name) for step in range(23) for name in names(scheduler, step / 10)]
    assert taken[0] == (0.0, "event")
    assert len(taken) == 21
    assert taken[-1][0] >= 1.9


def test_under_steady_overload_an_old_cheap_mark_is_served() -> None:
    scheduler = RefreshScheduler(PATIENCE_S)
    scheduler.mark("cheap", "pattern", now_s=0.0, since_ms=0, value=0.5)
    served = []
    for step in range(200):
        now_s = step / 100
        for n in range(3):
            scheduler.mark(f"event-{step}-{n}", "event", now_s=now_s, since_ms=0)
        served += names(scheduler, now_s, limit=2)
    assert "cheap" in served


def test_forgotten_users_are_not_refreshed() -> None:
    scheduler = RefreshScheduler(PATIENCE_S)
    scheduler.mark("gone", "event", now_s=0.0, since_ms=0)
    scheduler.mark("here", "pattern", now_s=0.0, since_ms=0, not_before_s=1.0)
    scheduler.forget(lambda user: user == "gone", now_s=0.0)
    assert names(scheduler, 1.0) == ["here"]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 5), st.sampled_from(["event", "pattern", "due"]), st.floats(0.1, 10.0), st.floats(0, 2)
        )
    ),
    st.integers(1, 4),
)
def test_every_marked_user_is_taken_once(marks: list[tuple[int, str, float, float]], limit: int) -> None:
    scheduler = RefreshScheduler(PATIENCE_S)
    for number, trigger, value, hold_s in marks:
        scheduler.mark(f"u{number}", trigger, now_s=0.0, since_ms=0, value=value, not_before_s=hold_s)  # type: ignore[arg-type]
    taken: list[str] = []
    for step in range(30):
        taken += names(scheduler, step / 10, limit)
    assert sorted(taken) == sorted({f"u{number}" for number, *_ in marks})
