"""C text of expressions: what a loop declares before it begins, and what it computes for each position.

Names in the text: `c` is the channel of the statement, `i` the position in it.
"""

from collections.abc import Callable, Mapping

import numpy as np

from students.c.expressions import (
    Combine,
    Constant,
    Expression,
    IntegerLayer,
    Lookup,
    Merge,
    Pool,
    Rectify,
    Round,
    Spread,
    Stored,
    Widen,
)
from students.c.graph import Function, Grid

SIGNS = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/"}
NameTable = Callable[[Function, Grid], str]
Address = Callable[[Stored, str], str]
"""From stored channels and a channel's number in them to C text of its address."""


def print_float(value: float) -> str:
    """Return a float32 in as few digits as name it."""
    text = str(np.float32(value))
    return f"{text}f" if any(each in text for each in ".en") else f"{text}.0f"


class Writer:
    """Writes the expressions of one statement.

    Args:
        address: where stored channels are.
        name_table: the name of the table of a function.
    """

    def __init__(self, address: Address, name_table: NameTable) -> None:
        self.address, self.name_table = address, name_table
        self.before: list[str] = []
        """Declarations for a channel."""
        self.names: dict[tuple[int, str], str] = {}
        self.kept: list[object] = []
        self.windows: list[str] = []
        """Statements for a position: means of windows, which are named."""
        self.constants: dict[str, np.ndarray] = {}
        self.layers: dict[str, IntegerLayer] = {}
        self.code: Stored | None = None
        """The map whose codes a table is written for: it is `code` in the text."""

    def write(self, value: Expression, channel: str, position: str) -> str:
        """Return the value at a position of a channel; adds to `before` what it needs."""
        match value:
            case Stored():
                return self._write_stored(value, channel, position)
            case Constant():
                return self._write_constant(value, channel)
            case Widen(inside, grid):
                return _widen(self.write(inside, channel, position), grid)
            case Round(inside, grid):
                text = self.write(inside, channel, position)
                return f"quantise({_strip(text)}, {print_float(grid.scale)}, {grid.zero})"
            case Merge():
                return self._write_merge(value, channel, position)
            case Lookup(inside, grid, function):
                text = self.write(inside, channel, position)
                return f"{self.name_table(function, grid)}[{_strip(text)}]"
            case Rectify(inside):
                return f"rectify({_strip(self.write(inside, channel, position))})"
            case Combine(arithmetic, left, right):
                one, other = (self.write(each, channel, position) for each in (left, right))
                return f"({one} {SIGNS[arithmetic]} {other})"
            case Spread(inside):
                return self._declare_number(inside, channel)
            case Pool():
                return self._write_window(value, channel)

    def _write_stored(self, value: Stored, channel: str, position: str) -> str:
        if self.code and is_same_map(value, self.code):
            return "code"
        if value.shape[1:] == (1, 1):
            kind = "float" if value.buffer.kind == "numbers" else "uint8_t"
            text = self._name(value, "", value.buffer.name, self._address_numbers(value), kind)
            return f"{text}[{'0' if value.shape[0] == 1 else channel}]"
        address = self.address(value, channel)
        name = self._name(value, channel, value.buffer.name, address, "uint8_t")
        return f"{name}[{position}]"

    def _address_numbers(self, value: Stored) -> str:
        address = self.address(value, "0")
        if value.buffer.kind == "numbers":
            return f"(const float *)(const void *)({address})"
        return address

    def _name(self, value: Expression, channel: str, name: str, text: str, kind: str) -> str:
        """Return the name of a pointer that is declared once."""
        key = (id(value), channel)
        if key not in self.names:
            same = [each for each in self.names.values() if each.startswith(name)]
            free = f"{name}_{len(same) + 1}" if same else name
            self.before.append(f"const {kind} *const {free} = {text};")
            self.names[key] = free
            self.kept.append(value)
        return self.names[key]

    def _write_constant(self, value: Constant, channel: str) -> str:
        if value.count == 1 and len(value.values) == 1:
            return print_float(value.values[0])
        self.constants[value.name] = value.values
        return f"{value.name}[{_add(channel, value.start)}]"

    def _declare_number(self, value: Expression, channel: str) -> str:
        """Return the name of a number that is the same for the whole channel."""
        key = (id(value), channel)
        if key not in self.names:
            text = self.write(value, channel, "0")
            if isinstance(value, Constant):
                return text
            name = f"number_{len(self.names)}"
            self.before.append(f"const float {name} = {_strip(text)};")
            self.names[key] = name
            self.kept.append(value)
        return self.names[key]

    def _write_window(self, value: Pool, channel: str) -> str:
        """Return the name of a window's mean at row y and column x."""
        key = (id(value), channel)
        if key in self.names:
            return self.names[key]
        name = f"mean_{len(self.names)}"
        self.names[key] = name
        self.kept.append(value)
        inside = self.write(value.value, channel, "j")
        rows = _walk(
            "row", "y", value.kernel[0], value.strides[0], value.pads[0], value.value.shape[1]
        )
        columns = _walk(
            "column", "x", value.kernel[1], value.strides[1], value.pads[1], value.value.shape[2]
        )
        outer, inner = (columns, rows) if value.by_columns else (rows, columns)
        self.windows += [
            f"float {name} = 0.0f;",
            *outer,
            *(f"  {line}" for line in inner),
            f"    const int j = row * {value.value.shape[2]} + column;",
            f"    {name} += {_strip(inside)};",
            "  }",
            "}",
            f"{name} /= {value.kernel[0] * value.kernel[1]}.0f;",
        ]
        return name

    def _write_merge(self, value: Merge, channel: str, position: str) -> str:
        layer, merged = value.layer, value.merged
        self.layers[layer.parameters] = layer
        own = _add(channel, value.start)
        terms = []
        for number in range(merged):
            inside = channel if merged == 1 else f"{_multiply(channel, merged)} + {number}"
            code = self.write(value.value, inside, position)
            at = own if merged == 1 else f"{_multiply(own, merged)} + {number}"
            terms.append(f"{layer.parameters}_weights[{at}] * ({code} - {layer.input_zero})")
        if layer.bias is not None:
            terms.append(f"{layer.parameters}_bias[{own}]")
        total = " + ".join(terms)
        return f"quantise_sum({total}, {layer.parameters}_scale[{own}], {layer.output_zero})"


def _widen(code: str, grid: Grid) -> str:
    integer = f"({code} - {grid.zero})" if grid.zero else code
    return f"((float){integer} * {print_float(grid.scale)})"


def _add(text: str, number: int) -> str:
    return f"{text} + {number}" if number else text


def _multiply(text: str, number: int) -> str:
    return f"({text}) * {number}" if " " in text else f"{text} * {number}"


def _strip(text: str) -> str:
    """Return a text without brackets around all of it."""
    if not text.startswith("("):
        return text
    depth = 0
    for position, each in enumerate(text):
        depth += (each == "(") - (each == ")")
        if not depth:
            return text[1:-1] if position == len(text) - 1 else text
    return text


def _walk(name: str, at: str, kernel: int, stride: int, pad: int, size: int) -> list[str]:
    """Return lines that begin a loop over one axis of a window, without the padding."""
    start = f"{at} * {stride}" if stride > 1 else at
    first = f"{start} - {pad}" if pad else start
    last = f"{name} < {first} + {kernel}" if kernel > 1 or pad else f"{name} == {first}"
    if pad:
        return [
            f"for (int {name} = {first}; {last}; {name}++) {{",
            f"  if ({name} < 0 || {name} >= {size}) continue;",
        ]
    return [f"for (int {name} = {first}; {name} < {first} + {kernel}; {name}++) {{"]


def is_same_map(one: Stored, other: Stored) -> bool:
    """Whether two leaves are the same channels and rows of a buffer."""
    here, there = (
        (each.buffer, each.channel_start, each.row_start, each.shape) for each in (one, other)
    )
    return here == there
