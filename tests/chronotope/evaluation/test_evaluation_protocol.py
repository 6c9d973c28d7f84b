"""The protocol: what is scored, what is a miss, and that nothing of the target leaks into its own ranking."""

import numpy as np
import pytest

from chronotope.evaluation.metrics import intervals_of, metrics_of
from chronotope.evaluation.ranking import Standing
from chronotope.evaluation.runner import DEFAULT, check_names, evaluate
from chronotope.evaluation.stream import Stream, scored_events, stream_of
from model_server.fusion.settings import FusionSettings, Mode
from schemas.events import BehaviorEvent

SMALL = FusionSettings(history=64, micro_batch=32, replay_events=32, sequence="")
BASELINE_NAMES = tuple(name for name in DEFAULT if name not in ("sequence", "fused"))
HOUR_MS = 3_600_000


def visits(*rows: tuple[int, str, str]) -> Stream:
    return stream_of(
        BehaviorEvent(event_id=str(n), user_id=user, item_id=item, action="view", event_time_ms=at)
        for n, (at, user, item) in enumerate(rows)
    )


def by_the_clock(days: int = 60, users: int = 5, hours: int = 24, seed: int = 0) -> Stream:
    """At hour h everybody who comes takes item h: whoever knows the target's hour knows the item, nobody else does."""
    rng = np.random.default_rng(seed)
    rows = []
    for hour in range(days * 24):
        for user in np.flatnonzero(rng.random(users) < 0.15).tolist():
            rows.append((hour * HOUR_MS + int(rng.integers(HOUR_MS)), f"u{user}", f"i{hour % hours}"))
    return visits(*sorted(rows))


def test_an_event_is_scored_after_the_warm_up_if_its_user_was_here_before() -> None:
    stream = visits((0, "a", "x"), (1, "b", "x"), (2, "a", "y"), (3, "c", "x"), (4, "b", "y"))
    assert scored_events(stream, 0.0, 0.0).tolist() == [False, False, True, False, True]
    assert scored_events(stream, 0.5, 0.5).tolist() == [False, False, False, False, True]
    with pytest.raises(ValueError, match="warmup"):
        scored_events(stream, 1.0, 0.0)


def test_events_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="time order"):
        visits((5, "a", "x"), (4, "a", "x"))


@pytest.mark.parametrize("mode", ["refresh", "request"])
def test_what_nobody_has_touched_is_a_miss_and_the_rest_are_ranked(mode: Mode) -> None:
    stream = visits((0, "a", "x"), (1, "b", "x"), (2, "b", "y"), (3, "a", "y"), (4, "a", "x"), (5, "b", "z"))
    ranks = evaluate(stream, mode, ("popularity",), warmup=0.0).results["popularity"].ranks
    # b->y: nobody yet; a->y: the answer after a's first event knows only x; a->x ties with y; b->z: nobody yet
    assert np.isinf(ranks[[0, 3]]).all() and ranks[1] == 2 and ranks[2] == 1.5


def test_ties_take_their_expected_rank() -> None:
    standing = Standing.of(np.array([1, 2, 3]), np.array([0.5, 0.5, 0.1], np.float32))
    assert standing.rank_of(1, 3) == standing.rank_of(2, 3) == 1.5
    assert standing.rank_of(9, 7) == 3 + 2.5, "four unscored items share the places behind"


def test_a_cut_list_never_favours_one_of_equals() -> None:
    standing = Standing.of(np.arange(5000), np.r_[np.full(10, 2.0), np.full(4990, 1.0)].astype(np.float32))
    assert len(standing.items) == 10 and standing.rank_of(4000, 5000) == 10 + 4991 / 2


def test_metrics_of_known_ranks() -> None:
    metrics = metrics_of(np.array([1.0, 3.0, 11.0, np.inf]))
    assert metrics["n"] == 4 and metrics["acc@1"] == 0.25 and metrics["acc@5"] == metrics["acc@10"] == 0.5
    assert metrics["acc@20"] == 0.75 and metrics["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 11) / 4, abs=1e-4)
    assert metrics["ndcg@10"] == pytest.approx((1 + 0.5) / 4, abs=1e-4)
    assert metrics["precision@5"] == pytest.approx(0.1) and metrics["f1@5"] == pytest.approx(
        2 * 0.1 * 0.5 / 0.6, abs=1e-4
    )


def test_intervals_hold_the_mean() -> None:
    rng = np.random.default_rng(0)
    ranks = rng.integers(1, 30, 2000).astype(float)
    low, high = intervals_of(ranks, rng.integers(0, 80, 2000))["acc@10"]
    assert low < (ranks <= 10).mean() < high and high - low < 0.1


def shifted(stream: Stream, hours: int) -> Stream:
    """The same visits, every user's last event ``hours`` later."""
    events = list(stream.events)
    cut = int(np.flatnonzero(stream.has_next)[-1])
    late = [n for n in range(len(events)) if not stream.has_next[n] and n > cut]
    for n in late:
        moved = events[n].event_time_ms + hours * HOUR_MS
        events[n] = BehaviorEvent(
            event_id=events[n].event_id,
            user_id=events[n].user_id,
            item_id=events[n].item_id,
            action="view",
            event_time_ms=moved,
        )
    return stream_of(events)


@pytest.mark.parametrize("name", [*BASELINE_NAMES, "fused"])
def test_a_refresh_does_not_depend_on_when_the_target_comes(name: str) -> None:
    stream = by_the_clock(days=8)
    later = shifted(stream, 7)
    last = [
        evaluate(s, "refresh", (name,), warmup=0.2, settings=SMALL, patterns=False).results[name].ranks[-1]
        for s in (stream, later)
    ]
    assert last[0] == last[1]


def test_only_a_request_can_profit_from_the_clock() -> None:
    stream = by_the_clock(days=40)
    refresh = evaluate(stream, "refresh", ("popularity", "periodic", "fused"), settings=SMALL, patterns=False).results
    request = evaluate(stream, "request", ("periodic", "fused"), settings=SMALL, patterns=False).results
    for name, result in refresh.items():
        assert (result.ranks <= 1).mean() < 0.2, name
    for name, result in request.items():
        assert (result.ranks <= 1).mean() > 0.4, name


def test_a_crowd_between_two_events_of_a_user_is_unknown_to_the_refresh() -> None:
    """Everybody takes the item of the day; what others took after my last event must not show in my standing answer."""
    rows = []
    for day in range(50):
        rows += [(day * 24 * HOUR_MS + n, f"crowd{n}", f"day{day}") for n in range(6)]
        rows.append((day * 24 * HOUR_MS + 1000, "me", f"day{day}"))
    stream = visits(*rows)
    mine = stream.user[stream.previous >= 0] == stream.user[6]
    for name in ("popularity", "item_cf", "fused"):
        ranks = evaluate(stream, "refresh", (name,), warmup=0.0, settings=SMALL, patterns=False).results[name].ranks
        assert (ranks[mine] > 5).mean() > 0.9, name


def test_unknown_strategies_are_named() -> None:
    with pytest.raises(ValueError, match="oracle"):
        check_names(["fused", "oracle"])


def test_a_learning_curve_is_the_mrr_of_each_stretch() -> None:
    evaluation = evaluate(by_the_clock(days=10), "request", ("counter",))
    curve = evaluation.learning_curve(bins=4)
    ranks, until = evaluation.results["counter"].ranks, curve["until"]
    assert until[-1] == 1.0 and len(until) == len(curve["mrr"]["counter"]) == 4
    last = evaluation.at >= round(until[-2] * len(evaluation.stream))
    assert curve["mrr"]["counter"][-1] == pytest.approx((1 / ranks[last]).mean(), abs=0.02)


def test_report_has_every_slice_and_metric() -> None:
    report = evaluate(by_the_clock(days=10), "request", ("counter", "fused-without-hour"), settings=SMALL).report()
    for parts in report.values():
        assert set(parts) == {"all", "revisit", "discovery", "known_discovery"}
        for metrics in parts.values():
            assert {
                "n",
                "acc@1",
                "acc@5",
                "acc@10",
                "acc@20",
                "mrr",
                "ndcg@10",
                "precision@10",
                "recall@10",
                "f1@10",
            } <= set(metrics)
    assert {"coverage@10", "diversity@10"} <= set(report["counter"]["all"])
