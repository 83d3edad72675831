"""What a student's program does, step by step: statements that fill one buffer each.

A statement goes channel by channel if a channel of its output depends on few channels of its inputs: such
statements can share a loop over the channels, with one channel of what is between them in memory.
"""

from dataclasses import dataclass

from students.c.expressions import (
    Buffer,
    Expression,
    IntegerLayer,
    Stored,
    has_windows,
    iterate_leaves,
)
from students.c.graph import Axis, Grid, Reduction, Shape


@dataclass(frozen=True, eq=False, slots=True)
class Convolve:
    """An integer layer, from a stored map to another."""

    layer: IntegerLayer
    source: Stored
    table: Expression | None
    """What the layer reads instead of a stored code, if that is another code."""
    target: Stored

    @property
    def by_channel(self) -> bool:
        """Whether each output channel has one input channel."""
        return self.layer.shape.kernel == "convolve_channel"

    @property
    def inputs(self) -> tuple[Stored, ...]:
        """What it reads."""
        return (self.source, *(iterate_leaves(self.table) if self.table else ()))


@dataclass(frozen=True, eq=False, slots=True)
class Store:
    """An expression for each position: codes, or numbers."""

    value: Expression
    target: Stored

    @property
    def by_channel(self) -> bool:
        """Whether it goes channel by channel: numbers of channels do not."""
        is_map = self.target.shape[1:] != (1, 1) or has_windows(self.value)
        return is_map and self.target.buffer.kind == "codes"

    @property
    def inputs(self) -> tuple[Stored, ...]:
        """What it reads."""
        return tuple(iterate_leaves(self.value))


@dataclass(frozen=True, eq=False, slots=True)
class Reduce:
    """The mean, the sum or the norm of all positions along some axes."""

    reduction: Reduction
    value: Expression
    over: tuple[Axis, ...]
    by_columns: bool
    target: Stored

    @property
    def by_channel(self) -> bool:
        """Whether it goes channel by channel."""
        return "channels" not in self.over

    @property
    def inputs(self) -> tuple[Stored, ...]:
        """What it reads."""
        return tuple(iterate_leaves(self.value))


@dataclass(frozen=True, eq=False, slots=True)
class Classify:
    """A linear layer whose sums are not rounded: from codes to numbers."""

    layer: IntegerLayer
    source: Stored
    target: Stored
    by_channel = False

    @property
    def inputs(self) -> tuple[Stored, ...]:
        """What it reads."""
        return (self.source,)


_REDUCTIONS = {"ReduceMean": "mean", "ReduceL2": "norm", "ReduceSum": "sum"}
Statement = Convolve | Store | Reduce | Classify


@dataclass(frozen=True, eq=False, slots=True)
class Lowered:
    """A student as statements, in an order in which they can run."""

    statements: tuple[Statement, ...]
    input: Buffer
    """The codes of a clip, [C, F, T]."""
    grid: Grid
    """What they stand for."""
    logits: Buffer


def count_scratch_bytes(statement: Statement) -> int:
    """Return the scratch of a statement's kernel."""
    return statement.layer.shape.count_scratch_bytes() if isinstance(statement, Convolve) else 0


def describe(statement: Statement) -> str:
    """Return what a statement does, with shapes."""
    shape = _print_shape(statement.target.shape)
    match statement:
        case Convolve(layer=layer, source=source):
            size = layer.shape
            each = " of each channel" if statement.by_channel else ""
            kernel = f"{size.kernel_height}x{size.kernel_width}{each}"
            return f"{layer.path}: {_print_shape(source.shape)} -> {shape}, {kernel}"
        case Reduce(value=value):
            what = _REDUCTIONS[statement.reduction]
            into = "" if statement.target.shape[1:] == (1, 1) else f" -> {shape}"
            return f"{statement.target.buffer.name}: {what} of {_print_shape(value.shape)}{into}"
        case Classify(layer=layer, source=source):
            return f"{layer.path}: {_print_shape(source.shape)} -> {shape}, linear"
        case Store(target=target):
            return f"{target.buffer.name}: {shape}"


def _print_shape(shape: Shape) -> str:
    return str(shape[0]) if shape[1:] == (1, 1) else "x".join(map(str, shape))
