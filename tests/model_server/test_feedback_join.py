"""Impressions, clicks and dismissals become labels once, within the window, for the right user only."""

import msgspec
import pytest

from model_server.feedback import FeedbackJoiner, Shown
from schemas.events import RecommendationFeedback

OFFER = Shown(user_id="ann", strategy="a+b", item_ids=("cafe", "gym"), chosen_by=("a", "b"))


def feedback(
    kind: str, time_ms: int = 0, item: str = "cafe", user: str = "ann", request: str = "r"
) -> RecommendationFeedback:
    return RecommendationFeedback(request_id=request, user_id=user, item_id=item, kind=kind, event_time_ms=time_ms)  # type: ignore[arg-type]


@pytest.fixture
def joiner() -> FeedbackJoiner:
    joiner = FeedbackJoiner(window_s=60.0)
    joiner.shown("r", OFFER)
    return joiner


def outcomes(joiner: FeedbackJoiner, *messages: RecommendationFeedback) -> list[tuple[str, str]]:
    return [(label.item_id, label.outcome) for message in messages for label in joiner.join(message)]


def test_a_click_within_the_window_is_a_label_with_position_and_strategy(joiner: FeedbackJoiner) -> None:
    joiner.join(feedback("impression", item="gym"))
    (label,) = joiner.join(feedback("click", 60_000, item="gym"))
    assert (label.outcome, label.position, label.strategy) == ("click", 1, "b")


def test_what_comes_twice_counts_once(joiner: FeedbackJoiner) -> None:
    click = feedback("click", 1)
    assert outcomes(joiner, feedback("impression"), feedback("impression"), click, click) == [("cafe", "click")]


def test_an_impression_without_an_answer_is_ignored_after_the_window(joiner: FeedbackJoiner) -> None:
    assert outcomes(joiner, feedback("impression"), feedback("impression", 61_000, item="gym")) == [("cafe", "ignored")]
    assert outcomes(joiner, feedback("click", 61_001)) == []


def test_a_click_without_an_impression_counts(joiner: FeedbackJoiner) -> None:
    assert outcomes(joiner, feedback("click", 5)) == [("cafe", "click")]


def test_a_dismissal_is_a_label(joiner: FeedbackJoiner) -> None:
    assert outcomes(joiner, feedback("impression"), feedback("dismissal", 5)) == [("cafe", "dismissal")]


@pytest.mark.parametrize("change", [{"user": "bob"}, {"item": "bar"}, {"request": "other"}])
def test_feedback_on_what_was_not_shown_to_the_user_is_nothing(joiner: FeedbackJoiner, change: dict[str, str]) -> None:
    assert joiner.offer_of(feedback("click", **change)) is None
    assert outcomes(joiner, feedback("click", **change)) == []


def test_a_restored_joiner_goes_on_where_the_saved_one_stood(joiner: FeedbackJoiner) -> None:
    joiner.join(feedback("impression"))
    joiner.join(feedback("click", 1, item="gym"))
    restored = FeedbackJoiner(window_s=60.0)
    restored.load_state(joiner.state())
    assert outcomes(restored, feedback("click", 2, item="gym"), feedback("click", 3)) == [("cafe", "click")]


def test_memory_is_bounded() -> None:
    joiner = FeedbackJoiner(window_s=1e9, limit=10)
    for n in range(100):
        joiner.shown(f"r{n}", OFFER)
        joiner.join(feedback("impression", n, request=f"r{n}"))
        joiner.join(feedback("click", n, request=f"r{n}", item="gym"))
    shown, waiting, decided, _ = msgspec.msgpack.decode(joiner.state())
    assert max(len(shown), len(waiting), len(decided)) <= 11


def test_what_is_not_its_state_is_refused(joiner: FeedbackJoiner) -> None:
    with pytest.raises(ValueError, match="Expected"):
        joiner.load_state(msgspec.msgpack.encode([1]))
