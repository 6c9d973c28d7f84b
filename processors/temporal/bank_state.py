"""The bank as bytes: whole (a snapshot) and by key (a changelog). MessagePack with the arrays as little-endian columns."""

from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np

from processors.temporal import event_rings
from processors.temporal.event_rings import Rings
from processors.temporal.periods import HOURS_PER_WEEK, Period, PeriodicitySettings
from processors.temporal.population_rate import PopulationRate

# 1 held the rings as they are in memory, with the room that they keep free.
_FORMAT, _WITH_ROOM = 2, 1
_PACKED_FIELDS = tuple(name for name in event_rings.ROW_FIELDS if name not in ("ring", "head", "wide"))
_State = TypeVar("_State")
Published = dict[int, tuple[Period, ...]]


class Progress(NamedTuple):
    """The counters of a bank: keys held, eviction hand, batches so far, keys evicted so far."""

    n_keys: int
    hand: int
    batch: int
    evicted_keys: int


class KeyState(msgspec.Struct, frozen=True, array_like=True):
    """One key: its times as packed uint32 seconds in order, and how far it has been examined."""

    times: bytes
    seen: int
    examined: int
    recheck_s: float
    published: tuple[Period, ...]


class _PopulationState(msgspec.Struct, frozen=True, array_like=True):
    counts: bytes
    origin_s: float
    latest_s: float


class _BankState(msgspec.Struct, frozen=True, array_like=True):
    format: int
    settings: PeriodicitySettings
    population: bytes
    rows: dict[str, bytes]
    progress: Progress
    published: Published


def _decoded(data: bytes, kind: type[_State]) -> _State:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, TypeError) as error:
        raise ValueError(f"data cannot be decoded: {error}") from error


def encode_key(rings: Rings, slot: int, published: tuple[Period, ...]) -> bytes:
    """State of the key in a slot."""
    times = event_rings.times_of(rings, slot).astype("<u4").tobytes()
    seen, examined = int(rings.seen[slot]), int(rings.examined[slot])
    return msgspec.msgpack.encode(KeyState(times, seen, examined, float(rings.recheck_s[slot]), published))


def decode_key(data: bytes) -> KeyState:
    """The checked state of one key.

    Raises:
        ValueError: not the state of a key.
    """
    state = _decoded(data, KeyState)
    n, rest = divmod(len(state.times), 4)
    if rest or not 1 <= n <= event_rings.RING or not n <= state.seen < 2**32 or not 0 <= state.examined <= state.seen:
        raise ValueError("data is not the state of a key: its counts do not fit")
    if np.any(np.diff(np.frombuffer(state.times, "<u4").astype(np.int64)) < 0):
        raise ValueError("data is not the state of a key: its times are not in order")
    return state


def place_key(rings: Rings, slot: int, state: KeyState) -> Rings:
    """Overwrite a slot, in the place of `rings`."""
    rings = event_rings.put_times(rings, slot, np.frombuffer(state.times, "<u4"))
    rings.seen[slot], rings.examined[slot] = state.seen, state.examined
    rings.recheck_s[slot] = state.recheck_s
    return rings


def encode_population(population: PopulationRate) -> bytes:
    """State of the population's rhythm."""
    counts = population.counts.astype("<f8").tobytes()
    return msgspec.msgpack.encode(_PopulationState(counts, population.origin_s, population.latest_s))


def decode_population(data: bytes, half_life_s: float) -> PopulationRate:
    """A population's rhythm from its state.

    Raises:
        ValueError: not the state of a population.
    """
    state = _decoded(data, _PopulationState)
    if len(state.counts) != 8 * HOURS_PER_WEEK:
        raise ValueError("data is not the state of a population: wrong number of hours")
    population = PopulationRate(half_life_s)
    population.counts = np.frombuffer(state.counts, "<f8").copy()
    population.origin_s, population.latest_s = state.origin_s, state.latest_s
    return population


def encode_bank(
    settings: PeriodicitySettings,
    population: PopulationRate,
    rings: Rings,
    progress: Progress,
    published: Published,
) -> bytes:
    """The whole bank."""
    rows = {name: getattr(rings, name)[: progress.n_keys].tobytes() for name in _PACKED_FIELDS}
    rows["times"] = event_rings.packed_times(rings, progress.n_keys).tobytes()
    state = _BankState(_FORMAT, settings, encode_population(population), rows, progress, published)
    return msgspec.msgpack.encode(state)


def decode_bank(data: bytes) -> tuple[PeriodicitySettings, PopulationRate, Rings, Progress, Published]:
    """The parts of a bank.

    Raises:
        ValueError: not a bank, or one of another format.
    """
    state = _decoded(data, _BankState)
    if state.format not in (_FORMAT, _WITH_ROOM):
        raise ValueError(f"data has format {state.format}, expected {_FORMAT}")
    n_keys = state.progress.n_keys
    rings = event_rings.empty_rings(max(n_keys, 1))
    for name in _PACKED_FIELDS:
        column = getattr(rings, name)[:n_keys]
        column[:] = _column(state.rows, name, column.dtype, n_keys)
    times = state.rows.get("times", b"") if state.format == _FORMAT else _times_with_room(state.rows, n_keys)
    rings = _with_times(rings, n_keys, times)
    event_rings.rebuild_table(rings.table_key, rings.table_slot, rings.key, n_keys)
    population = decode_population(state.population, state.settings.population_half_life_s)
    return state.settings, population, rings, state.progress, state.published


def _column(rows: dict[str, bytes], name: str, dtype: np.dtype[Any], length: int) -> np.ndarray[Any, Any]:
    data = rows.get(name, b"")
    if len(data) != dtype.itemsize * length:
        raise ValueError(f"data is not a bank: bad column {name}")
    return np.frombuffer(data, dtype)


def _times_with_room(rows: dict[str, bytes], n_keys: int) -> bytes:
    """The times of rings that were held with their room, of 64 times each."""
    ring = _column(rows, "ring", np.dtype("<u4"), event_rings.RING * n_keys).reshape(n_keys, event_rings.RING)
    head, size = (_column(rows, name, np.dtype(np.uint8), n_keys).astype(np.int64) for name in ("head", "size"))
    places = np.arange(event_rings.RING)
    in_order = np.take_along_axis(ring, (head[:, None] + places) % event_rings.RING, axis=1)
    return in_order[places < size[:, None]].tobytes()


def _with_times(rings: Rings, n_keys: int, data: bytes) -> Rings:
    size = rings.size[:n_keys]
    if (size > event_rings.RING).any() or len(data) != 4 * int(size.sum(dtype=np.int64)):
        raise ValueError("data is not a bank: bad column times")
    return event_rings.unpack_times(rings, n_keys, np.frombuffer(data, np.uint32))
