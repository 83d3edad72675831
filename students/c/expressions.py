"""What is computed for each position of a map, between two integer layers.

An expression has a shape (C, H, W); N numbers are (N, 1, 1). Its leaves are stored maps and numbers, and
constants. Expressions are values of codes 0...255, or of float32 numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from students.c.graph import Arithmetic, Function, Grid, Shape, UnknownOperator
from students.c.kernels import ConvolutionShape

Kind = Literal["codes", "numbers"]
"""uint8 codes, or float32 numbers."""


@dataclass(frozen=True, eq=False, slots=True)
class Buffer:
    """A map of codes, or numbers, that lies in the arena for a while."""

    name: str
    kind: Kind
    shape: Shape

    @property
    def size(self) -> int:
        """Bytes of its elements."""
        return int(np.prod(self.shape)) * (1 if self.kind == "codes" else 4)


@dataclass(frozen=True, eq=False, slots=True)
class IntegerLayer:
    """A convolution from codes to codes."""

    name: str
    parameters: str
    """The name of its numbers: layers for parts of a map have the same ones."""
    path: str
    shape: ConvolutionShape
    weights: np.ndarray
    """int8 [O, I / groups, kernel height, kernel width]."""
    bias: np.ndarray | None
    """int32 [O]."""
    scale: np.ndarray
    """float32 [O]: steps of input and weight over the step of the output, if it is rounded."""
    input_zero: int
    output_zero: int


@dataclass(frozen=True, eq=False, slots=True)
class Stored:
    """Some channels and rows of a buffer."""

    buffer: Buffer
    shape: Shape
    channel_start: int = 0
    row_start: int = 0

    @property
    def size(self) -> int:
        """Bytes of its elements."""
        return self.buffer.size // self.buffer.shape[0] * self.shape[0]

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the buffer."""
        return self.shape == self.buffer.shape


@dataclass(frozen=True, eq=False, slots=True)
class Constant:
    """One number for each channel, or one for all."""

    name: str
    values: np.ndarray
    """float32 [N], whole."""
    count: int
    """How many of them are taken."""
    start: int = 0
    """The first one."""

    @property
    def shape(self) -> Shape:
        """(C, H, W)."""
        return (self.count, 1, 1)


@dataclass(frozen=True, eq=False, slots=True)
class Widen:
    """From codes to numbers."""

    value: "Expression"
    grid: Grid

    @property
    def shape(self) -> Shape:
        """(C, H, W)."""
        return self.value.shape


@dataclass(frozen=True, eq=False, slots=True)
class Round:
    """From numbers to codes."""

    value: "Expression"
    grid: Grid
    path: str = ""
    """What is rounded, in the student."""

    @property
    def shape(self) -> Shape:
        """(C, H, W)."""
        return self.value.shape


@dataclass(frozen=True, eq=False, slots=True)
class Merge:
    """A layer of 1x1 whose output channel has few input channels of its own: from codes to codes."""

    value: "Expression"
    layer: IntegerLayer
    start: int = 0
    """First channel of the layer that is computed."""
    count: int = 0

    @property
    def merged(self) -> int:
        """Number of input channels of an output channel."""
        return self.layer.weights.shape[1]

    @property
    def shape(self) -> Shape:
        """(C, H, W)."""
        return (self.value.shape[0] // self.merged, *self.value.shape[1:])


@dataclass(frozen=True, eq=False, slots=True)
class AddCodes:
    """The sum of two maps of codes, from codes to codes, as ONNX Runtime adds them in one operator."""

    left: "Expression"
    right: "Expression"
    left_grid: Grid
    right_grid: Grid
    grid: Grid
    path: str
    """What the sum is, in the student."""

    @property
    def shape(self) -> Shape:
        """(C, H, W)."""
        return self.left.shape


@dataclass(frozen=True, eq=False, slots=True)
class Lookup:
    """A function of a widened code: a table of 256 numbers."""

    value: "Expression"
    """Codes."""
    grid: Grid
    function: Function

    @property
    def shape(self) -> Shape:
        """(C, H, W)."""
        return self.value.shape


@dataclass(frozen=True, eq=False, slots=True)
class Rectify:
    """The larger one of a number and 0."""

    value: "Expression"

    @property
    def shape(self) -> Shape:
        """(C, H, W)."""
        return self.value.shape


@dataclass(frozen=True, eq=False, slots=True)
class Combine:
    """Arithmetic of two numbers."""

    arithmetic: Arithmetic
    left: "Expression"
    right: "Expression"

    @property
    def shape(self) -> Shape:
        """(C, H, W)."""
        return self.left.shape if self.right.shape == (1, 1, 1) else self.right.shape


@dataclass(frozen=True, eq=False, slots=True)
class Spread:
    """The number of its channel at each position of a map, or one number everywhere."""

    value: "Expression"
    shape: Shape


@dataclass(frozen=True, eq=False, slots=True)
class Pool:
    """Means of windows."""

    value: "Expression"
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int]
    shape: Shape
    by_columns: bool
    """Whether windows are added column by column, as where the graph's maps are transposed."""


Expression = (
    Stored
    | Constant
    | Widen
    | Round
    | Merge
    | AddCodes
    | Lookup
    | Rectify
    | Combine
    | Spread
    | Pool
)


def list_children(value: Expression) -> tuple[Expression, ...]:
    """Return what an expression is directly made of."""
    match value:
        case Stored() | Constant():
            return ()
        case Combine() | AddCodes():
            return (value.left, value.right)
        case _:
            return (value.value,)


def replace_children(value: Expression, children: Sequence[Expression]) -> Expression:
    """Return an expression made of other ones, as many as before."""
    match value:
        case Stored() | Constant():
            return value
        case Combine() | AddCodes():
            return replace(value, left=children[0], right=children[1])
        case _:
            return replace(value, value=children[0])


def iterate_leaves(value: Expression) -> Iterator[Stored]:
    """Yield every stored leaf of an expression; one that is used twice comes twice."""
    if isinstance(value, Stored):
        yield value
    for child in list_children(value):
        yield from iterate_leaves(child)


def find_only_map(codes: Expression) -> Stored | None:
    """Return the stored codes that alone decide an expression, position by position and channel by channel.

    Numbers of a whole channel may take part: within a channel they are constants.
    """
    if has_windows(codes) or _merges(codes):
        return None
    maps = {
        (id(each.buffer), each.channel_start, each.row_start): each for each in _iterate_maps(codes)
    }
    (found, *others) = maps.values() or (None,)
    return None if others else found


def _iterate_maps(value: Expression) -> Iterator[Stored]:
    if isinstance(value, Stored):
        yield value
    if not isinstance(value, Spread):
        for child in list_children(value):
            yield from _iterate_maps(child)


def has_windows(value: Expression) -> bool:
    """Whether a position needs others of its map."""
    return isinstance(value, Pool) or any(map(has_windows, list_children(value)))


def _merges(value: Expression) -> bool:
    merges = isinstance(value, Merge) and value.merged > 1
    return merges or any(map(_merges, list_children(value)))


class Slicer:
    """Cuts channels or rows out of expressions; equal cuts of one expression are one expression."""

    def __init__(self) -> None:
        self._done: dict[tuple[int, str, int, int], Expression] = {}
        self._kept: list[Expression] = []

    def cut_channels(self, value: Expression, start: int, count: int) -> Expression:
        """Return some channels; one number for all channels stays as it is."""
        return self._cut(value, "channels", start, count)

    def cut_rows(self, value: Expression, start: int, count: int) -> Expression:
        """Return some rows; numbers of channels stay as they are."""
        return self._cut(value, "rows", start, count)

    def _cut(self, value: Expression, axis: str, start: int, count: int) -> Expression:
        key = (id(value), axis, start, count)
        if key not in self._done:
            cut = self._cut_channels if axis == "channels" else self._cut_rows
            self._kept.append(value)
            self._done[key] = cut(value, start, count)
        return self._done[key]

    def _cut_channels(self, value: Expression, start: int, count: int) -> Expression:
        if value.shape[0] == 1 or (start, count) == (0, value.shape[0]):
            return value
        shape = (count, *value.shape[1:])
        match value:
            case Stored():
                return replace(value, shape=shape, channel_start=value.channel_start + start)
            case Constant():
                return replace(value, count=count, start=value.start + start)
            case Merge():
                inside = self.cut_channels(value.value, start * value.merged, count * value.merged)
                return replace(value, value=inside, start=value.start + start)
            case Combine() | AddCodes():
                left, right = (
                    self.cut_channels(each, start, count) for each in (value.left, value.right)
                )
                return replace(value, left=left, right=right)
            case Spread() | Pool():
                inside = self.cut_channels(value.value, start, count)
                return replace(value, value=inside, shape=shape)
            case _:
                return replace(value, value=self.cut_channels(value.value, start, count))

    def _cut_rows(self, value: Expression, start: int, count: int) -> Expression:
        if value.shape[1:] == (1, 1):
            return value
        shape = (value.shape[0], count, value.shape[2])
        match value:
            case Stored():
                return replace(value, shape=shape, row_start=value.row_start + start)
            case Combine() | AddCodes():
                left, right = (
                    self.cut_rows(each, start, count) for each in (value.left, value.right)
                )
                return replace(value, left=left, right=right)
            case Spread():
                return replace(value, shape=shape)
            case Pool():
                step = value.strides[0]
                if value.pads[0] or value.kernel[0] != step:
                    raise UnknownOperator(
                        "Split", "of an AveragePool", "rows of overlapping windows"
                    )
                inside = self.cut_rows(value.value, start * step, count * step)
                return replace(value, value=inside, shape=shape)
            case Constant():
                return value
            case _:
                return replace(value, value=self.cut_rows(value.value, start, count))
