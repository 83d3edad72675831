"""Arithmetic that LLVM turns into vector instructions (B clips in a block).

It has its own exponentials, because those of the C library take one number at a time. Sums run in
lanes that are added in a fixed order at the end, so equal inputs give equal bits on any machine.
"""

import math
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic as _untyped_intrinsic
from numpy.typing import NDArray

from ensemble.numba_cache import compiled
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

Singles = NDArray[np.float32]

intrinsic: Any = _untyped_intrinsic
"""numba calls the decorated function with other arguments than those it declares."""


@intrinsic
def _double_of_bits(typing_context: Any, bits: Any) -> Any:
    """Return the double that has these 64 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return numba.float64(numba.int64), generate


@intrinsic
def _bits_of_double(typing_context: Any, value: Any) -> Any:
    """Return the 64 bits of a double."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return numba.int64(numba.float64), generate


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
    """Convert a float, or the one that has these 16, 32 or 64 bits, to a double without loss."""
    kinds = {numba.int16: ir.HalfType(), numba.int32: ir.FloatType(), numba.int64: ir.DoubleType()}

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = arguments[0]
        if value in kinds:
            number = builder.bitcast(number, kinds[value])
        return number if value.bitwidth == 64 else builder.fpext(number, ir.DoubleType())

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


@intrinsic
def _hold(typing_context: Any, number: Any) -> Any:
    """Hide from LLVM that a float is constant, so that it stays in a register.

    LLVM would read a constant from memory each time, which takes longer than a multiplication.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = ir.IntType(number.bitwidth)
        value = builder.bitcast(arguments[0], bits)
        same = builder.asm(ir.FunctionType(bits, [bits]), "", "=r,0", [value], side_effect=False)
        return builder.bitcast(same, arguments[0].type)

    return number(number), generate


@intrinsic
def _times_power_of_two(typing_context: Any, value: Any, shifted: Any) -> Any:
    """Multiply a float32 by 2^n, n in the lowest bits of `shifted`, by adding to its exponent."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        int32 = ir.IntType(32)
        bits, power = (builder.bitcast(argument, int32) for argument in arguments)
        scaled = builder.add(bits, builder.shl(power, int32(23)))
        return builder.bitcast(scaled, ir.FloatType())

    return numba.float32(numba.float32, numba.float32), generate


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
    return p * _double_of_bits((_bits_of_double(shifted) + 1023) << 52)


@compiled(inline="always")
def constants() -> Any:
    """Return the constants of `exp2`; call it before a loop."""
    c = _POWER
    return (
        (_hold(c[0]), _hold(c[1]), _hold(c[2]), _hold(c[3]), _hold(c[4]), _hold(c[5]))
        + (_hold(c[6]), _hold(c[7]), _hold(c[8]), _hold(c[9]), _hold(c[10]))
        + (_hold(_ROUND_TO_INTEGER), _hold(_SMALLEST_EXPONENT))
    )


@compiled(inline="always")
def exp2(x: float, c: Any) -> float:
    """Return 2^x for x <= 127, to a few units in the last place; shorter than `exp`.

    Args:
        x: the exponent.
        c: what `constants` returned.
    """
    x = max(x, c[12])
    shifted = x + c[11]
    r = x - (shifted - c[11])
    p = c[10] * r + c[9]
    p = p * r + c[8]
    p = p * r + c[7]
    p = p * r + c[6]
    p = p * r + c[5]
    p = p * r + c[4]
    p = p * r + c[3]
    p = p * r + c[2]
    p = p * r + c[1]
    p = p * r + c[0]
    return _double_of_bits(_bits_of_double(p) + (_bits_of_double(shifted) << 52))


@compiled(inline="always")
def constants_single() -> Any:
    """Return the constants of `exp2_single`; call it before a loop."""
    c = _POWER_SINGLE
    return (_hold(c[0]), _hold(c[1]), _hold(c[2]), _hold(c[3]), _hold(c[4]), _hold(c[5])) + (
        _hold(_ROUND_TO_INTEGER_SINGLE),
    )


@compiled(inline="always")
def exp2_single(x: np.float32, c: Any) -> np.float32:
    """Return 2^x in float32 for |x| < 126, to a relative error of 2e-7.

    Args:
        x: the exponent.
        c: what `constants_single` returned.
    """
    shifted = x + c[6]
    r = x - (shifted - c[6])
    p = c[5] * r + c[4]
    p = p * r + c[3]
    p = p * r + c[2]
    p = p * r + c[1]
    p = p * r + c[0]
    return _times_power_of_two(p, shifted)


@compiled(inline="always")
def take_exponents(products_L: Floats, exponents_L: Integers) -> None:
    """Move the powers of two of positive normal numbers into exponents, leaving 1 <= number < 2.

    So the logarithm of a product of thousands of factors is one logarithm and a sum of integers.
    """
    for i in range(LANES):
        bits = _bits_of_double(products_L[i])
        exponents_L[i] += (bits >> 52) - 1023
        products_L[i] = _double_of_bits((bits & _MANTISSA) | _ONE)


@compiled(inline="always")
def log_of_lanes(products_L: Floats, exponents_L: Integers) -> float:
    """Return the logarithm of the product of all lanes, as `take_exponents` left them."""
    product, exponent = 1.0, 0
    for i in range(LANES):
        product *= products_L[i]
        exponent += exponents_L[i]
    return math.log(product) + exponent * math.log(2.0)
