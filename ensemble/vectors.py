"""Vectors of numbers of neighbouring clips, for kernels whose clips are side by side.

A loop over single numbers is compiled several times over: for vectors, for the numbers that are left, for
arrays that may overlap. A loop over these vectors is compiled once, in a quarter of the time, and sums stay
in registers.

A vector takes one cache line: 16 numbers of 32 bits or 8 of 64. Rows have at least SINGLES_AT_ONCE numbers; where their
number is no multiple of a vector's, the last vector overlaps the one before it.
"""

import operator
from collections.abc import Sequence
from typing import Any

import numba
from llvmlite import ir
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic as _untyped_intrinsic
from numba.extending import lower_builtin, models, register_model

SINGLES_AT_ONCE = 16
"""Numbers of a vector of float32, the longest."""
DOUBLES_AT_ONCE = SINGLES_AT_ONCE // 2
AHEAD = 128
"""Numbers between what is read and what is fetched from memory meanwhile."""

intrinsic: Any = _untyped_intrinsic
"""numba calls the decorated function with other arguments than those it declares."""


class Vector(numba.types.Type):
    """The type of a vector of one kind of number."""

    def __init__(self, kind: Any) -> None:
        """Take its length from the kind."""
        self.kind, self.length = kind, SINGLES_AT_ONCE if kind.bitwidth == 32 else DOUBLES_AT_ONCE
        super().__init__(name=f"Vector({kind})")


SINGLES, DOUBLES = Vector(numba.float32), Vector(numba.float64)
INTEGERS, LONG_INTEGERS = Vector(numba.int32), Vector(numba.int64)
_NUMBERS = {
    numba.float32: ir.FloatType(),
    numba.float64: ir.DoubleType(),
    numba.int32: ir.IntType(32),
    numba.int64: ir.IntType(64),
    # float16, as its bits.
    numba.int16: ir.HalfType(),
}


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    """A vector is one of LLVM's."""

    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, ir.VectorType(_NUMBERS[vector.kind], vector.length))


_infer_global: Any = infer_global


def _add_operator(symbol: Any, instruction: str, vectors: Sequence[Vector]) -> None:
    """Let kernels write an operator between vectors."""
    cases = [signature(vector, vector, vector) for vector in vectors]
    _infer_global(symbol)(type(instruction, (ConcreteTemplate,), {"cases": cases}))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)

    for vector in vectors:
        lower_builtin(symbol, vector, vector)(generate)


_add_operator(operator.add, "fadd", (SINGLES, DOUBLES))
_add_operator(operator.mul, "fmul", (SINGLES, DOUBLES))
_add_operator(operator.truediv, "fdiv", (SINGLES, DOUBLES))
_add_operator(operator.add, "add", (INTEGERS, LONG_INTEGERS))


def spread(builder: Any, number: Any, length: int) -> Any:
    """Return the code of a vector that has the same number everywhere."""
    kind, index = ir.VectorType(number.type, length), ir.IntType(32)
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, number, index(0))
    nowhere = ir.Constant(ir.VectorType(index, length), [0] * length)
    return builder.shuffle_vector(first, nothing, nowhere)


def point(context: Any, builder: Any, array: Any, arguments: Sequence[Any]) -> Any:
    """Return the address of an element of a flat array, where no index is negative or too large."""
    numbers = context.data_model_manager[array].get(builder, arguments[0], "data")
    return builder.gep(numbers, [arguments[1]], inbounds=True)


def _point(context: Any, builder: Any, array: Any, arguments: Any, length: int) -> Any:
    """Return the address of a vector of a flat array."""
    address = point(context, builder, array, arguments)
    return builder.bitcast(address, ir.VectorType(_NUMBERS[array.dtype], length).as_pointer())


def _convert(builder: Any, numbers: Any, bits: int, kind: Any) -> Any:
    """Convert floats of so many bits to another kind."""
    if bits == kind.bitwidth:
        return numbers
    if bits > kind.bitwidth:
        return builder.fptrunc(numbers, ir.VectorType(_NUMBERS[kind], numbers.type.count))
    if bits == 16:
        # In two steps: LLVM knows no instruction from float16 to float64.
        numbers = builder.fpext(numbers, ir.VectorType(ir.FloatType(), numbers.type.count))
    if kind.bitwidth == 32:
        return numbers
    return builder.fpext(numbers, ir.VectorType(ir.DoubleType(), numbers.type.count))


def _load(array: Any, vector: Vector) -> Any:
    """Return type and code of a function that loads a vector from an array at an index."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _point(context, builder, array, arguments, vector.length)
        bits = array.dtype.bitwidth
        return _convert(builder, builder.load(address, align=bits // 8), bits, vector.kind)

    return vector(array, numba.int64), generate


@intrinsic
def load_singles(typing_context: Any, array: Any, index: Any) -> Any:
    """Return 16 numbers of a flat array of floats, or of float16s' bits, as float32."""
    return _load(array, SINGLES)


@intrinsic
def load_doubles(typing_context: Any, array: Any, index: Any) -> Any:
    """Return 8 numbers of a flat array of floats, or of float16s' bits, as float64."""
    return _load(array, DOUBLES)


@intrinsic
def store(typing_context: Any, array: Any, index: Any, vector: Any) -> Any:
    """Store a vector of floats in a flat array of floats, from an index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _point(context, builder, array, arguments, vector.length)
        numbers = _convert(builder, arguments[2], vector.kind.bitwidth, array.dtype)
        builder.store(numbers, address, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return numba.void(array, numba.int64, vector), generate


@intrinsic
def fetch_ahead(typing_context: Any, array: Any, index: Any) -> Any:
    """Fetch from memory, in a loop over classes, what comes AHEAD numbers after an index of a flat array.

    A processor foresees few rows that are read in turns. What lies behind the array's end is not read.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_at, index_at = arguments
        later = builder.add(index_at, index_at.type(AHEAD))
        byte, int32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.bitcast(point(context, builder, array, [array_at, later]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, int32, int32, int32])
        instruction = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        # For reading, into the nearest cache, of data.
        builder.call(instruction, [address, int32(0), int32(3), int32(1)])
        return context.get_dummy_value()

    return numba.void(array, numba.int64), generate


@intrinsic
def repeat(typing_context: Any, number: Any) -> Any:
    """Return a vector that has the same number everywhere."""
    vector = Vector(number)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return spread(builder, arguments[0], vector.length)

    return vector(number), generate


@intrinsic
def replace_first(typing_context: Any, vector: Any, count: Any, others: Any) -> Any:
    """Replace the first numbers of a vector, so many, by those of another."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        index, numbers = ir.IntType(32), arguments[0]
        n = spread(builder, builder.trunc(arguments[1], index), vector.length)
        places = ir.Constant(n.type, list(range(vector.length)))
        return builder.select(builder.icmp_signed("<", places, n), arguments[2], numbers, flags=())

    return vector(vector, numba.int64, vector), generate


def _fold(vector: Vector, instruction: str) -> Any:
    """Return type and code of a function that adds or multiplies a vector's floats to a float64, in order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        result, numbers = arguments[0], _widen(builder, arguments[1], vector)
        for i in range(vector.length):
            number = builder.extract_element(numbers, ir.IntType(32)(i))
            result = getattr(builder, instruction)(result, number)
        return result

    return numba.float64(numba.float64, vector), generate


@intrinsic
def add_lanes(typing_context: Any, number: Any, vector: Any) -> Any:
    """Return a float64 plus each of a vector's floats, from the first to the last."""
    return _fold(vector, "fadd")


@intrinsic
def multiply_lanes(typing_context: Any, number: Any, vector: Any) -> Any:
    """Return a float64 times each of a vector's floats, from the first to the last."""
    return _fold(vector, "fmul")


@intrinsic
def sum_lanes(typing_context: Any, vector: Any) -> Any:
    """Return the sum of a vector's numbers, as float64 or int64, in an order of its own."""
    is_float = vector.kind in (numba.float32, numba.float64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers, index = _widen(builder, arguments[0], vector), ir.IntType(32)
        nothing, half = ir.Constant(numbers.type, ir.Undefined), vector.length // 2
        while half:
            # The second half is added to the first one.
            places = [(i + half) % vector.length for i in range(vector.length)]
            moved = builder.shuffle_vector(
                numbers, nothing, ir.Constant(ir.VectorType(index, vector.length), places)
            )
            numbers = builder.fadd(numbers, moved) if is_float else builder.add(numbers, moved)
            half //= 2
        return builder.extract_element(numbers, index(0))

    return (numba.float64 if is_float else numba.int64)(vector), generate


def _widen(builder: Any, numbers: Any, vector: Vector) -> Any:
    """Return the code of a vector's numbers with 64 bits."""
    if vector.kind == numba.float32:
        return builder.fpext(numbers, ir.VectorType(ir.DoubleType(), vector.length))
    if vector.kind == numba.int32:
        return builder.sext(numbers, ir.VectorType(ir.IntType(64), vector.length))
    return numbers
