"""``TransitionCounts``: what follows what, decayed, bounded, smoothed."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from processors.sequence import codec
from processors.sequence.absorb import absorb
from processors.sequence.columns import Context, Floats, Ints, as_codes, as_times, context_columns, context_key
from processors.sequence.contexts import find_context
from processors.sequence.heaviest import HeaviestStates, list_counts, list_heaviest
from processors.sequence.mixing import decay_factor, most_probable, probabilities_of, weigh_chain, weigh_recent
from processors.sequence.popularity import find_state, weights_of
from processors.sequence.room import NO_KEYS, keys_of, make_room
from processors.sequence.rows import SMALLEST_BLOCK, find
from processors.sequence.settings import NO_STATE, TransitionSettings
from processors.sequence.tables import (
    ADVANCE_LANDMARK,
    CONTEXT_FLOOR,
    CONTEXTS,
    DONE,
    EPOCH,
    EVENT,
    LANDMARK,
    STATE_FLOOR,
    STATES,
    STEP,
    TOUCHED,
    TRANSITIONS,
    Tables,
    empty_tables,
)

_FOREVER_S = 1e300  # stands for an infinite half-life where it is divided by


class TransitionChanges(msgspec.Struct, frozen=True):
    """What a batch changed; context keys are (owner, previous, last), int64[m, 3], NO_STATE where a part is absent."""

    touched: Ints
    """Counted in this batch, in the order of their first event."""
    evicted: Ints
    """Dropped in this batch to stay within the bounds; a later event may have brought one back."""
    novel: np.ndarray[Any, np.dtype[np.bool_]]
    """bool[n]: the next state was new to the event's most general context (the owner's own, or ``last``)."""


class TransitionCounts:
    """Time-decayed counts of what follows what, of orders 0 to 2, in bounded memory.

    The count of a state after a context, as of ``time_s``, is the sum of ``2 ** -((time_s - t) / half_life_s)`` over
    its events. Weights are kept relative to a landmark (Cormode et al., "Forward decay", ICDE 2009), so an event that
    comes late counts exactly as if it had come in order. Until a bound of the settings is reached all counts are exact;
    beyond it :meth:`count_bounds` says how far off each may be. The result does not depend on how a stream is
    cut into batches. O(1) per event and order, about 100 bytes per transition held.

    Args:
        settings: half-life and bounds; or give its fields as keywords.

    Raises:
        ValueError: a setting is out of its range.

    Example:
        >>> import numpy as np
        >>> counts = TransitionCounts(half_life_s=3600.0)
        >>> changes = counts.update(np.array([1, 1, 1, 2]), np.array([2, 2, 3, 1]), np.zeros(4))
        >>> states, probabilities = counts.predict(1, 0.0, k=2)
        >>> states.tolist(), probabilities.round(3).tolist()
        ([2, 3], [0.6, 0.3])
        >>> counts.count(1, 2, time_s=3600.0)
        1.0
    """

    def __init__(self, settings: TransitionSettings | None = None, **fields: Any) -> None:
        if settings is not None and fields:
            raise TypeError("give settings or its fields as keywords, not both")
        self.settings = settings if settings is not None else TransitionSettings(**fields)
        self._tables = empty_tables()
        self._tables.ints[LANDMARK] = NO_STATE
        self._half_life_s = min(self.settings.half_life_s, _FOREVER_S)
        self._escapes = np.array(self.settings.escape_by_order)
        self.evicted_contexts = 0

    # -- learning

    def update(
        self, contexts: Any, next_states: Any, time_s: Any, owners: Any = None, weights: Any = None
    ) -> TransitionChanges:
        """Count a batch of transitions; the state is unchanged if an argument is refused.

        Args:
            contexts: int64[n], the state before (order 1); or int64[n, 2], (previous, last) (order 2, 1 and 0). NO_STATE
                marks what is absent: an event without ``last`` counts in order 0 alone.
            next_states: int64[n], any code but NO_STATE.
            time_s: float64[n], event times in seconds, in any order.
            owners: int64[n] or None. With owners, the contexts are each owner's own: (), (last) and (previous, last)
                of that owner; order 0 stays everybody's. An event whose owner is NO_STATE counts as without one.
            weights: float64[n] or None: what an event counts, such as the weight of its action; 1 by default.

        Raises:
            TypeError: codes are not integers.
            ValueError: shapes differ, a next state is NO_STATE, a time is not finite, or a weight not in (0, 1e9].
        """
        states = as_codes("next_states", next_states)
        previous, last = context_columns(contexts, len(states))
        owner = np.full(len(states), NO_STATE) if owners is None else as_codes("owners", owners)
        times = as_times("time_s", time_s, self.settings.half_life_s)
        weight = np.ones(len(states)) if weights is None else np.ascontiguousarray(weights, np.float64)
        for name, column in (("owners", owner), ("time_s", times), ("weights", weight)):
            if column.shape != states.shape:
                raise ValueError(f"{name} must have the shape of next_states, {states.shape}, got {column.shape}")
        if not ((weight > 0) & (weight <= 1e9)).all():
            raise ValueError("weights must lie in (0, 1e9]")
        if (states == NO_STATE).any():
            raise ValueError("next_states must not contain NO_STATE")
        ints, limits = self._tables.ints, self.settings
        ints[EVENT] = ints[STEP] = ints[TOUCHED] = 0
        ints[EPOCH] = ints[EPOCH] % (2**31 - 1) + 1
        touched = np.empty((len(states) * (3 if np.ndim(contexts) == 2 or owners is not None else 1), 3), np.int64)
        bounds = (limits.max_states_per_context, limits.max_contexts, limits.max_transitions)
        novel, evicted = np.zeros(len(states), np.bool_), [NO_KEYS]
        columns = owner, previous, last, states, times, weight
        while len(states):
            status = absorb(self._tables, *columns, self._half_life_s, bounds, limits.max_states, touched, novel)
            if status == DONE:
                break
            landmark = int(times[ints[EVENT]] // self._half_life_s) if status == ADVANCE_LANDMARK else 0
            self._tables, gone = make_room(status, self._tables, landmark)
            evicted.append(gone)
        changes = TransitionChanges(touched[: ints[TOUCHED]].copy(), np.concatenate(evicted), novel)
        self.evicted_contexts += len(changes.evicted)
        return changes

    # -- reading

    def predict(self, context: Context, time_s: float, k: int = 10, owner: int | None = None) -> tuple[Ints, Floats]:
        """The ``k`` most probable next states as of ``time_s``, and their probabilities, best first.

        Orders are mixed by Witten-Bell from the general to the special (see ``mixing``); fewer than ``k`` come back
        when fewer states are known. Equal ones come in the order of their codes. The probabilities of all known
        states sum to 1 while order 0 is within its bound. O(states of the context).
        """
        return self._best(*self._weigh(context, time_s, owner), k)

    def predict_recent(
        self, recent: Any, time_s: float, k: int = 10, fade: float = 0.5, owner: int | None = None
    ) -> tuple[Ints, Floats]:
        """The ``k`` most probable next states after the latest states of a session, and their probabilities.

        Each of ``recent`` (int64[m], newest first) speaks through its order-1 context, with ``fade`` times the weight of
        the one after it: a mixture that needs no long contexts to have been seen before. O(m * states of a context).

        Raises:
            ValueError: ``fade`` is not in [0, 1) or ``recent`` is empty.
        """
        latest = as_codes("recent", recent)
        if not len(latest):
            raise ValueError("recent must name at least one state")
        if not 0 <= fade < 1:
            raise ValueError(f"fade must lie in [0, 1), got {fade}")
        slots, coefficients = np.zeros(len(latest), np.int64), np.zeros(len(latest), np.float64)
        escape, whose, factor = float(self._escapes[1]), NO_STATE if owner is None else int(owner), self._factor(time_s)
        count, general = weigh_recent(self._tables, whose, latest, float(fade), factor, escape, slots, coefficients)
        return self._best(slots, coefficients, count, general, k)

    def probabilities(self, context: Context, states: Any, time_s: float, owner: int | None = None) -> Floats:
        """The probability of each of ``states`` (int64[m]) to come next: float64[m], 0 for unknown ones."""
        wanted = as_codes("states", states)
        out = np.empty(len(wanted), np.float64)
        probabilities_of(self._tables, *self._weigh(context, time_s, owner), wanted, out)
        return out

    def _weigh(self, context: Context, time_s: float, owner: int | None) -> tuple[Ints, Floats, int, float]:
        slots, coefficients, factor = np.zeros(3, np.int64), np.zeros(3, np.float64), self._factor(time_s)
        key = context_key(context, owner)
        count, general = weigh_chain(self._tables, *key, factor, self._escapes, slots, coefficients)
        return slots, coefficients, count, general

    def _best(self, slots: Ints, coefficients: Floats, count: int, general: float, k: int) -> tuple[Ints, Floats]:
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        states, scores = np.empty(k, np.int64), np.empty(k, np.float64)
        held = most_probable(self._tables, slots, coefficients, count, general, states, scores)
        return states[:held], scores[:held]

    def count(self, context: Context, state: int, time_s: float, owner: int | None = None) -> float:
        """The decayed count of one transition; once a bound was reached, what was surely seen of it."""
        return self.count_bounds(context, state, time_s, owner)[0]

    def count_bounds(
        self, context: Context, state: int, time_s: float, owner: int | None = None
    ) -> tuple[float, float]:
        """The interval that holds the exact decayed count; its ends are equal while nothing was forgotten."""
        tables, factor, key = self._tables, self._factor(time_s), context_key(context, owner)
        if key == (NO_STATE, NO_STATE, NO_STATE):
            slot = find_state(tables.states, state)
            low, error = tables.states[slot][["weight", "born"]] if slot >= 0 else (0.0, tables.floats[STATE_FLOOR])
            return float(low * factor), float((low + error) * factor)
        slot = find_context(tables.contexts, *key)
        if slot < 0:
            return 0.0, float(tables.floats[CONTEXT_FLOOR] * factor)
        held = tables.contexts[slot]
        place = find(tables.entries, int(held["block"]) * SMALLEST_BLOCK, int(held["capacity"]), state)
        if place < 0:
            return 0.0, float(held["floor"] * factor)
        entry = tables.entries[place]
        return float(entry["weight"] * factor), float((entry["weight"] + entry["error"]) * factor)

    def counts_anywhere(self, states: Any, time_s: float) -> Floats:
        """The decayed count of each of ``states`` (int64[n]) after whatever it was, float64[n]: order 0's :meth:`count`."""
        wanted = as_codes("states", states)
        weights = np.empty(len(wanted), np.float64)
        weights_of(self._tables.states, wanted, weights)
        return weights * self._factor(time_s)

    def counts_of_owners(self, owners: Any, states: Any, time_s: float) -> tuple[Floats, Floats]:
        """The decayed count of one of ``states`` (int64[n]) per owner, after whatever it was, and of all that the owner did:
        float64[n] each, as ``count(None, ...)`` and ``total(None, ...)`` of an owner give them one by one.
        """
        owner, wanted = as_codes("owners", owners), as_codes("states", states)
        if owner.shape != wanted.shape:
            raise ValueError(f"owners must have the shape of states, {wanted.shape}, got {owner.shape}")
        nothing, counts, total = np.full(len(owner), NO_STATE), np.empty(len(owner)), np.empty(len(owner))
        list_counts(self._tables, owner, nothing, nothing, wanted, self._factor(time_s), counts, total)
        return counts, total

    def counts_of(self, context: Context, time_s: float, owner: int | None = None) -> tuple[Ints, Floats]:
        """All states held for a context and their decayed counts, heaviest first, then by code."""
        tables, factor, key = self._tables, self._factor(time_s), context_key(context, owner)
        if key == (NO_STATE, NO_STATE, NO_STATE):
            row = tables.states[tables.states["status"] != 0]
        else:
            slot = find_context(tables.contexts, *key)
            row = tables.entries[:0] if slot < 0 else self._row(tables.contexts[slot])
        order = np.lexsort((row["state"], -row["weight"]))
        return row["state"][order].copy(), row["weight"][order] * factor

    def heaviest(self, contexts: Any, time_s: Any, k: int, owners: Any = None) -> HeaviestStates:
        """The ``k`` heaviest states of each context as of ``time_s``, as :meth:`counts_of` would list them one by one.

        Args:
            contexts, owners: as in :meth:`update`; order 0, which has no row, counts as a context that is not held.
            time_s: float, or float64[n].

        Raises:
            ValueError: shapes differ, a time is not finite, or ``k`` is below 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        previous, last = context_columns(contexts, len(contexts))
        owner = np.full(len(last), NO_STATE) if owners is None else as_codes("owners", owners)
        if owner.shape != last.shape:
            raise ValueError(f"owners must have the shape of contexts, {last.shape}, got {owner.shape}")
        factor = self._factors(np.asarray(time_s, np.float64), last.shape)
        states, counts = np.full((len(last), k), NO_STATE), np.zeros((len(last), k))
        total, held = np.zeros(len(last)), np.zeros(len(last), np.int64)
        list_heaviest(self._tables, owner, previous, last, factor, states, counts, total, held)
        return HeaviestStates(states, counts, total, held)

    def total(self, context: Context, time_s: float, owner: int | None = None) -> float:
        """The decayed number of transitions from a context since it is held; of all events for None."""
        key, factor = context_key(context, owner), self._factor(time_s)
        if key == (NO_STATE, NO_STATE, NO_STATE):
            return float(self._tables.floats[0] * factor)
        slot = find_context(self._tables.contexts, *key)
        return 0.0 if slot < 0 else float(self._tables.contexts[slot]["total"] * factor)

    def contexts(self) -> Ints:
        """The keys (owner, previous, last) of all contexts held, int64[m, 3], sorted."""
        keys = keys_of(self._tables.contexts[self._tables.contexts["capacity"] != 0])
        return keys[np.lexsort(keys.T[::-1])]

    @property
    def tables(self) -> Tables:
        """The packed arrays, for kernels that walk on them; they are replaced when they grow, and must not be changed."""
        return self._tables

    @property
    def n_contexts(self) -> int:
        return int(self._tables.ints[CONTEXTS])

    @property
    def n_transitions(self) -> int:
        return int(self._tables.ints[TRANSITIONS])

    @property
    def n_states(self) -> int:
        return int(self._tables.ints[STATES])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, room for growth included."""
        return sum(array.nbytes for array in self._tables)

    def _row(self, held: Any) -> np.ndarray[Any, Any]:
        block = int(held["block"]) * SMALLEST_BLOCK
        row = self._tables.entries[block : block + int(held["capacity"])]
        return row[row["state"] != NO_STATE]

    def _factor(self, time_s: float) -> float:
        if not np.isfinite(time_s):
            raise ValueError(f"time_s must be finite, got {time_s}")
        landmark = int(self._tables.ints[LANDMARK])
        return 1.0 if landmark == NO_STATE else decay_factor(landmark, self._half_life_s, float(time_s))

    def _factors(self, time_s: Floats, shape: tuple[int, ...]) -> Floats:
        if time_s.ndim == 0:
            return np.full(shape, self._factor(float(time_s)))
        distinct, row = np.unique(np.broadcast_to(time_s, shape), return_inverse=True)
        return np.array([self._factor(float(time)) for time in distinct], np.float64)[row]

    # -- storing

    def to_bytes(self) -> bytes:
        """The whole bank; :meth:`from_bytes` gives one that goes on exactly like this one."""
        return codec.dump_bank(self.settings, self._tables, self.evicted_contexts)

    @classmethod
    def from_bytes(cls, payload: bytes) -> TransitionCounts:
        """The bank of :meth:`to_bytes`.

        Raises:
            ValueError: the payload is not one of a bank.
        """
        settings, tables, evicted = codec.load_bank(payload)
        counts = cls(settings)
        counts._tables, counts.evicted_contexts = tables, evicted
        return counts

    def context_to_bytes(self, context: Context, owner: int | None = None) -> bytes | None:
        """One context's row, about 24 bytes a state, for a changelog; None (a tombstone) if it is not held.

        None as context gives order 0, which is as long as there are states.
        """
        return codec.dump_context(self.settings.half_life_s, self._tables, context_key(context, owner))

    def load_context(self, payload: bytes) -> None:
        """Put a row of :meth:`context_to_bytes` in the place of what is held of that context.

        Order 0 is a row of its own. The bounds must leave room: restoring a bank's own rows always fits.

        Raises:
            ValueError: the payload is not a row, has another half-life, or there is no room for it.
        """
        self._tables = codec.load_context(payload, self.settings, self._tables)
