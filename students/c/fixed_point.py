"""Sums of functions of codes that are rounded again, in integers: as the float sums round, or not at all.

Between two integer layers lie sums such as `norm(gelu(a)) + norm(gelu(b))`, rounded to codes. With 16 bits
behind the point they take a product for each term, and no division. A bound of all errors says how near
to a tie such a sum may have another code than the float sum: there the float sum is taken.

Dimensions: K codes 0...255, C channels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from students.c.expressions import (
    Combine,
    Constant,
    Expression,
    Lookup,
    Round,
    Spread,
    Stored,
    Widen,
)
from students.c.functions import tabulate
from students.c.text import print_float

POINT = 16
"""Bits behind the point."""
MOST_TERMS = 3
"""Each one's table takes a kilobyte of the stack."""
_LARGEST_SUM = 2.0**10
"""Steps that a sum, and each of its parts, stay below: then factors stay below 2^31."""
_LARGEST_TABLE = 2.0**29
_LARGEST_MARGIN = 2 ** (POINT - 6)
"""With a larger one, more than one of 32 sums would be computed in float, too."""
_CODE_SHIFT = 21
"""A code less its zero, times 2 to this power, is a number of a table."""
_FLOAT_ERROR = 2.0**-24
"""Of the result of a float32 operation, at most."""

Leaf = Lookup | Widen
WriteConstant = Callable[[Constant], str]
"""From a constant to its number for channel `c`, in C."""


@dataclass(frozen=True, eq=False, slots=True)
class Product:
    """Constants that are multiplied, or the negative of that."""

    constants: tuple[Constant, ...]
    sign: int = 1

    def print_integer(self, unit: float, write: WriteConstant) -> str:
        """Return it in C, in units of a number, as an int32."""
        number = np.float32(self.sign * unit)
        if not self.constants:
            return str(int(number))
        texts = " * ".join(map(write, self.constants))
        return f"(int32_t)({texts} * {print_float(float(number))})"


@dataclass(frozen=True, eq=False, slots=True)
class Term:
    """A function of a stored code times constants."""

    leaf: Leaf
    factor: Product

    @property
    def source(self) -> Stored:
        """The codes."""
        assert isinstance(self.leaf.value, Stored)
        return self.leaf.value

    @property
    def shift(self) -> int:
        """Its numbers are taken times 2 to this power, as integers."""
        if isinstance(self.leaf, Widen):
            return _CODE_SHIFT
        largest = float(np.abs(list_numbers(self.leaf)).max())
        return int(np.floor(np.log2(_LARGEST_TABLE / largest)))


@dataclass(frozen=True, eq=False, slots=True)
class FixedSum:
    """A code that is `offset + (numbers * factors of all terms >> 32) >> 16`, where that is certain."""

    terms: tuple[Term, ...]
    offsets: tuple[Product, ...]
    step: float
    zero: int
    margin: int
    """Bound of all errors, in units of the last bit: a power of 2."""

    @property
    def certain(self) -> int:
        """Bits that are 0 in a sum whose code is not certain."""
        return 2**POINT - 2 * self.margin

    def print_offset(self, write: WriteConstant) -> str:
        """Return the offset in C: half a step and the margin more than the sum of all products."""
        rounding = self.zero * 2**POINT + 2 ** (POINT - 1) + self.margin
        parts = [each.print_integer(2**POINT / self.step, write) for each in self.offsets]
        return " + ".join([*parts, str(rounding)])

    def print_factor(self, number: int, write: WriteConstant) -> str:
        """Return a term's factor in C."""
        term = self.terms[number]
        of_code = float(np.float32(term.leaf.grid.scale)) if isinstance(term.leaf, Widen) else 1.0
        unit = of_code * 2.0 ** (32 + POINT - term.shift) / self.step
        return term.factor.print_integer(unit, write)


@dataclass(frozen=True, eq=False, slots=True)
class _Sum:
    """A float32 expression as products of leaves and constants."""

    terms: tuple[Term, ...]
    offsets: tuple[Product, ...]
    largest: float
    """Bound of what it, and each of its parts, can be."""
    error: float
    """Bound of what its float32 operations add or lose."""


def find_fixed_sum(value: Expression) -> FixedSum | None:
    """Return how a rounded expression is computed in integers; None if it is no such sum, or too large."""
    found = _split(value.value) if isinstance(value, Round) else None
    if found is None or not isinstance(value, Round) or not 1 <= len(found.terms) <= MOST_TERMS:
        return None
    step = float(np.float32(value.grid.scale))
    if found.largest / step >= _LARGEST_SUM:
        return None
    # The division by the step rounds, too. So do the products for factors and offsets.
    parts = [*(each.factor for each in found.terms), *found.offsets]
    operations = 1 + sum(len(each.constants) + 1 for each in parts)
    error = (found.error + operations * _FLOAT_ERROR * found.largest) / step
    # Each table, factor and offset loses less than a unit by being an integer; so does the sum.
    largest_error = error * 2**POINT + 2 * len(found.terms) + len(found.offsets) + 1
    margin = 1 << int(np.ceil(np.log2(largest_error)))
    if margin > _LARGEST_MARGIN:
        return None
    return FixedSum(found.terms, found.offsets, step, value.grid.zero, margin)


def list_numbers(leaf: Leaf) -> np.ndarray:
    """Return what a leaf is for each code, float32 [K]."""
    if isinstance(leaf, Lookup):
        return tabulate(leaf.function, leaf.grid)
    codes_K = np.arange(256, dtype=np.int32) - leaf.grid.zero
    return codes_K.astype(np.float32) * np.float32(leaf.grid.scale)


def _split(value: Expression) -> _Sum | None:
    match value:
        case Spread(Constant() as constant):
            return _split(constant)
        case Constant():
            return _Sum((), (Product((value,)),), float(np.abs(value.values).max()), 0.0)
        case Lookup(Stored() as codes) | Widen(Stored() as codes) if codes.shape[1:] != (1, 1):
            largest = float(np.abs(list_numbers(value)).max())
            return _Sum((Term(value, Product(())),), (), largest, 0.0) if largest else None
        case Combine("Add" | "Sub" | "Mul" as arithmetic, left, right):
            one, other = _split(left), _split(right)
            if one is None or other is None:
                return None
            return _multiply(one, other) if arithmetic == "Mul" else _add(one, other, arithmetic)
        case _:
            return None


def _add(one: _Sum, other: _Sum, arithmetic: str) -> _Sum:
    sign = 1 if arithmetic == "Add" else -1
    terms = [Term(each.leaf, _scale(each.factor, (), sign)) for each in other.terms]
    offsets = [_scale(each, (), sign) for each in other.offsets]
    largest = one.largest + other.largest
    error = one.error + other.error + _FLOAT_ERROR * largest
    return _Sum((*one.terms, *terms), (*one.offsets, *offsets), largest, error)


def _multiply(one: _Sum, other: _Sum) -> _Sum | None:
    if one.terms:
        one, other = other, one
    if one.terms or one.error or len(one.offsets) != 1:
        return None
    (by,) = one.offsets
    terms = [Term(each.leaf, _scale(each.factor, by.constants, by.sign)) for each in other.terms]
    offsets = [_scale(each, by.constants, by.sign) for each in other.offsets]
    product = one.largest * other.largest
    error = one.largest * other.error + _FLOAT_ERROR * product
    return _Sum(tuple(terms), tuple(offsets), max(product, other.largest), error)


def _scale(product: Product, constants: tuple[Constant, ...], sign: int) -> Product:
    return Product((*product.constants, *constants), sign * product.sign)
