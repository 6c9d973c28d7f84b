"""What transition counts predict: own contexts first, then what is popular, strongest first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from exact_counts import HALF_LIFE_S, feed, stream

from processors.sequence import NO_STATE, TransitionCounts


def test_one_context_before_all_its_states_are_followed_by_others_predicts_plain_shares() -> None:
    counts = TransitionCounts(half_life_s=10.0)
    counts.update([7] * 4, [1, 1, 2, 3], [0.0, 10.0, 10.0, 0.0])
    states, probabilities = counts.predict(7, 10.0)
    assert states.tolist() == [1, 2, 3]
    np.testing.assert_allclose(probabilities, [0.5, 1 / 3, 1 / 6])


def test_unknown_context_falls_back_to_what_is_popular() -> None:
    counts = TransitionCounts()
    counts.update([1, 1, 2], [5, 5, 6], [0.0, 0.0, 0.0])
    for context in (99, (1, 99), (NO_STATE, NO_STATE), None):
        states, probabilities = counts.predict(context, 0.0, k=1)
        assert states.tolist() == [5] and probabilities.tolist() == [pytest.approx(2 / 3)]


def test_recent_states_speak_each_through_its_own_context() -> None:
    columns = stream(5, 400, states=12)
    counts = TransitionCounts(half_life_s=HALF_LIFE_S)
    feed(counts, columns | {"owner": np.full(400, NO_STATE)}, [])
    recent, states = [3, 99, 5], np.arange(-3, 9)
    each = [counts.probabilities(state, states, 900.0) for state in recent]
    expected = (each[0] + 0.5 * each[1] + 0.25 * each[2]) / 1.75
    predicted, shares = counts.predict_recent(recent, 900.0, k=12)
    np.testing.assert_allclose(shares, expected[predicted + 3])
    np.testing.assert_allclose(shares, np.sort(expected)[::-1])
    assert counts.predict_recent([3], 900.0)[0].tolist() == counts.predict(3, 900.0)[0].tolist()
    for named, arguments in (("fade", ([1], 0.0, 1, 1.0)), ("recent", ([], 0.0)), ("k must", ([1], 0.0, 0))):
        with pytest.raises(ValueError, match=named):
            counts.predict_recent(*arguments)


def test_nothing_known_predicts_nothing() -> None:
    states, probabilities = TransitionCounts().predict(1, 0.0)
    assert len(states) == len(probabilities) == 0


def test_popular_states_beyond_the_ready_list_are_found_too() -> None:
    counts = TransitionCounts(half_life_s=1e9)
    states = np.repeat(np.arange(3000), np.arange(3000) % 7 + 1)
    counts.update(np.full(len(states), NO_STATE), states, np.zeros(len(states)))
    predicted, probabilities = counts.predict(None, 0.0, k=3000)
    expected = sorted(range(3000), key=lambda s: (-(s % 7 + 1), s))
    assert predicted.tolist() == expected and probabilities.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("k", [1, 290, 400, 700, 1000])
def test_popular_states_outrank_what_has_faded_in_a_row_whether_listed_or_not(k: int) -> None:
    counts = TransitionCounts(half_life_s=1.0)
    counts.update(np.ones(300, np.int64), np.arange(10_000, 10_300), np.zeros(300))
    popular = np.repeat(np.arange(3000), np.arange(3000) % 7 + 1)
    counts.update(np.full(len(popular), NO_STATE), popular, np.full(len(popular), 40.0))
    counts.update([1], [5], [40.0])
    known = np.r_[np.arange(3000), np.arange(10_000, 10_300)]
    share = counts.probabilities(1, known, 40.0)
    expected = known[np.lexsort((known, -share))][:k]
    assert counts.predict(1, 40.0, k=k)[0].tolist() == expected.tolist()


@pytest.mark.parametrize("context", [(1,), (1, 2, 3)])
def test_a_context_of_one_or_three_states_in_a_tuple_is_refused(context: Any) -> None:
    counts = TransitionCounts()
    counts.update([[1, 2]], [3], [0.0])
    with pytest.raises(ValueError, match=r"\(previous, last\)"):
        counts.predict(context, 0.0)
