"""Which valid events of a source partition are absorbed: not the ones that come too late, not the ones seen before."""

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit

NEVER = -(2**62)
LONE_JUMPS = 8
Mask = npt.NDArray[np.bool_]


class AdmissionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``allowed_lateness_s``: how far behind the latest event time of its partition an event may be.

    ``remembered_ids``: how many of the latest event ids of a partition are compared for duplicates (a power of two).
    """

    allowed_lateness_s: float = 3600.0
    remembered_ids: int = 1 << 18

    def __post_init__(self) -> None:
        if self.allowed_lateness_s < 0:
            raise ValueError(f"allowed_lateness_s must not be negative, got {self.allowed_lateness_s}")
        if self.remembered_ids < 1 or self.remembered_ids & (self.remembered_ids - 1):
            raise ValueError(f"remembered_ids must be a power of two, got {self.remembered_ids}")


class Admission:
    """The event-time clock and the memory of event ids of one source partition.

    Event by event, so that the verdict does not depend on how the partition is cut into batches. A jump of the clock beyond
    the allowed lateness needs a second user who agrees, or ``LONE_JUMPS`` such events in a row with nobody contradicting:
    one device whose clock is fast does not make everybody late.
    """

    def __init__(self, settings: AdmissionSettings) -> None:
        self.settings = settings
        size = settings.remembered_ids
        self._lateness_ms = int(settings.allowed_lateness_s * 1000)
        self._ring = np.zeros(size, np.int64)
        self._table = np.zeros(4 * size, np.int64)
        # latest event time (ms); time, user and number of events of a pending jump; ids remembered so far
        self._clock = np.array([NEVER, 0, 0, 0, 0], np.int64)

    @property
    def clock_ms(self) -> int:
        """The latest event time of the partition; a large negative number before any event."""
        return int(self._clock[0])

    @property
    def clock_s(self) -> float | None:
        """The latest event time (Unix time) of the partition, None before any event."""
        return None if self._clock[0] == NEVER else self.clock_ms / 1000.0

    def admit(self, time_ms: np.ndarray, user: np.ndarray, event_hash: np.ndarray) -> tuple[Mask, Mask]:
        """Masks of the late and of the repeated events; the others are admitted and remembered. O(events)."""
        late, repeated = np.zeros(len(time_ms), np.bool_), np.zeros(len(time_ms), np.bool_)
        _admit(time_ms, user, event_hash, self._lateness_ms, self._clock, self._ring, self._table, late, repeated)
        return late, repeated

    def state(self) -> dict[str, np.ndarray]:
        """The arrays that hold the state."""
        held = min(int(self._clock[4]), len(self._ring))
        return {"clock": self._clock.copy(), "ring": self._ring[:held].copy()}

    @classmethod
    def from_state(cls, settings: AdmissionSettings, state: dict[str, np.ndarray]) -> "Admission":
        """The object of ``state()``. Raises ValueError if it remembers more ids than the settings allow."""
        admission = cls(settings)
        if len(state["ring"]) > len(admission._ring):
            raise ValueError(f"the state remembers {len(state['ring'])} ids, the settings {len(admission._ring)}")
        admission._clock[:] = state["clock"]
        admission._ring[: len(state["ring"])] = state["ring"]
        _rebuild(admission._ring, int(admission._clock[4]), admission._table)
        return admission


def warm_up() -> None:
    """Compile the kernels ahead of the first event."""
    settings = AdmissionSettings(remembered_ids=2)
    admission, codes = Admission(settings), np.arange(5, dtype=np.int64)
    admission.admit(codes, codes, codes)
    Admission.from_state(settings, admission.state())


@njit(cache=True)
def _admit(time_ms, user, event_hash, lateness_ms, clock, ring, table, late, repeated):  # type: ignore[no-untyped-def]
    size = len(ring)
    for i in range(len(time_ms)):
        if time_ms[i] < clock[0] - lateness_ms:
            late[i] = True
            continue
        marked = event_hash[i] + 1
        if _contains(table, marked):
            repeated[i] = True
            continue
        if clock[4] >= size:
            _remove(table, ring[clock[4] % size])
        ring[clock[4] % size] = marked
        clock[4] += 1
        _insert(table, marked)
        _advance(clock, time_ms[i], user[i], lateness_ms)


@njit(cache=True)
def _advance(clock, time_ms, user, lateness_ms):  # type: ignore[no-untyped-def]
    if clock[0] == NEVER or time_ms <= clock[0] + lateness_ms:
        clock[0] = max(clock[0], time_ms)
        clock[3] = 0
    elif clock[3] == 0:
        clock[1], clock[2], clock[3] = time_ms, user, 1
    else:
        clock[1] = min(clock[1], time_ms)
        clock[3] += 1
        if clock[2] != user or clock[3] >= LONE_JUMPS:
            clock[0], clock[3] = clock[1], 0


@njit(cache=True)
def _home(marked, mask):  # type: ignore[no-untyped-def]
    return np.int64(np.uint64(marked) & np.uint64(mask))


@njit(cache=True)
def _contains(table, marked):  # type: ignore[no-untyped-def]
    mask = len(table) - 1
    slot = _home(marked, mask)
    while table[slot] != 0:
        if table[slot] == marked:
            return True
        slot = (slot + 1) & mask
    return False


@njit(cache=True)
def _insert(table, marked):  # type: ignore[no-untyped-def]
    mask = len(table) - 1
    slot = _home(marked, mask)
    while table[slot] != 0:
        slot = (slot + 1) & mask
    table[slot] = marked


@njit(cache=True)
def _remove(table, marked):  # type: ignore[no-untyped-def]
    mask = len(table) - 1
    slot = _home(marked, mask)
    while table[slot] != marked:
        slot = (slot + 1) & mask
    hole = slot
    while True:
        slot = (slot + 1) & mask
        if table[slot] == 0:
            break
        home = _home(table[slot], mask)
        if ((slot - home) & mask) >= ((slot - hole) & mask):
            table[hole] = table[slot]
            hole = slot
    table[hole] = 0


@njit(cache=True)
def _rebuild(ring, remembered, table):  # type: ignore[no-untyped-def]
    for i in range(min(remembered, len(ring))):
        _insert(table, ring[i])
