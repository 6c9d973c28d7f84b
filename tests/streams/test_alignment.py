"""Alignment: rows of several origins come out in one order of event time."""

import random

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from streams.stages.alignment import TimeAligner


def rows(origin: int, first: int, times_ms: list[int]) -> dict[str, np.ndarray]:
    count = len(times_ms)
    return {
        "time_ms": np.array(times_ms, np.int64),
        "origin": np.full(count, origin),
        "origin_offset": np.arange(first, first + count),
    }


def drained(aligner: TimeAligner) -> list[int]:
    released = aligner.release()
    return [] if released is None else released["time_ms"].tolist()


def test_nothing_comes_out_before_every_origin_was_heard() -> None:
    aligner = TimeAligner(2)
    aligner.hear(0, 50, False)
    aligner.push(rows(0, 0, [10, 50]))
    assert drained(aligner) == []
    aligner.hear(1, 20, False)
    assert drained(aligner) == [10]


def test_an_origin_without_a_backlog_holds_nobody_back() -> None:
    aligner = TimeAligner(2)
    aligner.hear(1, 5, True)
    aligner.hear(0, 40, False)
    aligner.push(rows(0, 0, [10, 50]))
    assert drained(aligner) == [10]
    aligner.hear(0, 50, True)
    assert drained(aligner) == [50]


def test_what_an_origin_sends_out_of_order_is_not_waited_for() -> None:
    aligner = TimeAligner(2)
    for origin in range(2):
        aligner.hear(origin, 100, False)
    aligner.push(rows(0, 0, [90, 100]))
    assert drained(aligner) == [90]
    aligner.push(rows(0, 2, [40]))
    assert drained(aligner) == [40]


def test_what_is_held_is_bounded_and_the_oldest_go_first() -> None:
    aligner = TimeAligner(2, max_held=3)
    aligner.push(rows(0, 0, [5, 1, 4, 2, 3]))
    assert drained(aligner) == [1, 2]
    assert len(aligner) == 3


@example(seed=311, origins=4)  # two rows of one time, on either side of a cut
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_the_order_does_not_depend_on_which_origin_is_read_first(seed: int, origins: int) -> None:
    rng = random.Random(seed)
    streams = [sorted(rng.choices(range(500), k=rng.randrange(60))) for _ in range(origins)]
    aligner, at, out = TimeAligner(origins), [0] * origins, list[tuple[int, int, int]]()
    for origin in range(origins):
        aligner.hear(origin, -(10**9), not streams[origin])
    while any(at[origin] < len(stream) for origin, stream in enumerate(streams)):
        origin = rng.choice([one for one in range(origins) if at[one] < len(streams[one])])
        part = streams[origin][at[origin] : at[origin] + rng.randrange(1, 25)]
        aligner.push(rows(origin, at[origin], part))
        at[origin] += len(part)
        aligner.hear(origin, part[-1], at[origin] == len(streams[origin]))
        released = aligner.release()
        if released is not None:
            out += zip(*(released[name].tolist() for name in ("time_ms", "origin", "origin_offset")), strict=True)
        if rng.random() < 0.2:
            kept, other = aligner.state(), TimeAligner(origins)
            other.load(*kept)
            aligner = other
    expected = [(time, origin, at) for origin, stream in enumerate(streams) for at, time in enumerate(stream)]
    assert out == sorted(expected)
