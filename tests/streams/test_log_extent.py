"""When the log of a partition is worth a new snapshot."""

from streams.engine.table import MAX_LOG_CHUNKS, MIN_LOG_BYTES, MOST_WAITING, LogExtent


def extent(*, chunks: int, chunk_bytes: int, snapshot_bytes: int) -> LogExtent:
    return LogExtent([b"c/%d" % at for at in range(chunks)], snapshot_bytes, chunk_bytes)


def test_a_small_state_is_written_after_a_thousand_chunks() -> None:
    assert not extent(chunks=MAX_LOG_CHUNKS, chunk_bytes=10, snapshot_bytes=10).wants_snapshot
    assert extent(chunks=MAX_LOG_CHUNKS + 1, chunk_bytes=10, snapshot_bytes=10).wants_snapshot


def test_a_large_state_waits_for_more_chunks_but_not_for_ever() -> None:
    large = 100 * MIN_LOG_BYTES
    assert not extent(chunks=MOST_WAITING * MAX_LOG_CHUNKS, chunk_bytes=10, snapshot_bytes=large).wants_snapshot
    assert extent(chunks=MOST_WAITING * MAX_LOG_CHUNKS + 1, chunk_bytes=10, snapshot_bytes=large).wants_snapshot


def test_chunks_never_outgrow_the_snapshot() -> None:
    large = 10 * MIN_LOG_BYTES
    assert not extent(chunks=1, chunk_bytes=large, snapshot_bytes=large).wants_snapshot
    assert extent(chunks=1, chunk_bytes=large + 1, snapshot_bytes=large).wants_snapshot
