"""C text of a student's steps: one function each.

Names in the text: `c` is a channel of the statement's output, `i` a position in it.
"""

from collections.abc import Sequence

from students.c.addresses import Addresses
from students.c.constants import Constants
from students.c.expressions import Expression, Stored, find_only_map
from students.c.fixed_loops import FixedLoops
from students.c.fixed_point import find_fixed_sum
from students.c.lines import (
    count_positions,
    find_free_name,
    indent,
    print_for,
    print_positions,
    wrap_code,
    wrap_comment,
)
from students.c.memory import Plan
from students.c.reductions import Reductions
from students.c.statements import (
    Classify,
    Convolve,
    Reduce,
    Statement,
    Store,
    count_scratch_bytes,
    describe,
)
from students.c.steps import Step, count_channels
from students.c.text import Writer, strip

TABLE_SIZE = 256
"""Codes: a map of more positions is looked up in a table that is filled for each channel."""


class Printer:
    """Collects the functions of student.c, and the constants that they need."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.addresses = Addresses(plan)
        self.constants = Constants()
        self.reductions = Reductions(self.addresses, self.constants)
        self.fixed = FixedLoops(self.constants.name_table)
        """Loops of the step that is printed."""
        self.functions: list[str] = []
        self.names: list[str] = []

    def print_step(self, number: int, step: Step) -> None:
        """Add the function of a step."""
        name = self._name_step(step)
        self.fixed = FixedLoops(self.constants.name_table)
        body = self._print_body(step)
        body = [*self.fixed.outside, *body]
        if any(map(count_scratch_bytes, step.statements)):
            where = self.plan.scratch[number]
            body = [f"int16_t *const scratch = (int16_t *)(void *)(arena + {where});", *body]
        lines = [f"static void {name}(uint8_t *arena) {{", *indent(body), "}"]
        wrapped = [each for line in lines for each in wrap_code(line)]
        self.functions.append("\n".join([*wrap_comment(_describe_step(step)), *wrapped]))
        self.names.append(name)

    def _name_step(self, step: Step) -> str:
        """Return a name after the first layer, or after the first result."""
        layers = [
            each.layer.name for each in step.statements if isinstance(each, Convolve | Classify)
        ]
        name = f"run_{layers[0]}" if layers else f"make_{step.statements[0].target.buffer.name}"
        return find_free_name(name, self.names)

    def _print_body(self, step: Step) -> list[str]:
        if not step.statements[0].by_channel:
            (statement,) = step.statements
            return self._print_whole(statement)
        lines = []
        for block in step.blocks:
            statements = [step.statements[each] for each in block]
            run = count_channels(statements[0]) // step.turns
            first = f"turn * {run}" if run > 1 else "turn"
            loop = f"int c = {first}; c < {first} + {run}; c++"
            if len(step.blocks) == 1:
                loop = f"int c = 0; c < {count_channels(statements[0])}; c++"
            lines += print_for(loop, self._print_block(statements))
        if len(step.blocks) == 1:
            return lines
        return print_for(f"int turn = 0; turn < {step.turns}; turn++", lines)

    def _print_block(self, statements: Sequence[Statement]) -> list[str]:
        """Return what is done for a channel; a table that several layers read through is filled once."""
        tables = [each for each in statements if isinstance(each, Convolve) and each.table]
        lines = ["uint8_t table[256];"] * bool(tables)
        filled: Expression | None = None
        for statement in statements:
            lines += wrap_comment(describe(statement)) if len(statements) > 1 else []
            if isinstance(statement, Convolve):
                if statement.table is not None and statement.table is not filled:
                    filled = statement.table
                    lines += self._fill_table(filled, statement.source)
                lines.append(self._print_channel(statement))
                continue
            text = self._print_positions(statement)
            lines += ["{", *indent(text), "}"] if len(statements) > 1 else text
        return lines

    def _print_channel(self, statement: Convolve) -> str:
        layer = self._add_layer(statement)
        source, target = (
            self.addresses.print_codes(each, "c") for each in (statement.source, statement.target)
        )
        table = "table" if statement.table is not None else "0"
        scratch = _name_scratch(statement)
        return f"convolve_channel(&{layer}, c, {source}, {table}, {target}, {scratch});"

    def _add_layer(self, statement: Convolve | Classify) -> str:
        strides = map(self.addresses.find_stride, (statement.source, statement.target))
        return self.constants.add_layer(statement.layer, *strides)

    def _fill_table(self, value: Expression, only: Stored) -> list[str]:
        writer = Writer(self.addresses, self.constants.name_table, only)
        text = self._write(writer, value, "i")
        fill = [*writer.inside, f"table[code] = {text};"]
        fixed = find_fixed_sum(value)
        if fixed is None or len(fixed.terms) != 1:
            return [*writer.before, *print_for("int code = 0; code < 256; code++", fill)]
        loop = self.fixed.print_table(fixed, writer, fill)
        self.constants.add_used(writer)
        # Its names are its own: a channel may have several tables.
        return ["{", *indent([*writer.before, *loop]), "}"]

    def _write(self, writer: Writer, value: Expression, position: str) -> str:
        """Return the text of an expression, and add the constants that it needs."""
        text = strip(writer.write(value, "c", position))
        self.constants.add_used(writer)
        return text

    def _print_positions(self, statement: Statement) -> list[str]:
        match statement:
            case Store():
                return self._print_store(statement)
            case Reduce():
                return self.reductions.print_channel(statement)
            case _:
                raise AssertionError(f"{type(statement).__name__} goes over all channels at once")

    def _print_store(self, statement: Store) -> list[str]:
        shape = statement.target.shape
        target = f"uint8_t *const codes = {self.addresses.print_codes(statement.target, 'c')};"
        only = find_only_map(statement.value)
        if only is not None and shape[1] * shape[2] > TABLE_SIZE:
            source = f"const uint8_t *const source = {self.addresses.print_codes(only, 'c')};"
            table = self._fill_table(statement.value, only)
            loop = print_for(count_positions(shape), ["codes[i] = table[source[i]];"])
            return [source, target, "uint8_t table[256];", *table, *loop]
        writer = Writer(self.addresses, self.constants.name_table)
        text = self._write(writer, statement.value, "i")
        body = [*writer.inside, f"codes[i] = {text};"]
        fixed = find_fixed_sum(statement.value)
        if fixed is not None:
            loop = self.fixed.print_loop(fixed, writer, shape[1] * shape[2], body)
            self.constants.add_used(writer)
            return [*writer.before, target, *loop]
        loop = print_positions(shape, body, with_rows=writer.has_rows, by_columns=False)
        return [*writer.before, target, *loop]

    def _print_whole(self, statement: Statement) -> list[str]:
        """Return what is done for all channels at once."""
        match statement:
            case Convolve(layer=layer):
                name = self._add_layer(statement)
                source, target = (
                    self.addresses.print_codes(each, "0")
                    for each in (statement.source, statement.target)
                )
                kernel, scratch = layer.shape.kernel, _name_scratch(statement)
                return [f"{kernel}(&{name}, {source}, {target}, {scratch});"]
            case Classify():
                name = self._add_layer(statement)
                source = self.addresses.print_codes(statement.source, "0")
                target = self.addresses.print_numbers(statement.target)
                return [f"compute_linear(&{name}, {source}, {target});"]
            case Store():
                return self._print_numbers(statement)
            case Reduce():
                return self.reductions.print_whole(statement)

    def _print_numbers(self, statement: Store) -> list[str]:
        if statement.target.shape[1:] != (1, 1):
            return self._print_map_of_numbers(statement)
        count = statement.target.shape[0]
        writer = Writer(self.addresses, self.constants.name_table)
        text = self._write(writer, statement.value, "0")
        kind = statement.target.buffer.kind
        if kind == "codes":
            target = f"uint8_t *const codes = {self.addresses.print_codes(statement.target, '0')};"
        else:
            target = f"float *const numbers = {self.addresses.print_numbers(statement.target)};"
        body = [*writer.inside, f"{kind}[c] = {text};"]
        if writer.has_rows or writer.has_channels:
            loop = print_positions((count, 1, 1), body, with_rows=writer.has_rows, by_columns=False)
            return [target, *print_for(f"int c = 0; c < {count}; c++", [*writer.before, *loop])]
        return [*writer.before, target, *print_for(f"int c = 0; c < {count}; c++", body)]

    def _print_map_of_numbers(self, statement: Store) -> list[str]:
        shape = statement.target.shape
        writer = Writer(self.addresses, self.constants.name_table)
        text = self._write(writer, statement.value, "i")
        target = f"float *const numbers = {self.addresses.print_numbers(statement.target, 'c')};"
        body = [*writer.inside, f"numbers[i] = {text};"]
        loop = print_positions(shape, body, with_rows=writer.has_rows, by_columns=False)
        return print_for(f"int c = 0; c < {shape[0]}; c++", [*writer.before, target, *loop])


def _describe_step(step: Step) -> str:
    if len(step.statements) == 1:
        return describe(step.statements[0])
    count = "one channel" if len(step.blocks) == 1 else "a few channels"
    return f"{describe(step.statements[0])}, and more, for {count} at a time"


def _name_scratch(statement: Convolve) -> str:
    return "scratch" if count_scratch_bytes(statement) else "0"
