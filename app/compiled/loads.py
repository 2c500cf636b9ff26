"""What numba has no words for, as the machine's own instructions: parts of kernels, not kernels by themselves.

numba does not see when these change: a change of what is here needs one in the file of each kernel that uses it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _load(taken: Any, given: Any) -> Any:
    """Make what loads a little-endian number from any place among bytes; no bounds are checked."""

    def typed(_context: Any, data: Any, _place: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, args[0])
            address = builder.gep(array.data, [args[1]])
            size = ir.IntType(taken.bitwidth)
            number = builder.load(builder.bitcast(address, size.as_pointer()), align=1)
            return builder.zext(number, ir.IntType(given.bitwidth)) if taken.bitwidth < given.bitwidth else number

        return given(data, types.int64), generate

    return intrinsic(typed)


load_byte = _load(types.uint8, types.int64)
load_half = _load(types.uint32, types.uint32)
load_word = _load(types.uint64, types.uint64)


def _bits(operation: str) -> Any:
    """Make what counts the zeros of a word from one end, 64 where it is 0."""

    def typed(_context: Any, _taken: Any) -> Any:
        def generate(_generating: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return getattr(builder, operation)(args[0], ir.Constant(ir.IntType(1), 0))

        return types.uint64(types.uint64), generate

    return intrinsic(typed)


low_zeros = _bits("cttz")
high_zeros = _bits("ctlz")


def _multiplied(_context: Any, _one: Any, _other: Any) -> Any:
    def generate(_generating: Any, builder: Any, _signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


upper_product = intrinsic(_multiplied)


def _cast(taken: Any, given: Any) -> Any:
    """Make what reads a number's bits as another type's."""

    def typed(_context: Any, _number: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], context.get_value_type(given))

        return given(taken), generate

    return intrinsic(typed)


single_of = _cast(types.uint32, types.float32)
double_of = _cast(types.uint64, types.float64)
