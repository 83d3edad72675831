"""Arithmetic that LLVM turns into vector instructions (B clips in a block).

It has its own exponentials, because those of the C library take one number at a time. Sums run in
lanes that are added in a fixed order at the end, so equal inputs give equal bits on any machine.
"""

import math
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from disk.numba_cache import compiled
from ensemble.vectors import (
    DOUBLES,
    INTEGERS,
    LONG_INTEGERS,
    SINGLES,
    intrinsic,
    spread,
)
from metrics.scores import Floats, Integers

LANES = 64
CACHE_LINE = 64
"""Bytes."""
FACTORS = 8
"""Numbers that are multiplied before the exponents are taken out; see `take_exponents`."""

LOG2_E = math.log2(math.e)
# ln 2 in two parts. The first has few enough digits for exact products with small integers.
_LN_2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
_LN_2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_ROUND_TO_INTEGER = 1.5 * 2.0**52
"""Adding this to a double leaves its nearest integer in the lowest bits."""
_ROUND_TO_INTEGER_SINGLE = np.float32(1.5 * 2**23)
_SMALLEST_EXPONENT = -708.0
"""Below this, the exponential is no normal double; added to a sum of at least 1 it changes
nothing."""

# Polynomials of 2^r for |r| <= 1/2 with the smallest maximum of the relative error (Remez
# exchange): 3e-16 in `exp2`, 7.5e-8 in `exp2_single`. The first coefficient is the constant one.
_POWER = (
    1.0,
    0.6931471805599497,
    0.24022650695908748,
    0.055504108664458596,
    0.009618129108041353,
    0.0013333558228597986,
    0.00015403529952406808,
    1.5252658097652987e-05,
    1.3215667238284396e-06,
    1.0208541084164191e-07,
    7.036525016910473e-09,
)
_POWER_SINGLE = (
    np.float32(1.0000000716546822),
    np.float32(0.6931469670647331),
    np.float32(0.24022119723848476),
    np.float32(0.05550713273542589),
    np.float32(0.009675541334216184),
    np.float32(0.0013276471979479397),
)

_CONTRACT = ("contract",)
"""A product may be added without a rounding between, as where kernels are compiled with this flag."""

Singles = NDArray[np.float32]


def _describe(kind: Any) -> tuple[Any, int, int]:
    """Return the integers of floats' size, the digits of a mantissa, and the exponent of one."""
    is_vector = isinstance(kind, ir.VectorType)
    is_single = isinstance(kind.element if is_vector else kind, ir.FloatType)
    bits, digits, one = (32, 23, 127) if is_single else (64, 52, 1023)
    integer = ir.IntType(bits)
    return ir.VectorType(integer, kind.count) if is_vector else integer, digits, one


def _constant(kind: Any, value: int) -> Any:
    """Return the code of an integer, or of a vector that has it everywhere."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


_EXPONENTS = {numba.float64: numba.int64, SINGLES: INTEGERS, DOUBLES: LONG_INTEGERS}


@intrinsic
def exponent_of(typing_context: Any, numbers: Any) -> Any:
    """Return n of positive normal floats in 2^n ... 2^(n + 1), of a double or of a vector."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integers, digits, one = _describe(arguments[0].type)
        bits = builder.bitcast(arguments[0], integers)
        shifted = builder.ashr(bits, _constant(integers, digits))
        return builder.sub(shifted, _constant(integers, one))

    return _EXPONENTS[numbers](numbers), generate


@intrinsic
def mantissa_of(typing_context: Any, numbers: Any) -> Any:
    """Return positive normal floats over 2^(their exponent), 1 <= result < 2."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integers, digits, one = _describe(arguments[0].type)
        bits = builder.bitcast(arguments[0], integers)
        bits = builder.and_(bits, _constant(integers, (1 << digits) - 1))
        bits = builder.or_(bits, _constant(integers, one << digits))
        return builder.bitcast(bits, arguments[0].type)

    return numbers(numbers), generate


@intrinsic
def _power_of_two(typing_context: Any, shifted: Any) -> Any:
    """Return 2^n of a double to which `_ROUND_TO_INTEGER` was added, with n in its lowest bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        int64 = ir.IntType(64)
        exponent = builder.add(builder.bitcast(arguments[0], int64), int64(1023))
        return builder.bitcast(builder.shl(exponent, int64(52)), ir.DoubleType())

    return numba.float64(numba.float64), generate


@intrinsic
def as_single(typing_context: Any, value: Any) -> Any:
    """Convert a float, or the float16 that has these 16 bits, to float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        single = ir.FloatType()
        if value == numba.int16:
            return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), single)
        if value == numba.float64:
            return builder.fptrunc(arguments[0], single)
        return arguments[0]

    return numba.float32(value), generate


@intrinsic
def as_double(typing_context: Any, value: Any) -> Any:
    """Convert a float, or the float16 that has these 16 bits, to a double without loss."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = arguments[0]
        if value == numba.int16:
            number = builder.bitcast(number, ir.HalfType())
        return number if value == numba.float64 else builder.fpext(number, ir.DoubleType())

    return numba.float64(value), generate


def _hold(builder: Any, number: Any) -> Any:
    """Hide from LLVM that a float is constant, so that it stays in a register.

    LLVM would read a constant from memory each time, which takes longer than a multiplication.
    """
    bits = ir.IntType(32 if isinstance(number.type, ir.FloatType) else 64)
    value = builder.bitcast(number, bits)
    same = builder.asm(ir.FunctionType(bits, [bits]), "", "=r,0", [value], side_effect=False)
    return builder.bitcast(same, number.type)


def _hold_all(kind: Any, numbers: Sequence[float | np.float32]) -> Any:
    """Return type and code of a function that returns these numbers, held."""
    result = numba.types.UniTuple(kind, len(numbers))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        real = context.get_value_type(kind)
        held = [_hold(builder, real(float(number))) for number in numbers]
        return context.make_tuple(builder, result, held)

    return result(), generate


def _evaluate(builder: Any, coefficients: Sequence[Any], r: Any) -> Any:
    """Evaluate a polynomial whose first coefficient is the constant one."""
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        product = builder.fmul(value, r, flags=_CONTRACT)
        value = builder.fadd(product, coefficient, flags=_CONTRACT)
    return value


@intrinsic
def _fetch_line(typing_context: Any, row: Any, index: Any) -> Any:
    """Prefetch the cache line of an element into the second-level cache."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.bitcast(
            builder.gep(array.data, [arguments[1]]), ir.IntType(8).as_pointer()
        )
        int32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, int32, int32, int32])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [address.type], kind)
        builder.call(prefetch, [address, int32(0), int32(2), int32(1)])
        return context.get_dummy_value()

    return numba.void(row, numba.int64), generate


@compiled(inline="always")
def prefetch(row_B: Any) -> None:
    """Prefetch a row of memory that will be needed soon."""
    for i in range(0, len(row_B), CACHE_LINE // row_B.itemsize):
        _fetch_line(row_B, i)


@compiled(inline="always")
def exp(x: float) -> float:
    """Return e^x for x <= 0, to about one unit in the last place.

    With x = n ln 2 + r and |r| <= ln 2 / 2, it is 2^n times a Taylor polynomial of degree 13,
    whose remainder is 4e-18.
    """
    x = max(_SMALLEST_EXPONENT, x)
    shifted = x * LOG2_E + _ROUND_TO_INTEGER
    n = shifted - _ROUND_TO_INTEGER
    r = (x - n * _LN_2_HIGH) - n * _LN_2_LOW
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return p * _power_of_two(shifted)


@intrinsic
def constants(typing_context: Any) -> Any:
    """Return the constants of `exp2`; call it before a loop."""
    return _hold_all(numba.float64, [*_POWER, _ROUND_TO_INTEGER, _SMALLEST_EXPONENT])


@intrinsic
def constants_single(typing_context: Any) -> Any:
    """Return the constants of `exp2_single`; call it before a loop."""
    return _hold_all(numba.float32, [*_POWER_SINGLE, _ROUND_TO_INTEGER_SINGLE])


def _multiply_by_power(builder: Any, numbers: Any, shifted: Any) -> Any:
    """Return floats times 2^n; n is in the lowest bits of those to which the rounder was added."""
    integers, digits, _ = _describe(numbers.type)
    n = builder.shl(builder.bitcast(shifted, integers), _constant(integers, digits))
    product = builder.add(builder.bitcast(numbers, integers), n)
    return builder.bitcast(product, numbers.type)


def _unpack(builder: Any, held: Any, kind: Any) -> list[Any]:
    """Return the held constants, as vectors where the numbers are some."""
    numbers = cgutils.unpack_tuple(builder, held)
    if not isinstance(kind, ir.VectorType):
        return numbers
    return [spread(builder, number, kind.count) for number in numbers]


# These are not compiled from Python: numba takes far longer to insert a function than to call one.
@intrinsic
def exp2(typing_context: Any, x: Any, c: Any) -> Any:
    """Return 2^x for doubles up to 127, to a few units in the last place; c: what `constants` returned."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        exponent = arguments[0]
        *powers, rounder, smallest = _unpack(builder, arguments[1], exponent.type)
        is_larger = builder.fcmp_ordered(">", exponent, smallest)
        exponent = builder.select(is_larger, exponent, smallest)
        shifted = builder.fadd(exponent, rounder)
        r = builder.fsub(exponent, builder.fsub(shifted, rounder))
        return _multiply_by_power(builder, _evaluate(builder, powers, r), shifted)

    return x(x, c), generate


@intrinsic
def exp2_single(typing_context: Any, x: Any, c: Any) -> Any:
    """Return 2^x of float32 for |x| < 126, to an error of 2e-7; c: what `constants_single` returned."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        exponent = arguments[0]
        *powers, rounder = _unpack(builder, arguments[1], exponent.type)
        shifted = builder.fadd(exponent, rounder)
        r = builder.fsub(exponent, builder.fsub(shifted, rounder))
        return _multiply_by_power(builder, _evaluate(builder, powers, r), shifted)

    return x(x, c), generate


@compiled(inline="always")
def take_exponents(products_L: Floats, exponents_L: Integers) -> None:
    """Move the powers of two of positive normal numbers into exponents, leaving 1 <= number < 2.

    So the logarithm of a product of thousands of factors is one logarithm and a sum of integers.
    """
    for i in range(LANES):
        exponents_L[i] += exponent_of(products_L[i])
        products_L[i] = mantissa_of(products_L[i])


@compiled(inline="always")
def log_of_lanes(products_L: Floats, exponents_L: Integers) -> float:
    """Return the logarithm of the product of all lanes, as `take_exponents` left them."""
    product, exponent = 1.0, 0
    for i in range(len(products_L)):
        product *= products_L[i]
        exponent += exponents_L[i]
    return math.log(product) + exponent * math.log(2.0)
