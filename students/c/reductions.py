"""C text of means, sums and norms, in ONNX Runtime's order of additions.

Names in the text: `c` is the channel, `i` the position, `y` the row and `x` the column of what is added.
"""

from students.c.addresses import Addresses
from students.c.constants import Constants
from students.c.expressions import Expression, Widen
from students.c.lines import print_for, print_positions
from students.c.statements import Reduce
from students.c.text import Writer, strip

_SQUARE = "total += value * value;"


class Reductions:
    """Writes reductions.

    Args:
        addresses: where things lie.
        constants: gets those that are needed.
    """

    def __init__(self, addresses: Addresses, constants: Constants) -> None:
        self.addresses, self.constants = addresses, constants

    def print_channel(self, statement: Reduce) -> list[str]:
        """Return what is done for one channel."""
        if statement.over == ("rows", "columns"):
            return self._print_positions(statement)
        return self._print_integers(statement)

    def print_whole(self, statement: Reduce) -> list[str]:
        """Return what is done for all channels at once."""
        return (
            self._print_total(statement)
            if statement.over == ("channels",)
            else self._print_bands(statement)
        )

    def _write(self, value: Expression, position: str) -> tuple[Writer, str]:
        writer = Writer(self.addresses, self.constants.name_table)
        text = strip(writer.write(value, "c", position))
        self.constants.add_used(writer)
        return writer, text

    def _print_positions(self, statement: Reduce) -> list[str]:
        """Return the sum of all positions of a channel."""
        shape = statement.value.shape
        count = shape[1] * shape[2]
        writer, text = self._write(statement.value, "i")
        name = statement.target.buffer.name
        target = f"float *const {name} = {self.addresses.print_numbers(statement.target)};"
        if statement.reduction == "ReduceL2":
            start, add, end = ["float total = 0.0f;"], _SQUARE, "sqrtf(total)"
            body = [*writer.inside, f"const float value = {text};", add]
        else:
            at = (
                f"(c + {statement.target.channel_start})" if statement.target.channel_start else "c"
            )
            # ONNX Runtime's channels begin where those before them end.
            head = f"-({at} * {count}) & 3" if count % 4 else "0"
            start = ["ordered_sum sum;", f"start_ordered(&sum, {count}, {head});"]
            body = [*writer.inside, f"add_ordered(&sum, {text});"]
            end = f"finish_ordered(&sum) / {count}.0f"
        loop = print_positions(
            shape, body, with_rows=writer.has_rows, by_columns=statement.by_columns
        )
        return [*writer.before, target, *start, *loop, f"{name}[c] = {end};"]

    def _print_integers(self, statement: Reduce) -> list[str]:
        """Return means of integers along one axis: exact in any order."""
        assert isinstance(statement.value, Widen)
        _, height, width = statement.value.shape
        writer, text = self._write(statement.value.value, f"y * {width} + x")
        name = statement.target.buffer.name
        address = self.addresses.print_numbers(statement.target, "c")
        rows, columns = f"int y = 0; y < {height}; y++", f"int x = 0; x < {width}; x++"
        over_rows = statement.over == ("rows",)
        outer, inner = (columns, rows) if over_rows else (rows, columns)
        at, count = ("x", height) if over_rows else ("y", width)
        body = [
            "int32_t total = 0;",
            *print_for(inner, [*writer.inside, f"total += {text};"]),
            f"{name}[{at}] = (float)total / {count}.0f;",
        ]
        return [*writer.before, f"float *const {name} = {address};", *print_for(outer, body)]

    def _print_bands(self, statement: Reduce) -> list[str]:
        """Return sums over channels and columns: ONNX Runtime's row y has those of all channels, one after the other."""
        channels, height, width = statement.value.shape
        count = channels * width
        writer, text = self._write(statement.value, "i")
        name = statement.target.buffer.name
        inside = [*writer.inside, f"add_ordered(&sum, {text});"]
        if any("[i]" in line for line in inside):
            inside = [f"const int i = y * {width} + x;", *inside]
        columns = print_for(f"int x = 0; x < {width}; x++", inside)
        head = f"-(y * {count}) & 3" if count % 4 else "0"
        total = "finish_ordered(&sum)"
        row = [
            "ordered_sum sum;",
            f"start_ordered(&sum, {count}, {head});",
            *print_for(f"int c = 0; c < {channels}; c++", [*writer.before, *columns]),
            f"{name}[y] = {total if statement.reduction == 'ReduceSum' else f'{total} / {count}.0f'};",
        ]
        target = f"float *const {name} = {self.addresses.print_numbers(statement.target)};"
        return [target, *print_for(f"int y = 0; y < {height}; y++", row)]

    def _print_total(self, statement: Reduce) -> list[str]:
        """Return the sum of a number of each channel."""
        count = statement.value.shape[0]
        writer, text = self._write(statement.value, "0")
        body, end = [*writer.inside, f"total += {text};"], f"total / {count}.0f"
        if statement.reduction == "ReduceL2":
            body, end = [*writer.inside, f"const float value = {text};", _SQUARE], "sqrtf(total)"
        name = statement.target.buffer.name
        target = f"float *const {name} = {self.addresses.print_numbers(statement.target)};"
        loop = print_for(f"int c = 0; c < {count}; c++", body)
        return [*writer.before, target, "float total = 0.0f;", *loop, f"{name}[0] = {end};"]
