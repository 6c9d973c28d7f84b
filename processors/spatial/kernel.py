"""How the kernels get their arrays: a :class:`Table` is one pointer to a compiled function, whatever it holds.

numba passes a tuple of arrays by value and counts the references of each at every call; with the thirty arrays of a
window both cost more than the work. A table hands over the address of a list of (address, length) words instead, which
the attribute look-up of compiled code reads. The words never change while a kernel runs, so LLVM may keep them in
registers. Kernels allocate nothing, and are compiled without numba's reference counting (``_nrt=False``). No index into
an array of a table is negative, so none is tested for counting from the end, which took a sixteenth of all the time.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from typing import Any, ClassVar, TypeVar

import numpy as np
from llvmlite import ir
from numba import njit, typeof, types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    lower_builtin,
    lower_getattr_generic,
    models,
    register_model,
    unbox,
)
from numba.np.arrayobj import getitem_array_tuple, getitem_arraynd_intp, populate_array, setitem_array
from numpy.typing import NDArray

__all__ = ["Table", "kernel"]

kernel = njit(cache=True, _nrt=False)

Self = TypeVar("Self", bound="Table")
WORD = ir.IntType(64)


class TableType(types.Type):
    """The numba type of a table: `members` are (name, numba type, lengths of the dimensions after the first)."""

    def __init__(self, name: str, members: tuple[tuple[str, Any, tuple[int, ...]], ...]) -> None:
        self.members = members
        super().__init__(name=f"Table({name}: {members})")


class Table:
    """Base of frozen dataclasses of C-contiguous arrays of fixed type, ints and floats that kernels take as argument."""

    _types: ClassVar[dict[type, TableType]] = {}
    _words: NDArray[np.int64]
    _address: int

    def __post_init__(self) -> None:
        values = [getattr(self, field.name) for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        words = np.array([word for value in values for word in as_words(value)], np.int64)
        object.__setattr__(self, "_words", words)
        object.__setattr__(self, "_address", words.__array_interface__["data"][0])
        if type(self) not in Table._types:
            names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
            members = tuple((name, member_type(value), inner_shape(value)) for name, value in zip(names, values))
            Table._types[type(self)] = TableType(type(self).__name__, members)

    @property
    def _numba_type_(self) -> TableType:
        return Table._types[type(self)]

    def replace(self: Self, **arrays: Any) -> Self:
        """A table with other arrays, of the same types. What it shares with this one is not looked at: windows grow often."""
        other, words = object.__new__(type(self)), self._words.copy()
        for name, array in arrays.items():
            place = 2 * self._places()[name]
            words[place : place + 2] = as_words(array)
        vars(other).update(vars(self) | arrays | {"_words": words, "_address": words.__array_interface__["data"][0]})
        return other

    @classmethod
    @functools.cache
    def _places(cls) -> dict[str, int]:
        """The place of each member among all of them."""
        return {field.name: place for place, field in enumerate(dataclasses.fields(cls))}  # type: ignore[arg-type]


def as_words(value: Any) -> tuple[int, int]:
    if isinstance(value, np.ndarray):
        return value.__array_interface__["data"][0], len(value)
    if isinstance(value, float):
        return int(np.float64(value).view(np.int64)), 0
    return value, 0


def member_type(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return ColumnType(typeof(value))
    return types.float64 if isinstance(value, float) else types.int64


def inner_shape(value: Any) -> tuple[int, ...]:
    return value.shape[1:] if isinstance(value, np.ndarray) else ()


class ColumnType(types.Array):
    """The numba type of an array of a table."""

    def __init__(self, array: Any) -> None:
        super().__init__(array.dtype, array.ndim, array.layout, name=f"column({array})", aligned=array.aligned)


register_model(ColumnType)(models.ArrayModel)


@lower_builtin(operator.getitem, ColumnType, types.Integer)
def get_by_number(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return getitem_arraynd_intp(context, builder, *with_unsigned_index(context, builder, signature, args))


@lower_builtin(operator.getitem, ColumnType, types.BaseTuple)
def get_by_numbers(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return getitem_array_tuple(context, builder, *with_unsigned_index(context, builder, signature, args))


@lower_builtin(operator.setitem, ColumnType, types.Any, types.Any)
def set_by_number(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return setitem_array(context, builder, *with_unsigned_index(context, builder, signature, args))


def with_unsigned_index(context: Any, builder: Any, signature: Any, args: Any) -> tuple[Any, Any]:
    """The signature and arguments of an access whose index numba takes as it is; slices are left to numba."""
    column, kind, *value = signature.args
    if isinstance(kind, types.Integer):
        unsigned = types.uintp
    elif isinstance(kind, types.BaseTuple) and all(isinstance(each, types.Integer) for each in kind):
        unsigned = types.UniTuple(types.uintp, len(kind))
    else:
        return signature, args
    index = context.cast(builder, args[1], kind, unsigned)
    return signature.replace(args=(column, unsigned, *value)), (args[0], index, *args[2:])


@register_model(TableType)
class TableModel(models.PrimitiveModel):
    def __init__(self, manager: Any, table: TableType) -> None:
        super().__init__(manager, table, WORD.as_pointer())


@unbox(TableType)
def unbox_table(table: TableType, value: Any, c: Any) -> NativeValue:
    attribute = c.pyapi.object_getattr_string(value, "_address")
    address = c.pyapi.long_as_longlong(attribute)
    c.pyapi.decref(attribute)
    return NativeValue(c.builder.inttoptr(address, WORD.as_pointer()))


@infer_getattr
class TableAttribute(AttributeTemplate):
    key = TableType

    def generic_resolve(self, table: TableType, attribute: str) -> Any:
        return next((kind for name, kind, _ in table.members if name == attribute), None)


@lower_getattr_generic(TableType)
def lower_table_attribute(context: Any, builder: Any, table: TableType, value: Any, attribute: str) -> Any:
    index = [name for name, _, _ in table.members].index(attribute)
    _, kind, inner = table.members[index]
    word = load_word(builder, value, 2 * index)
    if kind == types.float64:
        return builder.bitcast(word, ir.DoubleType())
    if kind == types.int64:
        return word
    array = context.make_array(kind)(context, builder)
    itemsize = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    shape = [load_word(builder, value, 2 * index + 1), *(WORD(length) for length in inner)]
    strides = [WORD(itemsize * math.prod(inner[axis:])) for axis in range(len(inner) + 1)]
    data = builder.inttoptr(word, context.get_data_type(kind.dtype).as_pointer())
    populate_array(array, data=data, shape=shape, strides=strides, itemsize=WORD(itemsize), meminfo=None)
    return array._getvalue()


def load_word(builder: Any, table: Any, index: int) -> Any:
    word = builder.load(cgutils.gep_inbounds(builder, table, index))
    word.set_metadata("invariant.load", builder.module.add_metadata([]))
    return word
