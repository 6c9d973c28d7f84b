"""The table of contexts doubles where it lies: every context is found afterwards, and none is made up."""

import numpy as np
import pytest

from processors.growing import LARGE_PAGE
from processors.sequence import TransitionCounts, warm_up
from processors.sequence.contexts import find_context, move_contexts, spread_contexts
from processors.sequence.tables import CONTEXT


def table_of(keys: np.ndarray, size: int) -> np.ndarray:
    """A table of ``size`` slots with the keys, and as many empty slots behind it."""
    held = np.zeros(len(keys), CONTEXT)
    held["owner"], held["previous"], held["last"], held["capacity"] = *keys.T, 2
    held["block"] = np.arange(len(keys))
    table = np.zeros(2 * size, CONTEXT)
    move_contexts(held, table[:size])
    return table


@pytest.mark.parametrize("seed", range(200))
def test_every_context_is_found_in_a_table_that_was_spread(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.choice([4, 64, 1024]))
    keys = rng.integers(-(2**62), 2**62, (int(size * rng.uniform(0.0, 2 / 3)), 3))
    table = table_of(keys, size)
    spread_contexts(table, size)
    slots = [find_context(table, *key) for key in keys]
    assert table["block"][slots].tolist() == list(range(len(keys)))
    assert np.count_nonzero(table["capacity"]) == len(keys)


def test_runs_round_the_end_of_the_table_occur_among_these() -> None:
    rounds = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        table = table_of(rng.integers(-(2**62), 2**62, (42, 3)), 64)[:64]
        rounds += bool(table["capacity"][0] and table["capacity"][-1])
    assert rounds > 20


def test_counts_are_exact_in_tables_that_grew_where_they_lay() -> None:
    n = LARGE_PAGE // CONTEXT.itemsize * 3
    counts, codes = TransitionCounts(max_contexts=1 << 20), np.arange(n)
    for part in np.array_split(codes, 40):
        counts.update(part, part + 1, np.zeros(len(part)))
        counts.update(part, part + 2, np.zeros(len(part)))
    assert counts.n_contexts == n
    listed = counts.heaviest(codes, 0.0, 3)
    assert (listed.states[:, :2] == np.stack([codes + 1, codes + 2], axis=1)).all()
    assert (listed.total == 2.0).all() and (listed.held == 2).all()
    again = TransitionCounts.from_bytes(counts.to_bytes())
    assert (again.heaviest(codes, 0.0, 3).states == listed.states).all()


def test_the_kernel_that_spreads_a_table_is_compiled_before_a_large_one_needs_it() -> None:
    warm_up()
    compiled = len(spread_contexts.signatures)
    n = LARGE_PAGE // CONTEXT.itemsize * 2
    TransitionCounts(max_contexts=1 << 20).update(np.arange(n), np.arange(n), np.zeros(n))
    assert compiled == len(spread_contexts.signatures) > 0
