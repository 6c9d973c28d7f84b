"""The classic strategies on streams small enough to rank by hand."""

import numpy as np
import pytest

from chronotope.evaluation.baselines import BASELINES, Baseline
from chronotope.evaluation.stream import stream_of
from schemas.events import BehaviorEvent

HOUR_MS = 3_600_000


def learned(name: str, *rows: tuple[float, str, str], places: dict[str, float] | None = None) -> Baseline:
    """The strategy after these (hour, user, item) events; the last one is only there to be asked about."""
    stream = stream_of(
        BehaviorEvent(
            event_id=str(n), user_id=user, item_id=item, action="view", event_time_ms=int(at * HOUR_MS),
            lat=None if places is None else places[item], lon=None if places is None else 0.0,
            context={"category": item[0]},
        )
        for n, (at, user, item) in enumerate(rows)
    )  # fmt: skip
    strategy = BASELINES[name](stream)
    for at in range(len(stream) - 1):
        strategy.learn(at)
    return strategy


def best(strategy: Baseline, timed: bool = False) -> str:
    stream = strategy.stream
    target = len(stream) - 1
    standing = strategy.recommend(int(stream.previous[target]), target if timed else None)
    names = {int(code): event.item_id for code, event in zip(stream.item, stream.events)}
    return names[int(standing.items[0])]


def test_popularity_counts_everybody() -> None:
    assert (
        best(
            learned(
                "popularity", (0, "a", "x"), (1, "b", "y"), (2, "c", "y"), (3, "a", "x"), (4, "b", "y"), (5, "a", "z")
            )
        )
        == "y"
    )


def test_counter_prefers_the_users_own() -> None:
    assert best(learned("counter", (0, "a", "x"), (1, "b", "y"), (2, "c", "y"), (3, "d", "y"), (4, "a", "z"))) == "x"


def test_markov_follows_what_others_did_next() -> None:
    rows = [
        (0, "a", "x"),
        (1, "a", "y"),
        (2, "b", "x"),
        (3, "b", "y"),
        (4, "c", "z"),
        (5, "c", "z"),
        (6, "c", "x"),
        (7, "c", "q"),
    ]
    assert best(learned("markov", *rows)) == "y"


def test_back_off_prefers_the_users_own_transition() -> None:
    rows = [
        (0, "a", "x"),
        (1, "a", "y"),
        (2, "b", "x"),
        (3, "b", "y"),
        (4, "c", "x"),
        (5, "c", "z"),
        (6, "c", "x"),
        (7, "c", "q"),
    ]
    assert best(learned("backoff_markov", *rows)) == "z"


def test_periodic_knows_the_hour_when_it_is_asked_for_one() -> None:
    rows = [(24 * day + hour, "a", item) for day in range(5) for hour, item in ((8, "x"), (20, "y"), (21, "y"))]
    assert best(learned("periodic", *rows, (24 * 5 + 8, "a", "q")), timed=True) == "x"
    assert best(learned("periodic", *rows, (24 * 5 + 20, "a", "q")), timed=True) == "y"


def test_spatial_prefers_what_is_near() -> None:
    places = {"x": 40.0, "y": 40.001, "z": 41.0, "q": 0.0}
    rows = [(0, "b", "z"), (1, "c", "z"), (2, "b", "y"), (3, "a", "x"), (4, "a", "q")]
    assert best(learned("spatial", *rows, places=places)) in ("x", "y")


def test_item_cf_links_items_of_the_same_people() -> None:
    rows = [
        (0, "a", "x"),
        (1, "a", "y"),
        (2, "b", "x"),
        (3, "b", "y"),
        (4, "d", "z"),
        (5, "e", "z"),
        (6, "c", "x"),
        (7, "c", "q"),
    ]
    assert best(learned("item_cf", *rows)) == "y"


def test_user_cf_borrows_from_the_most_similar() -> None:
    rows = [
        (0, "a", "x"),
        (1, "a", "w"),
        (2, "a", "y"),
        (3, "d", "z"),
        (4, "e", "z"),
        (5, "c", "x"),
        (6, "c", "w"),
        (7, "c", "q"),
    ]
    strategy = learned("user_cf", *rows)
    scores = strategy.scores(6, None)
    code = {event.item_id: int(item) for event, item in zip(strategy.stream.events, strategy.stream.item)}
    assert scores[code["y"]] > scores[code["z"]]


def test_content_prefers_the_users_kind() -> None:
    rows = [(0, "b", "m1"), (1, "d", "b1"), (2, "e", "b1"), (3, "a", "m2"), (4, "a", "q")]
    assert best(learned("content", *rows)).startswith("m")


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_ranks_all_touched_items_and_nothing_else(name: str) -> None:
    rng = np.random.default_rng(2)
    rows = [(float(n), f"u{rng.integers(5)}", f"i{rng.integers(30)}") for n in range(120)]
    strategy = learned(name, *rows, (120.0, rows[0][1], rows[0][2]))
    standing = strategy.recommend(int(strategy.stream.previous[120]), 120)
    assert sorted(standing.items.tolist()) == sorted(set(strategy.stream.item[:120].tolist()))
    assert np.isfinite(standing.scores).all()
