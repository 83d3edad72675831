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
from numba.extending import intrinsic as _untyped_intrinsic
from numpy.typing import NDArray

from disk.numba_cache import compiled
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
_MANTISSA, _ONE = (1 << 52) - 1, 1023 << 52

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

intrinsic: Any = _untyped_intrinsic
"""numba calls the decorated function with other arguments than those it declares."""


@intrinsic
def exponent_of(typing_context: Any, number: Any) -> Any:
    """Return n of a positive normal double in 2^n ... 2^(n + 1)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        int64 = ir.IntType(64)
        bits = builder.bitcast(arguments[0], int64)
        return builder.sub(builder.ashr(bits, int64(52)), int64(1023))

    return numba.int64(numba.float64), generate


@intrinsic
def mantissa_of(typing_context: Any, number: Any) -> Any:
    """Return a positive normal double over 2^(its exponent), 1 <= result < 2."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        int64 = ir.IntType(64)
        bits = builder.and_(builder.bitcast(arguments[0], int64), int64(_MANTISSA))
        return builder.bitcast(builder.or_(bits, int64(_ONE)), ir.DoubleType())

    return numba.float64(numba.float64), generate


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


@intrinsic
def magnitude(typing_context: Any, number: Any) -> Any:
    """Return the bits of an absolute float32 as an integer: it grows with it, and NaN is the largest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = ir.IntType(32)
        return builder.and_(builder.bitcast(arguments[0], bits), bits((1 << 31) - 1))

    return numba.int32(number), generate


def _load(context: Any, builder: Any, kind: Any, arguments: Any) -> Any:
    """Load a number from a flat array, where no index is negative or too large, as a float."""
    array = context.make_array(kind)(context, builder, arguments[0])
    address = builder.gep(array.data, [arguments[1]], inbounds=True)
    number = builder.load(address, align=kind.dtype.bitwidth // 8)
    # Kernels read through these functions only what they do not write: LLVM need not ask at run time.
    number.set_metadata("invariant.load", builder.module.add_metadata([]))
    return builder.bitcast(number, ir.HalfType()) if kind.dtype == numba.int16 else number


@intrinsic
def single_at(typing_context: Any, numbers: Any, index: Any) -> Any:
    """Return an element of a flat array of floats, or of float16s' bits, as float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, single = _load(context, builder, numbers, arguments), ir.FloatType()
        if numbers.dtype == numba.int16:
            return builder.fpext(number, single)
        return builder.fptrunc(number, single) if numbers.dtype == numba.float64 else number

    return numba.float32(numbers, numba.int64), generate


@intrinsic
def double_at(typing_context: Any, numbers: Any, index: Any) -> Any:
    """Return an element of a flat array of floats, or of float16s' bits, as float64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = _load(context, builder, numbers, arguments)
        return number if numbers.dtype == numba.float64 else builder.fpext(number, ir.DoubleType())

    return numba.float64(numbers, numba.int64), generate


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


# These are not compiled from Python: numba takes far longer to insert a function than to call one.
@intrinsic
def exp2(typing_context: Any, x: Any, c: Any) -> Any:
    """Return 2^x for x <= 127, to a few units in the last place; c is what `constants` returned."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        exponent, held = arguments[0], cgutils.unpack_tuple(builder, arguments[1])
        *powers, rounder, smallest = held
        is_larger = builder.fcmp_ordered(">", exponent, smallest)
        exponent = builder.select(is_larger, exponent, smallest)
        shifted = builder.fadd(exponent, rounder)
        r = builder.fsub(exponent, builder.fsub(shifted, rounder))
        int64 = ir.IntType(64)
        value = builder.bitcast(_evaluate(builder, powers, r), int64)
        n = builder.shl(builder.bitcast(shifted, int64), int64(52))
        return builder.bitcast(builder.add(value, n), ir.DoubleType())

    return numba.float64(numba.float64, c), generate


@intrinsic
def exp2_single(typing_context: Any, x: Any, c: Any) -> Any:
    """Return 2^x for |x| < 126, to a relative error of 2e-7; c is what `constants_single` returned."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        exponent, held = arguments[0], cgutils.unpack_tuple(builder, arguments[1])
        *powers, rounder = held
        shifted = builder.fadd(exponent, rounder)
        r = builder.fsub(exponent, builder.fsub(shifted, rounder))
        int32 = ir.IntType(32)
        value = builder.bitcast(_evaluate(builder, powers, r), int32)
        n = builder.shl(builder.bitcast(shifted, int32), int32(23))
        return builder.bitcast(builder.add(value, n), ir.FloatType())

    return numba.float32(numba.float32, c), generate


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
