"""Whatever a model ranks, no rule is broken, and a known catalogue never gives an empty answer."""

import math
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model_server.items import ItemTable, metres_between
from model_server.metrics import ServerMetrics
from model_server.ranking import Query, RankedItem, Ranking
from model_server.reasons import ReasonWriter
from model_server.recommending import Recommender, Task
from model_server.rules.fallback import FallbackRanker
from model_server.rules.hard import Constraints, RowMap, allowed_mask, permits, permits_all
from model_server.settings import ServerSettings
from model_server.strategies import Strategy, StrategySet
from model_server.versions import VersionClock
from schemas.events import BehaviorEvent, Item

CATEGORIES = ("coffee", "bar", "gym")


class Adversary:
    """A ranker that says whatever it is told, or fails."""

    model_version = "adversary"

    def __init__(self, answers: Sequence[tuple[str, float]] | None) -> None:
        self.answers = answers
        self.asked: list[Query] = []

    def observe(self, events: Sequence[BehaviorEvent]) -> None: ...

    def upsert_items(self, items: Sequence[Item]) -> None: ...

    def apply_patterns(self, patterns: Sequence[object]) -> set[str]:
        return set()

    def rank(self, queries: Sequence[Query]) -> list[Ranking]:
        self.asked += queries
        if self.answers is None:
            raise RuntimeError("no model")
        items = [
            RankedItem(item_id=item, row=0, probability=p, experts=("habit",), shares=np.array([p]))
            for item, p in self.answers
        ]
        return [Ranking(user_id=query.user_id, items=items, explore_probability=0.5) for query in queries]

    def state(self) -> dict[str, object]:
        return {}

    def load_state(self, state: dict[str, object]) -> None: ...


def recommender(items: ItemTable, ranker: Adversary, **changes: object) -> Recommender:
    metrics = ServerMetrics()
    strategy = Strategy(name="adversary", ranker=ranker, item_ids=lambda: items.item_ids)
    strategies = StrategySet(lambda: (FallbackRanker(items), [strategy]), metrics)
    server_settings = ServerSettings(redis=None, strategies={"adversary": 1.0}, **changes)  # type: ignore[arg-type]
    return Recommender(server_settings, items, strategies, ReasonWriter(items, 3), VersionClock(), metrics)


def catalogue(size: int) -> ItemTable:
    items = ItemTable()
    items.upsert(
        [
            Item(
                item_id=f"i{n}", categories=[CATEGORIES[n % 3]], available=n % 5 != 0,
                lat=40.0 + n / 1000 if n % 4 else None, lon=-74.0 if n % 4 else None,
            )
            for n in range(size)
        ]
    )  # fmt: skip
    return items


constraints = st.builds(
    Constraints,
    excluded=st.frozensets(st.sampled_from([f"i{n}" for n in range(40)]), max_size=30),
    categories=st.frozensets(st.sampled_from(CATEGORIES), max_size=2),
    lat=st.just(40.0),
    lon=st.just(-74.0),
    radius_m=st.none() | st.floats(0, 5_000),
)
names = st.sampled_from([f"i{n}" for n in range(45)] + ["unknown"])
sane = st.lists(st.tuples(names, st.floats(0, 1)), max_size=60)
answers = st.one_of(sane, sane, sane, st.none(), st.lists(st.tuples(names, st.floats(allow_nan=True)), max_size=40))


@settings(max_examples=60, deadline=None)
@given(constraints, answers, st.integers(1, 40), st.sampled_from([0.0, 0.5]))
def test_rules_hold_and_the_answer_is_as_long_as_the_rules_allow(
    limits: Constraints, answer: list[tuple[str, float]] | None, k: int, diversity: float
) -> None:
    items = catalogue(40)
    task = Task(user_id="ann", trigger="event", since_ms=0, k=k, constraints=limits)
    (made,) = recommender(items, Adversary(answer), diversity=diversity).make([task], wall_ms=1_000)
    shown = [item.item_id for item in made.recommendation.items]
    assert len(set(shown)) == len(shown)
    for item_id in shown:
        row = int(item_id[1:])
        assert row % 5 != 0 and row < 40, "withdrawn or unknown"
        assert item_id not in limits.excluded
        assert not limits.categories or CATEGORIES[row % 3] in limits.categories
        if limits.radius_m is not None:
            place = items.place(item_id)
            assert place is not None and metres_between(40.0, -74.0, *place) <= limits.radius_m
    assert len(shown) == min(k, int(allowed_mask(items, limits).sum()))
    assert all(math.isfinite(item.score) for item in made.recommendation.items)


@settings(deadline=None)
@given(constraints)
def test_the_mask_and_the_last_word_agree(limits: Constraints) -> None:
    items = catalogue(40)
    mask = allowed_mask(items, limits)
    assert mask.tolist() == [permits(items, limits, item_id) for item_id in items.item_ids]


@settings(deadline=None)
@given(constraints, st.sets(st.integers(0, 45), max_size=4))
def test_all_together_are_permitted_only_if_each_is(limits: Constraints, rows: set[int]) -> None:
    items, named = catalogue(40), {f"i{row}" for row in rows}
    each = all(permits(items, limits, item_id) for item_id in named)
    assert permits_all(items, limits, named) == (each and not limits.selects)


def test_a_failing_model_still_gives_an_answer_and_is_counted() -> None:
    items = catalogue(40)
    maker = recommender(items, Adversary(None))
    (made,) = maker.make([Task(user_id="new", trigger="request", since_ms=0, k=5)], wall_ms=1)
    assert len(made.recommendation.items) == 5
    registry = maker._metrics.registry
    errors = registry.get_sample_value(
        "chronotope_server_model_errors_total", {"strategy": "adversary", "call": "rank"}
    )
    assert errors == 2.0


def test_an_empty_catalogue_gives_an_empty_answer_without_an_error() -> None:
    (made,) = recommender(ItemTable(), Adversary([])).make([Task(user_id="a", trigger="event", since_ms=0, k=5)], 1)
    assert made.recommendation.items == []


def test_a_few_exclusions_ask_for_a_longer_ranking_and_many_for_a_mask() -> None:
    items, ranker = catalogue(200), Adversary([("i1", 0.5)])
    maker = recommender(items, ranker)
    few, many = (frozenset(f"i{n}" for n in range(count)) for count in (3, 100))
    for excluded in (few, many):
        maker.make([Task(user_id="a", trigger="event", since_ms=0, k=5, constraints=Constraints(excluded=excluded))], 1)
    assert (ranker.asked[0].k, ranker.asked[0].allowed) == (8, None)
    assert (
        ranker.asked[1].allowed is not None
        and ranker.asked[1].allowed.sum() == allowed_mask(items, Constraints(excluded=many)).sum()
    )


def test_a_mask_is_read_in_the_order_of_the_rankers_own_rows() -> None:
    items = ItemTable()
    items.touch(["a", "b", "c"])
    rows = RowMap()
    assert rows.translate(np.array([True, False, True]), items, ["c", "x", "b"]).tolist() == [True, False, False]
    items.touch(["d"])
    assert rows.translate(np.array([True, False, True, True]), items, ["c", "x", "b", "d"]).tolist() == [
        True, False, False, True,
    ]  # fmt: skip


def test_versions_grow_within_and_across_batches_of_one_moment() -> None:
    maker = recommender(catalogue(10), Adversary([("i1", 0.5)]))
    tasks = [Task(user_id=f"u{n}", trigger="event", since_ms=0, k=1) for n in range(5)]
    versions = [made.recommendation.version for _ in range(3) for made in maker.make(tasks, wall_ms=7)]
    assert versions == sorted(set(versions))
