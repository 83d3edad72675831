"""C text of expressions: what a loop declares before it begins, and what it computes for each position.

Names in the text: `c` is the channel of the statement, `i` the position in it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from students.c.addresses import Addresses, multiply
from students.c.expressions import (
    AddCodes,
    Combine,
    Constant,
    Deal,
    Expression,
    IntegerLayer,
    Join,
    Lookup,
    Merge,
    Pool,
    Rectify,
    Repeat,
    Root,
    Round,
    Spread,
    Stored,
    Widen,
)
from students.c.graph import Function, Grid
from students.c.lines import find_free_name, print_for

LONG = 64
"""Characters from which on a number gets a name."""
SIGNS = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/"}
NameTable = Callable[[Function, Grid], str]


def print_float(value: float) -> str:
    """Return a float32 in as few digits as name it."""
    text = str(np.float32(value))
    return f"{text}f" if any(each in text for each in ".en") else f"{text}.0f"


@dataclass(eq=False, slots=True)
class _Scope:
    """What is declared for a position."""

    row: str
    column: str
    lines: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    """Names of numbers, by their text."""
    windows: dict[tuple[int, str], str] = field(default_factory=dict)
    """Names of means, by the id of the expression and its channel."""

    def enter(self, row: str, column: str) -> "_Scope":
        """Return the scope of a window's position: it sees what is declared around it."""
        return _Scope(row, column, [], dict(self.texts), dict(self.windows))


class Writer:
    """Writes an expression.

    Args:
        addresses: where stored channels are.
        name_table: returns the name of the table of a function.
        code: the map whose codes a table is written for: they are `code` in the text.
    """

    def __init__(
        self, addresses: Addresses, name_table: NameTable, code: Stored | None = None
    ) -> None:
        self.before: list[str] = []
        """Declarations for a channel."""
        self.has_rows = False
        """Whether they need the row y and the column x."""
        self.has_channels = False
        """Whether they need the channel c."""
        self.constants: dict[str, np.ndarray] = {}
        self.layers: dict[str, IntegerLayer] = {}
        self._addresses, self._name_table, self._code = addresses, name_table, code
        self._names: dict[tuple[int, str], str] = {}
        self._channels: dict[str, str] = {}
        """Names of channels that are dealt or joined, by their text."""
        self._declared: set[str] = set()
        self._taken: set[str] = set()
        self._scope = _Scope("y", "x")
        self._kept: list[Expression] = []
        """What ids in `_names` belong to: they stay those of these objects."""

    @property
    def inside(self) -> list[str]:
        """Declarations for a position."""
        return self._scope.lines

    def write(self, value: Expression, channel: str, position: str) -> str:
        """Return the value at a position of a channel; adds to `before` what it needs."""
        match value:
            case Stored():
                return self._write_stored(value, channel, position)
            case Constant():
                return self._write_constant(value, channel)
            case Widen(inside, grid):
                return _widen(self.write(inside, channel, position), grid)
            case Round(inside, grid, _):
                text = self.write(inside, channel, position)
                return f"quantise({strip(text)}, {print_float(grid.scale)}, {grid.zero})"
            case Merge():
                return self._write_merge(value, channel, position)
            case AddCodes(left, right):
                texts = (self.write(each, channel, position) for each in (left, right))
                return _add_codes(value, *texts)
            case Lookup(inside, grid, function):
                text = self.write(inside, channel, position)
                return f"{self._name_table(function, grid)}[{strip(text)}]"
            case Rectify(inside):
                return f"rectify({strip(self.write(inside, channel, position))})"
            case Combine(arithmetic, left, right):
                one, other = (self.write(each, channel, position) for each in (left, right))
                return self._shorten(f"({one} {SIGNS[arithmetic]} {other})")
            case Root(inside):
                return f"sqrtf({strip(self.write(inside, channel, position))})"
            case Spread(inside):
                return self._declare_number(inside, channel)
            case Repeat():
                return self._write_repeated(value, channel)
            case Deal():
                return self._write_dealt(value, channel, position)
            case Join():
                return self._write_joined(value, channel, position)
            case Pool():
                return self._write_window(value, channel)

    def _write_stored(self, value: Stored, channel: str, position: str) -> str:
        if self._code and is_same_map(value, self._code):
            return "code"
        if value.shape[1:] == (1, 1):
            kind = "float" if value.buffer.kind == "numbers" else "uint8_t"
            name = f"{value.buffer.name}_{value.buffer.kind}"
            text = self._name(value, "", name, self._print_start(value), kind)
            return f"{text}[{'0' if value.shape[0] == 1 else channel}]"
        if value.buffer.kind == "numbers":
            address = self._addresses.print_numbers(value, channel, constant=True)
            name = self._name(value, channel, f"{value.buffer.name}_numbers", address, "float")
            return f"{name}[{position}]"
        return f"{self.write_address(value, channel)}[{position}]"

    def write_address(self, value: Stored, channel: str) -> str:
        """Return the name of a pointer to the codes of a channel."""
        address = self._addresses.print_codes(value, channel)
        return self._name(value, channel, f"{value.buffer.name}_codes", address, "uint8_t")

    def _print_start(self, value: Stored) -> str:
        if value.buffer.kind == "numbers":
            return self._addresses.print_numbers(value, constant=True)
        return self._addresses.print_codes(value, "0")

    def _name(self, value: Expression, channel: str, name: str, text: str, kind: str) -> str:
        """Return the name of a pointer that is declared once."""
        key = (id(value), channel)
        if key not in self._names:
            free = self._take_name(name)
            self.before.append(f"const {kind} *const {free} = {text};")
            self._names[key] = free
            self._kept.append(value)
        return self._names[key]

    def _take_name(self, name: str) -> str:
        """Return a name that nothing else in the text has."""
        free = find_free_name(name, self._taken)
        self._taken.add(free)
        return free

    def _shorten(self, text: str) -> str:
        """Return a name for a number whose text is long."""
        if len(text) < LONG:
            return text
        texts = self._scope.texts
        if text not in texts:
            texts[text] = self._take_name("number")
            self._scope.lines.append(f"const float {texts[text]} = {strip(text)};")
        return texts[text]

    def _write_constant(self, value: Constant, channel: str) -> str:
        if value.count == 1 and len(value.values) == 1:
            return print_float(value.values[0])
        self.constants[value.name] = value.values
        return f"{value.name}[{_add(channel, value.start)}]"

    def _declare_number(self, value: Expression, channel: str) -> str:
        """Return the name of a number that is the same for the whole channel."""
        key = (id(value), channel)
        if key not in self._names:
            text = self.write(value, channel, "0")
            if isinstance(value, Constant):
                return text
            name = self._take_name("of_channel")
            self.before.append(f"const float {name} = {strip(text)};")
            self._names[key] = name
            self._kept.append(value)
        return self._names[key]

    def _write_repeated(self, value: Repeat, channel: str) -> str:
        """Return a number of another map at the row or the column of the position, or at both."""
        self.has_rows = True
        n_channels, n_rows, n_columns = value.value.shape
        row, column = self._scope.row, self._scope.column
        position = row if n_rows > 1 else column
        if n_rows > 1 < n_columns:
            position = f"{row} * {n_columns} + {column}"
        return self.write(value.value, channel if n_channels > 1 else "0", position)

    def _write_dealt(self, value: Deal, channel: str, position: str) -> str:
        heap = value.value.shape[0] // value.groups
        own = _enclose(_add(channel, value.start))
        dealt = self._name_channel(
            f"{own} % {value.groups} * {heap} + {own} / {value.groups}", "dealt"
        )
        place = len(self.before)
        text = self.write(value.value, dealt, position)
        self._declare_channels(place, [dealt], text)
        return text

    def _write_joined(self, value: Join, channel: str, position: str) -> str:
        """Return the number of either map; the channel of the other one is any that it has."""
        own, count = _enclose(channel), value.first.shape[0]
        first = self._name_channel(f"{own} < {count} ? {own} : 0", "first")
        second = self._name_channel(f"{own} < {count} ? 0 : {own} - {count}", "second")
        place = len(self.before)
        one = self.write(value.first, first, position)
        other = self.write(value.second, second, position)
        self._declare_channels(place, [first, second], one + other)
        return self._shorten(f"({own} < {count} ? {one} : {other})")

    def _name_channel(self, text: str, name: str) -> str:
        """Return a name for the number of a channel."""
        self.has_channels = True
        if text not in self._channels:
            self._channels[text] = self._take_name(name)
        return self._channels[text]

    def _declare_channels(self, place: int, names: Iterable[str], text: str) -> None:
        """Declare channels before what was declared since, if it or the text has their names."""
        written = "\n".join([*self.before[place:], *self._scope.lines, text])
        texts = {name: text for text, name in self._channels.items()}
        for name in names:
            if name not in self._declared and re.search(rf"\b{name}\b", written):
                self._declared.add(name)
                self.before.insert(place, f"const int {name} = {texts[name]};")

    def _write_window(self, value: Pool, channel: str) -> str:
        """Return the name of a window's mean or largest number at the row and the column of its surroundings."""
        key = (id(value), channel)
        around = self._scope
        if key in around.windows:
            return around.windows[key]
        self._kept.append(value)
        self.has_rows = True
        name, row, column = map(self._take_name, ("window", "row", "column"))
        position = f"{row}_{column}"
        self._scope = around.enter(row, column)
        text = strip(self.write(value.value, channel, position))
        inside, self._scope = self._scope.lines, around
        is_mean = value.function == "AveragePool"
        add = f"{name} += {text};" if is_mean else f"{name} = take_largest({name}, {text});"
        body = [*inside, add]
        if any(f"[{position}]" in line for line in body):
            width = value.value.shape[2]
            body.insert(0, f"const int {position} = {row} * {width} + {column};")
        axes = [(row, around.row, 0), (column, around.column, 1)]
        # From the inner loop to the outer one.
        for variable, at, axis in axes if value.by_columns else reversed(axes):
            loop, skip = _walk(variable, at, value, axis)
            body = print_for(loop, [*skip, *body])
        size = value.kernel[0] * value.kernel[1]
        start = "0.0f" if is_mean else "-INFINITY"
        around.lines += [f"float {name} = {start};", *body]
        around.lines += [f"{name} /= {size}.0f;"] * is_mean
        around.windows[key] = name
        return name

    def _write_merge(self, value: Merge, channel: str, position: str) -> str:
        layer, merged = value.layer, value.merged
        self.layers[layer.parameters] = layer
        own = _add(channel, value.start)
        terms = []
        for number in range(merged):
            inside = channel if merged == 1 else _add(multiply(channel, merged), number)
            code = self.write(value.value, inside, position)
            at = own if merged == 1 else _add(multiply(own, merged), number)
            value_less_zero = f"({code} - {layer.input_zero})" if layer.input_zero else code
            terms.append(f"{layer.parameters}_weights[{at}] * {value_less_zero}")
        if layer.bias is not None:
            terms.append(f"{layer.parameters}_bias[{own}]")
        total = " + ".join(terms)
        return f"quantise_sum({total}, {layer.parameters}_scale[{own}], {layer.output_zero})"


def _add_codes(value: AddCodes, left: str, right: str) -> str:
    """Return a sum as ONNX Runtime's kernel for processors with AVX2 computes it: steps and one offset."""
    step = np.float32(value.grid.scale)
    by_left, by_right = (
        np.float32(grid.scale) / step for grid in (value.left_grid, value.right_grid)
    )
    # Its multiply-add of the zeros is fused, so that product is not rounded.
    of_right = np.float32(by_right * np.float32(value.right_grid.zero))
    zeros = np.float32(np.float64(by_left) * value.left_grid.zero + np.float64(of_right))
    offset = np.float32(value.grid.zero) - zeros
    numbers = ", ".join(print_float(float(each)) for each in (by_left, by_right, offset))
    return f"add_codes({strip(left)}, {strip(right)}, {numbers})"


def _widen(code: str, grid: Grid) -> str:
    integer = f"({code} - {grid.zero})" if grid.zero else code
    return f"((float){integer} * {print_float(grid.scale)})"


def _enclose(text: str) -> str:
    return f"({text})" if " " in text else text


def _add(text: str, number: int) -> str:
    return f"{text} + {number}" if number else text


def strip(text: str) -> str:
    """Return a text without brackets around all of it."""
    if not text.startswith("("):
        return text
    depth = 0
    for position, each in enumerate(text):
        depth += (each == "(") - (each == ")")
        if not depth:
            return text[1:-1] if position == len(text) - 1 else text
    return text


def _walk(name: str, at: str, window: Pool, axis: int) -> tuple[str, list[str]]:
    """Return a loop over rows or columns of a window, and what leaves out the padding."""
    kernel, stride, pad = (each[axis] for each in (window.kernel, window.strides, window.pads))
    start = f"{at} * {stride}" if stride > 1 else at
    first = f"{start} - {pad}" if pad else start
    size = window.value.shape[1 + axis]
    skip = [f"if ({name} < 0 || {name} >= {size}) continue;"] * (pad > 0)
    return f"int {name} = {first}; {name} < {first} + {kernel}; {name}++", skip


def is_same_map(one: Stored, other: Stored) -> bool:
    """Whether two leaves are the same channels and rows of a buffer."""
    here, there = (
        (each.buffer, each.channel_start, each.row_start, each.shape) for each in (one, other)
    )
    return here == there
