"""The columns that callers give, checked: codes, times, contexts."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from processors.sequence.settings import NO_STATE

Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Context: TypeAlias = int | tuple[int, int] | None
"""``last``, or ``(previous, last)``, or None for order 0; NO_STATE marks an absent part."""

LONGEST = 2.0**52
"""No time is longer, in seconds or half-lives: beyond, a float64 tells no seconds apart."""


def as_codes(name: str, values: Any, dimensions: int = 1) -> Ints:
    """int64 codes. Raises TypeError or ValueError naming the argument."""
    codes = np.asarray(values)
    if codes.size and codes.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integer codes, got {codes.dtype}")
    if codes.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimension(s), got shape {codes.shape}")
    if codes.dtype == np.uint64 and (codes > np.uint64(2**63 - 1)).any():
        raise ValueError(f"{name} must fit an int64")
    return np.ascontiguousarray(codes, np.int64)


def as_times(name: str, values: Any, half_life_s: float = 1.0) -> Floats:
    """float64[n] of times in seconds that a half-life can tell apart. Raises TypeError or ValueError naming the argument."""
    if np.asarray(values).dtype.kind in "mM":  # their unit would be lost: nanoseconds would pass for seconds
        raise TypeError(f"{name} must be numbers of seconds, got {np.asarray(values).dtype}")
    times = np.ascontiguousarray(values, np.float64)
    if times.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {times.shape}")
    if not (np.abs(times) < LONGEST * min(half_life_s, 1.0)).all():
        raise ValueError(f"{name} must be finite and shorter than 2**52 seconds and half-lives")
    return times


def context_columns(contexts: Any, length: int) -> tuple[Ints, Ints]:
    """The columns ``previous`` and ``last`` of int64[n] or int64[n, 2] contexts."""
    codes = as_codes("contexts", contexts, 2 if np.ndim(contexts) == 2 else 1)
    if len(codes) != length or (codes.ndim == 2 and codes.shape[1] != 2):
        raise ValueError(f"contexts must have shape ({length},) or ({length}, 2), got {codes.shape}")
    if codes.ndim == 1:
        return np.full(length, NO_STATE), codes
    return np.ascontiguousarray(codes[:, 0]), np.ascontiguousarray(codes[:, 1])


def context_key(context: Context, owner: int | None) -> tuple[int, int, int]:
    """The key (owner, previous, last) of a context. Raises ValueError for a tuple that is not (previous, last)."""
    previous, last = NO_STATE, NO_STATE
    if isinstance(context, tuple):
        if len(context) != 2:
            raise ValueError(f"a context of two states is (previous, last), got {context}")
        previous, last = int(context[0]), int(context[1])
    elif context is not None:
        last = int(context)
    return (NO_STATE if owner is None else int(owner)), previous, last
