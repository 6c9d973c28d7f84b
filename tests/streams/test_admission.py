"""Admission: late and repeated events of a partition, event by event."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.stages.admission import LONE_JUMPS, Admission, AdmissionSettings


def admit(admission: Admission, time_s: list[float], user: list[int] | None = None, ids: list[int] | None = None):
    rows = len(time_s)
    first = int(admission._clock[4]) * 1000
    return admission.admit(
        (np.array(time_s) * 1000).astype(np.int64),
        np.array(user or range(rows), np.int64),
        np.array(ids if ids is not None else range(first, first + rows), np.int64),
    )


def test_an_event_is_late_when_it_is_older_than_the_watermark() -> None:
    admission = Admission(AdmissionSettings(allowed_lateness_s=10))
    late, _ = admit(admission, [100.0, 105.0, 95.0, 94.999])
    assert late.tolist() == [False, False, False, True]
    assert admission.clock_ms == 105_000


def test_one_fast_clock_makes_nobody_late_and_two_who_agree_move_the_clock() -> None:
    admission = Admission(AdmissionSettings(allowed_lateness_s=10))
    late, _ = admit(admission, [100, 9_000, 101, 102], user=[1, 7, 2, 3])
    assert not late.any()
    admit(admission, [9_000, 9_001], user=[7, 8])
    late, _ = admit(admission, [103], user=[1])
    assert late.tolist() == [True]


def test_a_lone_user_after_a_long_pause_moves_the_clock_in_the_end() -> None:
    admission = Admission(AdmissionSettings(allowed_lateness_s=10))
    admit(admission, [100.0] + [9_000.0 + number for number in range(LONE_JUMPS)], user=[1] * (LONE_JUMPS + 1))
    assert admission.clock_ms == 9_000_000


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(1, 50))
def test_an_id_is_repeated_while_it_is_among_the_latest_that_were_admitted(ids: list[int], batch: int) -> None:
    admission, remembered = Admission(AdmissionSettings(remembered_ids=16)), deque[int](maxlen=16)
    for start in range(0, len(ids), batch):
        part = ids[start : start + batch]
        _, repeated = admit(admission, [5.0] * len(part), ids=part)
        for number, verdict in zip(part, repeated.tolist(), strict=True):
            assert verdict == (number in remembered)
            if not verdict:
                remembered.append(number)
        admission = Admission.from_state(admission.settings, admission.state())


def test_a_late_event_is_not_remembered_as_seen() -> None:
    admission = Admission(AdmissionSettings(allowed_lateness_s=10))
    admit(admission, [100.0], ids=[1])
    late, repeated = admit(admission, [50.0, 50.0], ids=[2, 2])
    assert late.all() and not repeated.any()


@pytest.mark.parametrize("bad", [{"allowed_lateness_s": -1.0}, {"remembered_ids": 1000}, {"remembered_ids": 0}])
def test_settings_out_of_range_are_named(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        AdmissionSettings(**bad)  # type: ignore[arg-type]
