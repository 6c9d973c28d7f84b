"""The state log: whatever prefix of its records survives, and whoever else wrote to it, it gives a state or an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engine import statelog
from streams.engine.statelog import Chunk, StateGapError


class Counting:
    """A state that remembers the offsets it absorbed: the plainest thing that is wrong if one is lost or taken twice."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.absorbed_offset = -1

    def take(self, last: int) -> Chunk:
        chunk = Chunk(self.absorbed_offset, self.absorbed_offset + 1, last, b"")
        self.replay(chunk)
        return chunk

    def replay(self, chunk: Chunk) -> None:
        self.seen += range(self.absorbed_offset + 1, chunk.last + 1)
        self.absorbed_offset = chunk.last

    def to_bytes(self) -> bytes:
        return b",".join(b"%d" % offset for offset in self.seen)

    @classmethod
    def restored(cls, records: dict[bytes, bytes]) -> "Counting":
        recovered, state = statelog.recover(records), cls()
        if recovered.snapshot:
            state.seen = [int(text) for text in recovered.snapshot.split(b",")]
        state.absorbed_offset = recovered.offset
        for chunk in recovered.chunks:
            state.replay(chunk)
        return state


def snapshot_writes(state: Counting, keys: list[bytes]) -> list[tuple[bytes, bytes | None]]:
    offset = state.absorbed_offset
    written: list[tuple[bytes, bytes | None]] = list(statelog.snapshot_records(offset, state.to_bytes()))
    return written + [(key, None) for key in statelog.superseded(keys, offset)]


def compacted(log: list[tuple[bytes, bytes | None]]) -> dict[bytes, bytes]:
    live: dict[bytes, bytes] = {}
    for key, value in log:
        if value is None:
            live.pop(key, None)
        else:
            live[key] = value
    return live


steps = st.lists(st.one_of(st.integers(1, 40), st.just("snapshot")), min_size=1, max_size=25)


def written_by(state: Counting, plan: list[int | str], log: list[tuple[bytes, bytes | None]]) -> None:
    for step in plan:
        if step == "snapshot":
            log += snapshot_writes(state, [key for key, value in log if value is not None])
        else:
            log.append(statelog.chunk_record(state.take(state.absorbed_offset + int(step))))


@given(steps, st.data())
def test_every_prefix_of_the_log_gives_a_state_that_lost_nothing_and_took_nothing_twice(
    plan: list[int | str], data: st.DataObject
) -> None:
    log: list[tuple[bytes, bytes | None]] = []
    written_by(Counting(), plan, log)
    cut = data.draw(st.integers(0, len(log)))
    state = Counting.restored(compacted(log[:cut]))
    assert state.seen == list(range(state.absorbed_offset + 1))
    last_chunks = [int(key.split(b"/")[2]) for key, value in log[:cut] if key[:1] == b"c" and value is not None]
    assert state.absorbed_offset == max(last_chunks, default=-1)


@given(steps, steps, steps, st.data())
def test_a_paused_owner_that_wakes_up_and_writes_changes_nothing(
    before: list[int | str], ours: list[int | str], theirs: list[int | str], data: st.DataObject
) -> None:
    log: list[tuple[bytes, bytes | None]] = []
    written_by(Counting(), before, log)
    owner, sleeper = (Counting.restored(compacted(log)) for _ in range(2))
    owned: list[tuple[bytes, bytes | None]] = list(log)
    written_by(owner, ours, owned)
    known = list(log)
    written_by(sleeper, theirs, known)
    mine, late = owned[len(log) :], known[len(log) :]
    order = data.draw(st.permutations([0] * len(mine) + [1] * len(late)))
    turns = [iter(mine), iter(late)]
    merged = log + [next(turns[whose]) for whose in order]
    state = Counting.restored(compacted(merged))
    assert state.seen == list(range(state.absorbed_offset + 1))
    assert state.absorbed_offset >= owner.absorbed_offset


def test_a_snapshot_that_was_cut_short_is_passed_over_for_the_one_before() -> None:
    state, log = Counting(), list[tuple[bytes, bytes | None]]()
    written_by(state, [5, "snapshot", 7], log)
    torn = list(statelog.snapshot_records(state.absorbed_offset, bytes(2 * statelog.PART_BYTES)))
    log += [torn[0], torn[-1]]
    assert Counting.restored(compacted(log)).seen == list(range(12))


def test_a_snapshot_longer_than_a_record_is_cut_into_parts_and_put_together() -> None:
    data = bytes(range(256)) * 10_000
    records = dict(statelog.snapshot_records(41, data))
    assert len(records) == 1 + -(-len(data) // statelog.PART_BYTES)
    assert statelog.recover(records) == statelog.RecoveredState(41, data, [])


def test_a_missing_chunk_is_an_error_and_not_a_silent_loss() -> None:
    state, log = Counting(), list[tuple[bytes, bytes | None]]()
    written_by(state, [5, 5, 5], log)
    with pytest.raises(StateGapError, match="between source offsets 4 and 9"):
        statelog.recover(compacted([log[0], log[2]]))


def test_an_empty_log_is_the_state_before_the_first_event() -> None:
    assert statelog.recover({}) == statelog.RecoveredState(statelog.NOTHING_ABSORBED, None, [])
