"""The batch consumer's arithmetic: how records are cut into batches, and which offset may be committed."""

from collections import defaultdict, deque
from types import SimpleNamespace

from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams.engine import transport
from streams.engine.transport import BatchConsumer, cut_batches

TP0 = TP("events", 0)


def committable(ends: list[int], acknowledged: set[int], committed: int | None = None) -> int | None:
    consumer = SimpleNamespace(
        app=SimpleNamespace(batch_topics={"events"}),
        _batch_ends={TP0: deque(ends)},
        _committed_offset={TP0: committed},
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


def test_a_batch_that_was_delivered_twice_does_not_hold_commits_back_for_ever() -> None:
    assert committable([9, 19], {19}, committed=10) == 20


def unread(position: int | None, offsets: list[int], sought: dict[TP, int]) -> tuple[list[int], list[int]]:
    """The offsets that are delivered, and those that were sought back to."""
    seeks: list[int] = []
    consumer = SimpleNamespace(
        app=SimpleNamespace(batch_topics={"events"}),
        _read_offset={TP0: position},
        _sought=sought,
        _thread=SimpleNamespace(seek=lambda _, offset: seeks.append(offset)),
    )
    records = [SimpleNamespace(offset=offset) for offset in offsets]
    kept = BatchConsumer._unread(consumer, TP0, records)  # type: ignore[arg-type]
    return [record.offset for record in kept], seeks


def test_records_beyond_the_read_position_are_fetched_again_from_there_once() -> None:
    sought: dict[TP, int] = {}
    assert unread(100, [500, 501], sought) == ([], [100])
    assert unread(100, [500, 501], sought) == ([500, 501], [])
    assert unread(None, [7, 8], {}) == ([], [0])


def test_records_before_the_read_position_are_dropped() -> None:
    assert unread(5, [3, 4, 5, 6], {}) == ([5, 6], [])
    assert unread(None, [0, 1], {}) == ([0, 1], [])


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
