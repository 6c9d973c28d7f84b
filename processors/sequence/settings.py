"""What a bank of transition counts promises to hold, and for how long."""

from __future__ import annotations

import math

import msgspec

NO_STATE = -(2**63)
"""The one int64 that is no state, context or owner: it marks a part of a context that is absent."""

DAY_S = 86_400.0


class TransitionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Half-life and bounds of :class:`~processors.sequence.TransitionCounts`.

    Args:
        half_life_s: seconds after which a transition counts half; infinite for plain counts.
        max_states_per_context: next states held for one context; more, and Space-Saving replaces the lightest.
        max_contexts: contexts held; more, and the lightest eighth is evicted.
        max_transitions: (context, next state) pairs held over all contexts; more, and the lightest eighth of the
            contexts is evicted. This is what bounds the memory: at most about 100 bytes a pair, growth included.
        max_states: states held by order 0; more, and the lightest eighth is dropped.
        escape_by_order: how readily an owner's order 0, order 1 and order 2 back off to what is more general, in units of
            the number of distinct next states. 1 is Witten and Bell's method C; a single event in a long context is
            weaker evidence than that, so order 2 takes 10 of them to be as sure (bench/sequence.py).
    """

    half_life_s: float = 30 * DAY_S
    max_states_per_context: int = 1024
    max_contexts: int = 1 << 18
    max_transitions: int = 1 << 22
    max_states: int = 1 << 20
    escape_by_order: tuple[float, float, float] = (1.0, 1.0, 10.0)

    def __post_init__(self) -> None:
        if not self.half_life_s > 0:
            raise ValueError(f"half_life_s must be a positive number of seconds, got {self.half_life_s}")
        if not 2 <= self.max_states_per_context <= 1 << 20:
            raise ValueError(f"max_states_per_context must lie in [2, 2**20], got {self.max_states_per_context}")
        if not 8 <= self.max_contexts <= 1 << 28:
            raise ValueError(f"max_contexts must lie in [8, 2**28], got {self.max_contexts}")
        if not self.max_states_per_context <= self.max_transitions <= 1 << 28:
            raise ValueError(f"max_transitions must lie in [max_states_per_context, 2**28], got {self.max_transitions}")
        if not 8 <= self.max_states <= 1 << 28:
            raise ValueError(f"max_states must lie in [8, 2**28], got {self.max_states}")
        if any(not (math.isfinite(escape) and escape > 0) for escape in self.escape_by_order):
            raise ValueError(f"escape_by_order must be positive and finite, got {self.escape_by_order}")
