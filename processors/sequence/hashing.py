"""Hashes of int64 codes, cache-line aligned arrays and the prefetch hint, for the numba kernels."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from processors.sequence.compiled import kernel

_OWNER, _PREVIOUS, _LAST = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0xD6E8FEB86659FD93)
_MIX, _SHIFT_A, _SHIFT_B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(32), np.uint64(29)


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Hint that ``array[index]`` is needed soon. It never faults, so any index will do."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        offset = args[1] if args[1].type.width == 64 else builder.sext(args[1], ir.IntType(64))
        address = builder.bitcast(builder.gep(data, [offset]), ir.IntType(8).as_pointer())
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, i32, i32, i32])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(hint, [address, i32(1), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(array, index), codegen


@nb.njit(cache=True, inline="always")
def _finalise(x: Any) -> Any:
    x = (x ^ (x >> _SHIFT_A)) * _MIX
    return x ^ (x >> _SHIFT_B)


@kernel
def hash_state(state: int) -> np.uint64:
    """A well-mixed uint64 of one code."""
    return _finalise(np.uint64(state) * _LAST)


@kernel
def hash_context(owner: int, previous: int, last: int) -> np.uint64:
    """A well-mixed uint64 of a context key."""
    return _finalise(np.uint64(owner) * _OWNER + np.uint64(previous) * _PREVIOUS + np.uint64(last) * _LAST)


@nb.njit(cache=True, inline="always")
def slot_of(hashed: Any, capacity: Any) -> Any:
    """The home slot of a hash in an open-addressing table; ``capacity`` is a power of two."""
    return np.int64(hashed & np.uint64(capacity - 1))


@kernel
def hash_states(states: Any) -> Any:
    """uint64[n] of int64[n] codes."""
    return np.array([hash_state(state) for state in states], np.uint64)


@kernel
def hash_contexts(keys: Any) -> Any:
    """uint64[n] of int64[n, 3] keys."""
    return np.array([hash_context(key[0], key[1], key[2]) for key in keys], np.uint64)
