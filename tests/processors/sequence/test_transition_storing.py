"""Transition counts that were stored go on as if they had not been, whole or row by row."""

from __future__ import annotations

import numpy as np
import pytest
from exact_counts import HALF_LIFE_S, feed, stream
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.sequence import NO_STATE, TransitionCounts, TransitionSettings


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 400), max_size=20), bounded=st.booleans())
def test_result_does_not_depend_on_the_batches_nor_on_a_restart(seed: int, cuts: list[int], bounded: bool) -> None:
    columns = stream(seed, 400, states=40, span_s=HALF_LIFE_S * 900)
    columns["time_s"].sort()
    bounds = (
        TransitionSettings(
            half_life_s=HALF_LIFE_S, max_states_per_context=3, max_contexts=20, max_states=8, max_transitions=40
        )
        if bounded
        else TransitionSettings(half_life_s=HALF_LIFE_S)
    )
    at_once, in_parts = TransitionCounts(bounds), TransitionCounts(bounds)
    feed(at_once, columns, [])
    contexts = np.stack([columns["previous"], columns["last"]], 1)
    for part in np.split(np.arange(400), sorted(cuts)):
        in_parts.update(contexts[part], columns["state"][part], columns["time_s"][part], owners=columns["owner"][part])
        in_parts = TransitionCounts.from_bytes(in_parts.to_bytes())
    assert at_once.contexts().tolist() == in_parts.contexts().tolist()
    assert at_once.evicted_contexts == in_parts.evicted_contexts
    now = float(columns["time_s"][-1])
    for owner, previous, last in at_once.contexts().tolist():
        context, asked = (None if last == NO_STATE else (previous, last)), (None if owner == NO_STATE else owner)
        for one, other in zip(
            at_once.predict(context, now, 30, asked), in_parts.predict(context, now, 30, asked), strict=True
        ):
            np.testing.assert_array_equal(one, other)
        for one, other in zip(
            at_once.counts_of(context, now, asked), in_parts.counts_of(context, now, asked), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_rows_restore_a_bank() -> None:
    columns = stream(1, 500, states=20)
    counts, restored = TransitionCounts(half_life_s=HALF_LIFE_S), TransitionCounts(half_life_s=HALF_LIFE_S)
    feed(counts, columns, [])
    for _ in range(2):
        for owner, previous, last in counts.contexts().tolist():
            context, asked = (None if last == NO_STATE else (previous, last)), (None if owner == NO_STATE else owner)
            payload = counts.context_to_bytes(context, owner=asked)
            assert payload is not None
            restored.load_context(payload)
        popularity = counts.context_to_bytes(None)
        assert popularity is not None
        restored.load_context(popularity)
    assert restored.n_contexts == counts.n_contexts and restored.n_transitions == counts.n_transitions
    more = stream(2, 200, states=20)
    feed(counts, more, []), feed(restored, more, [])
    for owner, previous, last in counts.contexts().tolist():
        context, asked = (None if last == NO_STATE else (previous, last)), (None if owner == NO_STATE else owner)
        for one, other in zip(
            counts.predict(context, 1e3, 9, asked), restored.predict(context, 1e3, 9, asked), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_row_of_an_unknown_context_is_a_tombstone() -> None:
    assert TransitionCounts().context_to_bytes(3) is None


def test_row_is_scaled_to_the_bank_it_is_put_in() -> None:
    old, new = TransitionCounts(half_life_s=1.0), TransitionCounts(half_life_s=1.0)
    old.update([1], [2], [10.0])
    new.update([3], [4], [15.0])
    payload = old.context_to_bytes(1)
    assert payload is not None
    new.load_context(payload)
    assert new.count(1, 2, 15.0) == 2.0**-5 and new.count(3, 4, 15.0) == 1.0


def test_damaged_payload_is_refused() -> None:
    counts = TransitionCounts()
    for payload in (b"", b"\x00\x01", b"\x93\x01\x02\x03"):
        with pytest.raises(ValueError, match="payload"):
            TransitionCounts.from_bytes(payload)
        with pytest.raises(ValueError, match="payload"):
            counts.load_context(payload)
