"""Events that arrive late, the classic rankers, and the simulated A/B test."""

import numpy as np
import pytest

from chronotope.evaluation.ab import simulate
from chronotope.evaluation.beside import Beside
from chronotope.evaluation.results import Course, Result
from chronotope.evaluation.runner import Evaluation, check_names, evaluate
from chronotope.evaluation.stream import Stream, stream_of
from model_server.fusion.settings import FusionSettings
from schemas.events import BehaviorEvent

SMALL = FusionSettings(history=64, micro_batch=32, replay_events=32, sequence="")
HOUR_MS = 3_600_000


def rounds(n: int = 600, users: int = 6, noise: float = 0.0, seed: int = 0) -> Stream:
    """Everybody walks around three items of their own, in turn; now and then ``noise`` leads elsewhere."""
    rng = np.random.default_rng(seed)
    steps = np.zeros(users, int)
    events = []
    for number in range(n):
        user = int(rng.integers(users))
        item = f"i{rng.integers(3 * users)}" if rng.random() < noise else f"i{3 * user + steps[user] % 3}"
        steps[user] += 1
        events.append(
            BehaviorEvent(event_id=str(number), user_id=f"u{user}", item_id=item, action="view",
                          event_time_ms=number * HOUR_MS // 10)
        )  # fmt: skip
    return stream_of(events)


def test_without_delay_late_answers_are_the_answers() -> None:
    stream = rounds(noise=0.2)
    found = evaluate(stream, "request", ("fused", "fused-after-0"), settings=SMALL, patterns=False).results
    assert np.array_equal(found["fused"].ranks, found["fused-after-0"].ranks)


def test_who_learns_of_the_last_event_too_late_does_not_know_the_next() -> None:
    found = evaluate(
        rounds(), "request", ("fused", "fused-after-1", "fused-after-21600"), settings=SMALL, patterns=False
    )
    fresh, second, hours = ((found.results[name].ranks <= 1).mean() for name in found.results)
    assert fresh > 0.9 and second == fresh
    assert hours < 0.6, "ten events of everybody are missing: the turn of the round is lost"


def test_a_user_of_whom_nothing_has_arrived_is_shown_what_is_popular() -> None:
    stream = rounds(100)
    found = evaluate(stream, "request", ("fused-after-1e9",), settings=SMALL, patterns=False)
    assert np.isnan(found.results["fused-after-1e9"].ranks).sum() == 0
    assert (found.results["fused-after-1e9"].lists == -1).all(), "nothing has ever arrived"


def test_a_delay_needs_a_number_and_a_request() -> None:
    with pytest.raises(ValueError, match="no delay in seconds"):
        check_names(["fused-after-dinner"])
    with pytest.raises(ValueError, match="request"):
        evaluate(rounds(50), "refresh", ("fused-after-60",), settings=SMALL)
    with pytest.raises(ValueError, match="unknown experts weather"):
        check_names(["fused-without-weather"])


@pytest.mark.parametrize("name", ["logistic_regression", "factorisation_machine"])
def test_classic_rankers_learn_the_turn_of_the_round(name: str) -> None:
    found = evaluate(rounds(noise=0.05), "refresh", (name, "counter"), warmup=0.4).results
    assert (found[name].ranks <= 1).mean() > 0.75 > (found["counter"].ranks <= 1).mean()


def test_a_pair_is_as_good_as_its_better_half_and_beats_both_when_they_share_the_work() -> None:
    stream = rounds(noise=0.3)
    names = ("counter", "markov", "popularity", "counter+markov", "markov+popularity")
    found = evaluate(stream, "refresh", names).results
    mrr = {name: (1 / result.ranks).mean() for name, result in found.items()}
    assert mrr["counter+markov"] > max(mrr["counter"], mrr["markov"]) - 0.01
    assert mrr["markov+popularity"] > mrr["markov"] - 0.02 > mrr["popularity"]
    with pytest.raises(ValueError, match="unknown strategy 'counter\\+oracle'"):
        check_names(["counter+oracle"])


def test_a_pair_can_listen_to_the_sequence_model() -> None:
    settings = FusionSettings(history=64, micro_batch=32, replay_events=32)
    found = evaluate(rounds(300), "request", ("sequence+counter", "sequence", "counter"), settings=settings).results
    mrr = {name: (1 / result.ranks).mean() for name, result in found.items()}
    assert mrr["sequence+counter"] > mrr["counter"]


def test_a_second_process_gives_the_same_results() -> None:
    stream = rounds(300)
    course = Course.of(stream, "refresh", 0.2, 0.2)
    seen: list[tuple[str, int]] = []
    beside = Beside(course, ("counter", "markov"), lambda *told: seen.append(told))
    there, here = beside.results(), evaluate(stream, "refresh", ("counter", "markov")).results
    assert all(np.array_equal(there[name].ranks, here[name].ranks) for name in here)
    assert ("markov", len(stream)) in seen


def compared(first: float, second: float, users: int = 4000, events: int = 5) -> Evaluation:
    """Two strategies that put the target first in these shares of the events, else nowhere."""
    rng = np.random.default_rng(1)
    stream = stream_of(
        BehaviorEvent(event_id=str(n), user_id=f"u{n % users}", item_id=f"i{n % 7}", action="view", event_time_ms=n)
        for n in range(users * (events + 1))
    )
    at = np.flatnonzero(stream.previous >= 0)
    results = {}
    for name, share in (("a", first), ("b", second)):
        hit = rng.random(len(at)) < share
        lists = np.full((len(at), 10), -1)
        lists[:, 0] = np.where(hit, stream.item[at], (stream.item[at] + 1) % 7)
        results[name] = Result(np.where(hit, 1.0, np.inf), lists, np.full(len(at), np.nan))
    return Evaluation(stream, "request", at, results)


def test_a_clear_difference_is_found_and_a_small_one_needs_more_users() -> None:
    clear, small = simulate(compared(0.5, 0.3), "a", "b"), simulate(compared(0.5, 0.48), "a", "b")
    assert clear.ci95[0] < 0.2 < clear.ci95[1] and clear.p_value < 1e-6
    assert clear.needed_users is not None and small.needed_users is not None
    # two proportions, 5 events per user: (1.96 + 0.84)^2 (p q + p' q') / 20 / difference^2
    assert clear.needed_users == pytest.approx(7.85 * (0.25 + 0.21) / 5 / 0.04, rel=0.15)
    assert small.needed_users > 20 * clear.needed_users
    assert clear.interleaved.first_wins > clear.interleaved.second_wins
    assert clear.interleaved.needed_events is not None and clear.interleaved.p_value < 1e-6


def test_a_p_value_is_small_where_a_difference_is_clear_but_never_zero() -> None:
    assert 0 < simulate(compared(0.5, 0.3), "a", "b").p_value < 1e-12


def test_equal_strategies_are_not_told_apart() -> None:
    test = simulate(compared(0.4, 0.4), "a", "b")
    assert test.ci95[0] < 0 < test.ci95[1] and test.p_value > 0.01
    with pytest.raises(ValueError, match="'c' was not evaluated"):
        simulate(compared(0.4, 0.4), "a", "c")
