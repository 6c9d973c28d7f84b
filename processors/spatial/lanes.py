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


@intrinsic
def equal_lanes(typing_context: Any, records: Any, line: Any, field: Any, value: Any) -> Any:
    """Bit j: records[line, field, j] == value; records are of int32, [line, 4, 4]."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines = context.make_array(signature.args[0])(context, builder, args[0]).data
        lanes = builder.load(field_pointer(builder, lines, args[1], args[2], I32), align=4)
        found = builder.icmp_signed("==", lanes, splat(builder, builder.trunc(args[3], I32), 4))
        return as_bits(builder, found)

    return types.int64(records, types.int64, types.int64, types.int64), codegen


@intrinsic
def lanes_at(typing_context: Any, records: Any, line: Any, x: Any, y: Any) -> Any:
    """Bit j: the first two fields of record j of a line are x and y; records are of float32, [line, 4, 4]."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines = context.make_array(signature.args[0])(context, builder, args[0]).data
        same = []
        for field, own in enumerate(args[2:]):
            values = builder.load(field_pointer(builder, lines, args[1], I64(field), ir.FloatType()), align=4)
            same.append(builder.fcmp_ordered("==", values, splat(builder, own, 4)))
        return as_bits(builder, builder.and_(*same))

    return types.int64(records, types.int64, types.float32, types.float32), codegen


@intrinsic
def lanes_within(
    typing_context: Any, records: Any, line: Any, x: Any, y: Any, squeeze: Any, low: Any, high: Any, least: Any
) -> Any:
    """Which of the four records of a line with a count of at least `least` are within eps of (x, y).

    Bits 0 to 3: the squared distance is at most `low`; bits 4 to 7: it lies between `low` and `high`.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines = context.make_array(signature.args[0])(context, builder, args[0]).data
        sure, unsure = compare(builder, lines, *args[1:7])
        counts = builder.load(field_pointer(builder, lines, args[1], I64(2), I32), align=4)
        enough = builder.icmp_signed(">=", counts, splat(builder, builder.trunc(args[7], I32), 4))
        sure, unsure = builder.and_(sure, enough), builder.and_(unsure, enough)
        return builder.or_(as_bits(builder, sure), builder.shl(as_bits(builder, unsure), I64(4)))

    f4, i8 = types.float32, types.int64
    return types.int64(records, i8, f4, f4, f4, f4, f4, i8), codegen


@intrinsic
def shift_lanes(
    typing_context: Any,
    records_f: Any,
    line: Any,
    x: Any,
    y: Any,
    squeeze: Any,
    low: Any,
    high: Any,
    step: Any,
    at: Any,
) -> Any:
    """Add `step` to the count of those of the four records of a line that are within `low` of (x, y).

    Bits 0 to 3: which they are; bits 4 to 7: those between `low` and `high`, whose count stays; bits 8 to 11: those whose
    count came to `at`; from bit 12 on the number of those within `low`.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines = context.make_array(signature.args[0])(context, builder, args[0]).data
        sure, unsure = compare(builder, lines, *args[1:7])
        pointer = field_pointer(builder, lines, args[1], I64(2), I32)
        counts = builder.load(pointer, align=4)
        steps = builder.select(sure, splat(builder, builder.trunc(args[7], I32), 4), ir.Constant(counts.type, [0] * 4))
        counts = builder.add(counts, steps)
        builder.store(counts, pointer, align=4)
        came = builder.icmp_signed("==", counts, splat(builder, builder.trunc(args[8], I32), 4))
        hits = as_bits(builder, sure)
        found = builder.or_(hits, builder.shl(as_bits(builder, unsure), I64(4)))
        found = builder.or_(found, builder.shl(as_bits(builder, builder.and_(sure, came)), I64(8)))
        return builder.or_(found, builder.shl(builder.ctpop(hits), I64(12)))

    f4, i8 = types.float32, types.int64
    return types.int64(records_f, i8, f4, f4, f4, f4, f4, i8, i8), codegen


def field_pointer(builder: Any, lines: Any, line: Any, field: Any, kind: Any) -> Any:
    """Where the four values of a field of a line lie."""
    offset = builder.add(builder.shl(line, I64(4)), builder.shl(field, I64(2)))
    return builder.bitcast(builder.gep(lines, [offset]), ir.VectorType(kind, 4).as_pointer())


def compare(builder: Any, lines: Any, line: Any, x: Any, y: Any, squeeze: Any, low: Any, high: Any) -> tuple[Any, Any]:
    """(the squared distance is at most low, it is beyond that and at most high) for the four records of a line."""
    gaps = []
    for field, own in enumerate((x, y)):
        values = builder.load(field_pointer(builder, lines, line, I64(field), ir.FloatType()), align=4)
        gaps.append(builder.fsub(values, splat(builder, own, 4)))
    across = builder.fmul(builder.fmul(splat(builder, squeeze, 4), gaps[0]), gaps[0])
    squared = builder.fadd(across, builder.fmul(gaps[1], gaps[1]))
    sure = builder.fcmp_ordered("<=", squared, splat(builder, low, 4))
    within = builder.fcmp_ordered("<=", squared, splat(builder, high, 4))
    return sure, builder.and_(within, builder.not_(sure))


def as_bits(builder: Any, lanes: Any) -> Any:
    """Four booleans as the low bits of an int64."""
    return builder.zext(builder.bitcast(lanes, ir.IntType(4)), I64)
