"""Sums in integers against the float sums that they stand for, for all pairs of codes."""

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_students import needs_gcc

from students.c.expressions import (
    Buffer,
    Combine,
    Constant,
    Expression,
    Lookup,
    Round,
    Stored,
    Widen,
)
from students.c.fixed_point import find_fixed_sum, list_numbers
from students.c.graph import Grid
from students.c.text import print_float

SOURCES = Path(__file__).parents[3] / "students" / "c"
SHAPE = (1, 256, 256)
MAPS = [Stored(Buffer(name, "codes", SHAPE), SHAPE) for name in "ab"]

CODE = """
#include "kernels.h"
#include "numbers.h"
/* Rounds from position i on; returns the first position that is not certain. */
int round_on(const float *first, const float *second, const uint8_t *a, const uint8_t *b, int i, int count,
             uint8_t *codes) {
  int32_t fixed[2][256];
  fill_fixed(first, UNIT_0, fixed[0]);
  fill_fixed(second, UNIT_1, fixed[1]);
  const fixed_term terms[] = {{fixed[0], a, FACTOR_0}, {fixed[1], b, FACTOR_1}};
  return round_sums_of_2(terms, OFFSET, CERTAIN, i, count, codes);
}
"""


def make_constant(value: float) -> Constant:
    return Constant("constant", np.array([value], np.float32), 1)


def make_sum(seed: int, *, linear: bool) -> Round:
    """Make `(f(a) * s + h) + (g(b) * t - k)`, rounded, with random numbers that cover the codes."""
    rng = np.random.default_rng(seed)
    grids = [Grid(float(np.float32(rng.uniform(0.01, 0.05))), int(rng.integers(256))) for _ in MAPS]
    leaves: list[Expression] = [
        Lookup(MAPS[0], grids[0], "Gelu"),
        Lookup(MAPS[1], grids[1], "Gelu"),
    ]
    if linear:
        leaves[1] = Widen(MAPS[1], grids[1])
    scale, shift, other_scale, other_shift = map(make_constant, rng.uniform(-2, 2, 4))
    one = Combine("Add", Combine("Mul", leaves[0], scale), shift)
    other = Combine("Sub", Combine("Mul", other_scale, leaves[1]), other_shift)
    grid = Grid(float(np.float32(rng.uniform(0.02, 0.1))), int(rng.integers(256)))
    return Round(Combine("Add", one, other), grid, "sum")


def evaluate(value: Expression, codes_P: dict[int, np.ndarray]) -> np.ndarray:
    """Compute an expression for each position in float32, in its order."""
    match value:
        case Constant():
            return value.values
        case Lookup() | Widen():
            return list_numbers(value)[codes_P[id(value.value)]]
        case Combine(arithmetic, left, right):
            one, other = evaluate(left, codes_P), evaluate(right, codes_P)
            return {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}[arithmetic](one, other)
        case Round(inside, grid, _):
            steps = np.rint(evaluate(inside, codes_P) / np.float32(grid.scale))
            return (np.clip(steps, -grid.zero, 255 - grid.zero) + grid.zero).astype(np.uint8)
        case _:
            raise AssertionError(value)


@needs_gcc
@pytest.mark.parametrize(("seed", "linear"), [(0, False), (1, False), (2, True), (3, True)])
def test_a_certain_sum_has_the_code_of_the_float_sum(
    seed: int, linear: bool, tmp_path: Path
) -> None:
    value = make_sum(seed, linear=linear)
    fixed = find_fixed_sum(value)
    assert fixed is not None

    def write(constant: Constant) -> str:
        return print_float(constant.values[0])

    names = {"OFFSET": fixed.print_offset(write), "CERTAIN": str(fixed.certain)}
    for number, term in enumerate(fixed.terms):
        names |= {f"FACTOR_{number}": fixed.print_factor(number, write)}
        # The table of a linear term is filled from floats here: their unit is that of a code.
        per_number = np.float32(1) if isinstance(term.leaf, Lookup) else 1 / term.leaf.grid.scale
        names |= {f"UNIT_{number}": f"{per_number * 2.0**term.shift:.1f}f"}
    defined = "".join(f"#define {name} ({text})\n" for name, text in names.items())
    (tmp_path / "sums.c").write_text(defined + CODE)
    flags = ["-std=c11", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}"]
    command = ["gcc", *flags, "-shared", "-fPIC", "sums.c", "-o", "sums.so"]
    subprocess.run(command, cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "sums.so"))

    pairs = np.indices((256, 256)).reshape(2, -1).astype(np.uint8)
    a_P, b_P = (np.ascontiguousarray(each) for each in pairs)
    expected_P = evaluate(value, {id(MAPS[0]): a_P, id(MAPS[1]): b_P})
    codes_P = expected_P.copy()
    tables = [np.ascontiguousarray(list_numbers(term.leaf)) for term in fixed.terms]
    pointers = [ctypes.c_void_p(each.ctypes.data) for each in (*tables, a_P, b_P)]
    into = ctypes.c_void_p(codes_P.ctypes.data)
    doubtful, position = 0, -1
    while (position := library.round_on(*pointers, position + 1, len(a_P), into)) < len(a_P):
        doubtful += 1
    np.testing.assert_array_equal(codes_P, expected_P)
    assert 0 < doubtful < len(a_P) / 100


def test_other_expressions_and_large_ones_stay_float() -> None:
    grid = Grid(0.02, 3)
    gelu = Lookup(MAPS[0], grid, "Gelu")
    assert find_fixed_sum(gelu) is None
    product = Combine("Mul", gelu, Widen(MAPS[1], grid))
    small, large = (Combine("Add", gelu, make_constant(number)) for number in (1, 1000))
    found = [find_fixed_sum(Round(each, grid, "sum")) for each in (product, small, large)]
    assert [each is not None for each in found] == [False, True, False]
