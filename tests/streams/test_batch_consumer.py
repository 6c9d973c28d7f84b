"""The batch consumer's arithmetic: how records are cut into batches, and which offset may be committed."""

from collections import defaultdict, deque
from types import SimpleNamespace

from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams.engine import transport
from streams.engine.transport import BatchConsumer, cut_batches

TP0 = TP("events", 0)


def committable(ends: list[int], acknowledged: set[int]) -> int | None:
    consumer = SimpleNamespace(
        app=SimpleNamespace(batch_topics={"events"}),
        _batch_ends={TP0: deque(ends)},
        _acked=defaultdict(list, {TP0: sorted(acknowledged)}),
        _acked_index=defaultdict(set, {TP0: set(acknowledged)}),
    )
    return BatchConsumer._new_offset(consumer, TP0)  # type: ignore[arg-type]


def test_nothing_is_committed_past_a_batch_that_is_still_in_hand() -> None:
    assert committable([9, 19, 29], {19, 29}) is None
    assert committable([9, 19, 29], {9, 29}) == 10
    assert committable([9, 19, 29], {9, 19, 29}) == 30


def test_gaps_in_the_offsets_do_not_hold_a_commit_back() -> None:
    assert committable([3, 700, 1_000_000], {3, 700}) == 701


@given(st.lists(st.integers(0, 60), min_size=1, max_size=40), st.integers(1, 7))
def test_batches_hold_all_records_in_order_within_their_bounds(sizes: list[int], most: int) -> None:
    records = [SimpleNamespace(offset=at, value=b"x" * size) for at, size in enumerate(sizes)]
    bound, transport.MAX_BATCH_BYTES = transport.MAX_BATCH_BYTES, 100
    try:
        batches = list(cut_batches(records, most))  # type: ignore[arg-type]
    finally:
        transport.MAX_BATCH_BYTES = bound
    assert [record.offset for batch in batches for record in batch] == list(range(len(sizes)))
    assert all(1 <= len(batch) <= most for batch in batches)
    assert all(len(batch) == 1 or sum(len(record.value) for record in batch) <= 100 for batch in batches)
