"""Vector instructions for numba kernels, which its own compiler seldom finds in loops this short."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)


@intrinsic
def equal_bytes(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Bit j: array.flat[index + j] == value, for j from 0 to 23; the array is of bytes, and no index is checked."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        eight = ir.VectorType(I8, 8)
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        wanted = splat(builder, builder.trunc(args[2], I8), 8)
        found: Any = I64(0)
        for part in range(3):
            pointer = builder.gep(data, [builder.add(args[1], I64(8 * part))])
            lanes = builder.load(builder.bitcast(pointer, eight.as_pointer()), align=1)
            bits = builder.bitcast(builder.icmp_unsigned("==", lanes, wanted), I8)
            found = builder.or_(found, builder.shl(builder.zext(bits, I64), I64(8 * part)))
        return found

    return types.int64(array, types.int64, types.int64), codegen


def splat(builder: Any, value: Any, lanes: int) -> Any:
    """A vector that has `value` in every lane."""
    kind = ir.VectorType(value.type, lanes)
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), value, I32(0))
    return builder.shuffle_vector(
        single, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    )
