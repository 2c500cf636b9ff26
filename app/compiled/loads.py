"""What numba has no words for, as the machine's own instructions: parts of kernels, not kernels by themselves.

numba does not see when these change: a change of what is here needs one in the file of each kernel that uses it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import config, types
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


CRC_INSTRUCTION: str | None = next(
    (
        name
        for feature, name in (("sse4.2", "llvm.x86.sse42.crc32.64.64"), ("crc", "llvm.aarch64.crc32cx"))
        # Whoever has numba compile for another processor gets no instruction of this one.
        if binding.get_host_cpu_features().get(feature) and config.CPU_NAME is None and config.CPU_FEATURES is None
    ),
    None,
)
"""The processor's own step of CRC-32C, by eight bytes, if it has one."""


@intrinsic  # type: ignore[untyped-decorator]
def crc_step(_context: Any, _crc: Any, _word: Any) -> Any:
    """Continue a CRC-32C by eight bytes; only where there is an instruction for it."""
    of_x86 = str(CRC_INSTRUCTION).startswith("llvm.x86")

    def generate(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        crc = word if of_x86 else ir.IntType(32)
        step = builder.module.declare_intrinsic(CRC_INSTRUCTION, fnty=ir.FunctionType(crc, [crc, word]))
        before = args[0] if of_x86 else builder.trunc(args[0], crc)
        after = builder.call(step, [before, args[1]])
        return after if of_x86 else builder.zext(after, word)

    return types.uint64(types.uint64, types.uint64), generate
