"""C text of a student's steps."""

from collections.abc import Iterable, Sequence

import numpy as np

from students.c.expressions import (
    Expression,
    IntegerLayer,
    Pool,
    Stored,
    find_only_map,
    list_children,
)
from students.c.functions import tabulate
from students.c.graph import Function, Grid, Shape
from students.c.memory import Place, Plan
from students.c.statements import (
    Classify,
    Convolve,
    Reduce,
    Statement,
    Store,
    count_scratch_bytes,
)
from students.c.steps import Step, count_channels
from students.c.text import Writer, _strip, print_float

WIDTH = 100
TABLE_SIZE = 256
"""Codes: a map of more positions is looked up in a table that is filled for each channel."""


class Printer:
    """Collects the constants and the functions of student.c."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.constants: dict[str, str] = {}
        self.constant_bytes = 0
        self.functions: list[str] = []
        self.calls: list[str] = []
        self.tables: dict[tuple[Function, Grid], str] = {}

    def print_step(self, number: int, step: Step) -> None:
        """Add the function of a step."""
        name = f"step_{number + 1}"
        scratch = self.plan.scratch[number]
        lines = self._print_loop(step, scratch)
        title = "; ".join(describe(each) for each in step.statements)
        self.functions.append(
            "\n".join(
                [
                    *wrap_comment(title),
                    f"static void {name}(uint8_t *arena) {{",
                    *_indent(lines),
                    "}",
                ]
            )
        )
        self.calls.append(f"{name}(arena);")

    def _print_loop(self, step: Step, scratch: int) -> list[str]:
        if not step.statements[0].by_channel:
            (statement,) = step.statements
            return self._print_statement(statement, scratch)
        texts = [self._print_turn(each, scratch) for each in step.statements]
        counts = [count_channels(step.statements[block[0]]) for block in step.blocks]
        if len(step.blocks) == 1:
            (block,) = step.blocks
            return _print_block(f"int c = 0; c < {counts[0]}; c++", [texts[each] for each in block])
        lines = []
        for count, block in zip(counts, step.blocks, strict=True):
            run = count // step.turns
            first = f"turn * {run}" if run > 1 else "turn"
            loop = f"int c = {first}; c < {first} + {run}; c++"
            lines += _print_block(loop, [texts[each] for each in block])
        return [f"for (int turn = 0; turn < {step.turns}; turn++) {{", *_indent(lines), "}"]

    def _print_turn(self, statement: Statement, scratch: int) -> list[str]:
        match statement:
            case Convolve():
                return self._print_channel(statement, scratch)
            case Store():
                return self._print_store(statement)
            case Reduce():
                return self._print_reduction(statement)
            case Classify():
                raise AssertionError("goes over all channels at once")

    def _print_statement(self, statement: Statement, scratch: int) -> list[str]:
        match statement:
            case Convolve():
                return self._print_convolution(statement, scratch)
            case Store():
                return self._print_numbers(statement)
            case Reduce():
                return self._print_total(statement)
            case Classify():
                layer = self._print_layer(statement.layer, statement.source, statement.target)
                source = self._address(statement.source, "0")
                target = self._address(statement.target, "0")
                return [f"compute_linear(&{layer}, {source}, (float *)(void *)({target}));"]

    def _print_convolution(self, statement: Convolve, scratch: int) -> list[str]:
        layer = self._print_layer(statement.layer, statement.source, statement.target)
        source, target = (self._address(each, "0") for each in (statement.source, statement.target))
        kernel = statement.layer.shape.kernel
        return [f"{kernel}(&{layer}, {source}, {target}, {_print_scratch(statement, scratch)});"]

    def _print_channel(self, statement: Convolve, scratch: int) -> list[str]:
        layer = self._print_layer(statement.layer, statement.source, statement.target)
        source, target = (self._address(each, "c") for each in (statement.source, statement.target))
        lines, table = [], "0"
        if statement.table is not None:
            lines, table = self._print_table(statement.table, statement.source), "table"
        room = _print_scratch(statement, scratch)
        return [*lines, f"convolve_channel(&{layer}, c, {source}, {table}, {target}, {room});"]

    def _print_table(self, value: Expression, only: Stored) -> list[str]:
        writer = self._make_writer()
        writer.code = only
        text = _strip(writer.write(value, "c", "i"))
        self._take_constants(writer)
        return [
            "uint8_t table[256];",
            *writer.before,
            f"for (int code = 0; code < 256; code++) table[code] = {text};",
        ]

    def _print_store(self, statement: Store) -> list[str]:
        shape = statement.target.shape
        target = f"uint8_t *const codes = {self._address(statement.target, 'c')};"
        only = find_only_map(statement.value)
        if only is not None and shape[1] * shape[2] > TABLE_SIZE:
            table = self._print_table(statement.value, only)
            source = f"const uint8_t *const source = {self._address(only, 'c')};"
            count = shape[1] * shape[2]
            loop = f"for (int i = 0; i < {count}; i++) codes[i] = table[source[i]];"
            return [*table, source, target, loop]
        writer = self._make_writer()
        text = _strip(writer.write(statement.value, "c", "i"))
        self._take_constants(writer)
        body = [*writer.windows, f"codes[i] = {text};"]
        return [*writer.before, target, *_walk_positions(shape, body, bool(writer.windows), False)]

    def _print_reduction(self, statement: Reduce) -> list[str]:
        shape = statement.value.shape
        count = shape[1] * shape[2]
        writer = self._make_writer()
        text = _strip(writer.write(statement.value, "c", "i"))
        self._take_constants(writer)
        windows = bool(writer.windows)
        target = self._address_numbers(statement.target)
        if statement.reduction == "ReduceL2":
            body = [*writer.windows, f"const float value = {text};", "total += value * value;"]
            start, end = ["float total = 0.0f;"], "sqrtf(total)"
        else:
            first = statement.target.channel_start
            at = f"({first} + c)" if first else "c"
            head = "0" if count % 4 == 0 else f"-({at} * {count}) & 3"
            start = ["ordered_sum sum;", f"start_ordered(&sum, {count}, {head});"]
            body = [*writer.windows, f"add_ordered(&sum, {text});"]
            end = f"finish_ordered(&sum) / {count}.0f"
        loop = _walk_positions(shape, body, windows, statement.by_columns)
        return [*writer.before, *start, *loop, f"({target})[c] = {end};"]

    def _print_total(self, statement: Reduce) -> list[str]:
        (count, _, _) = statement.value.shape
        writer = self._make_writer()
        text = _strip(writer.write(statement.value, "c", "0"))
        self._take_constants(writer)
        norm = statement.reduction == "ReduceL2"
        body = [*writer.before, f"const float value = {text};"]
        body += ["total += value * value;" if norm else "total += value;"]
        result = "sqrtf(total)" if norm else f"total / {count}.0f"
        target = self._address_numbers(statement.target)
        return [
            "float total = 0.0f;",
            f"for (int c = 0; c < {count}; c++) {{",
            *_indent(body),
            "}",
            f"({target})[0] = {result};",
        ]

    def _print_numbers(self, statement: Store) -> list[str]:
        (count, _, _) = statement.target.shape
        writer = self._make_writer()
        text = _strip(writer.write(statement.value, "c", "0"))
        self._take_constants(writer)
        if statement.target.buffer.kind == "codes":
            target = f"uint8_t *const codes = {self._address(statement.target, '0')};"
        else:
            target = f"float *const codes = {self._address_numbers(statement.target)};"
        return [
            target,
            f"for (int c = 0; c < {count}; c++) {{",
            *_indent([*writer.before, f"codes[c] = {text};"]),
            "}",
        ]

    def _print_layer(self, layer: IntegerLayer, source: Stored, target: Stored) -> str:
        self._print_parameters(layer)
        size = layer.shape
        bias = f"{layer.parameters}_bias" if layer.bias is not None else "0"
        strides = (self._find_stride(source), self._find_stride(target))
        self.constants[layer.name] = "\n".join(
            [
                f"static const convolution {layer.name} = {{",
                f"  .in_channels = {size.in_channels}, .in_height = {size.in_height}, "
                f".in_width = {size.in_width},",
                f"  .out_channels = {size.out_channels}, .out_height = {size.out_height}, "
                f".out_width = {size.out_width},",
                f"  .kernel_height = {size.kernel_height}, .kernel_width = {size.kernel_width}, "
                f".stride_height = {size.stride_height}, .stride_width = {size.stride_width},",
                f"  .pad_top = {size.pad_top}, .pad_left = {size.pad_left}, "
                f".dilation_height = {size.dilation_height}, "
                f".dilation_width = {size.dilation_width}, .groups = {size.groups},",
                f"  .input_zero = {layer.input_zero}, .output_zero = {layer.output_zero}, "
                f".input_stride = {strides[0]}, .output_stride = {strides[1]},",
                f"  .weights = {layer.parameters}_weights, .bias = {bias}, "
                f".scale = {layer.parameters}_scale}};",
            ]
        )
        return layer.name

    def _print_parameters(self, layer: IntegerLayer) -> None:
        kinds = {"weights": layer.weights, "bias": layer.bias, "scale": layer.scale}
        for kind, values in kinds.items():
            if values is not None:
                self._print_array(f"{layer.parameters}_{kind}", values)

    def _print_array(self, name: str, values: np.ndarray) -> None:
        if name in self.constants:
            return
        self.constant_bytes += values.nbytes
        kind = {"int8": "int8_t", "int32": "int32_t", "float32": "float"}[values.dtype.name]
        flat = values.reshape(-1)
        items = map(print_float, flat) if kind == "float" else map(str, flat.tolist())
        lines = _wrap(items)
        self.constants[name] = "\n".join(
            [f"static const {kind} {name}[{flat.size}] = {{", *lines, "};"]
        )

    def _name_table(self, function: Function, grid: Grid) -> str:
        key = (function, grid)
        if key not in self.tables:
            self.tables[key] = f"{function.lower()}_{len(self.tables) + 1}"
            self._print_array(self.tables[key], tabulate(function, grid))
        return self.tables[key]

    def _make_writer(self) -> Writer:
        return Writer(self._address, self._name_table)

    def _take_constants(self, writer: Writer) -> None:
        for name, values in writer.constants.items():
            self._print_array(name, values)
        for layer in writer.layers.values():
            self._print_parameters(layer)

    def _find_stride(self, stored: Stored) -> int:
        return self.plan.find(stored.buffer).stride

    def _address(self, stored: Stored, channel: str) -> str:
        place = self.plan.find(stored.buffer)
        per_number = 4 if stored.buffer.kind == "numbers" else 1
        offset = place.offset + stored.row_start * stored.shape[2] * per_number
        return _print_address(place, offset, channel, stored.channel_start)

    def _address_numbers(self, stored: Stored) -> str:
        return f"(float *)(void *)({self._address(stored, '0')})"


def _print_block(loop: str, texts: Sequence[Sequence[str]]) -> list[str]:
    """Return a loop over channels; each statement in it has names of its own."""
    if len(texts) == 1:
        return [f"for ({loop}) {{", *_indent(texts[0]), "}"]
    inside = [line for text in texts for line in ("{", *_indent(text), "}")]
    return [f"for ({loop}) {{", *_indent(inside), "}"]


def _print_address(place: Place, offset: int, channel: str, start: int) -> str:
    if not place.run:
        offset += start * place.stride
        return (
            f"arena + {offset}"
            if channel == "0"
            else f"arena + {offset} + ({channel}) * {place.stride}"
        )
    if place.run == 1:
        return f"arena + {offset}"
    turn = f" + c / {place.run} * {place.turn_stride}" if place.turn_stride else ""
    return f"arena + {offset}{turn} + ({channel}) % {place.run} * {place.stride}"


def _print_scratch(statement: Convolve, scratch: int) -> str:
    if not count_scratch_bytes(statement):
        return "0"
    return f"(int16_t *)(void *)(arena + {scratch})"


def _walk_positions(
    shape: Shape, body: Sequence[str], windows: bool, by_columns: bool
) -> list[str]:
    """Return loops over the positions of a channel around the statements for a position."""
    _, height, width = shape
    if not windows and not by_columns:
        loop = f"for (int i = 0; i < {height * width}; i++)"
        if len(body) == 1:
            return [f"{loop} {body[0]}"]
        return [f"{loop} {{", *_indent(body), "}"]
    rows = f"for (int y = 0; y < {height}; y++) {{"
    columns = f"for (int x = 0; x < {width}; x++) {{"
    outer, inner = (columns, rows) if by_columns else (rows, columns)
    at = f"const int i = y * {width} + x;"
    used = [at] if any("i" in _split_words(line) for line in body) else []
    return [outer, f"  {inner}", *_indent(_indent([*used, *body])), "  }", "}"]


def _split_words(line: str) -> set[str]:
    return set("".join(each if each.isalnum() or each == "_" else " " for each in line).split())


def describe(statement: Statement) -> str:
    """Return what a statement does, in words and shapes."""
    shape = _print_shape(statement.target.shape)
    match statement:
        case Convolve():
            size = statement.layer.shape
            kernel = f"{size.kernel_height}x{size.kernel_width}"
            each = " of each channel" if statement.by_channel else ""
            source = _print_shape(statement.source.shape)
            return f"{statement.layer.path}: {source} -> {shape}, {kernel}{each}"
        case Reduce():
            what = "mean" if statement.reduction == "ReduceMean" else "norm"
            return (
                f"{statement.target.buffer.name}: {what} of {_print_shape(statement.value.shape)}"
            )
        case Classify():
            return f"{statement.layer.path}: {statement.source.shape[0]} -> {shape}, linear"
        case Store():
            return f"{statement.target.buffer.name}: {shape}"


def _print_shape(shape: Shape) -> str:
    return str(shape[0]) if shape[1:] == (1, 1) else "x".join(map(str, shape))


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _wrap(items: Iterable[str]) -> list[str]:
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > WIDTH:
            lines.append(line)
            line = "   "
        line += f" {item},"
    return [*lines, line]


def wrap_comment(text: str) -> list[str]:
    """Return a C comment of short lines."""
    lines, line = [], "/*"
    for word in text.split():
        if len(line) + len(word) + 4 > WIDTH:
            lines.append(line)
            line = " *"
        line += f" {word}"
    return [*lines, f"{line} */"]
