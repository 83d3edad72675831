"""What is computed for each position of a map, between two integer layers.

An expression has a shape (C, H, W); N numbers are (N, 1, 1). Its leaves are stored maps and numbers, and
constants. Expressions are values of codes 0...255, or of float32 numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from students.c.graph import Arithmetic, Function, Grid, PoolFunction, Shape
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
    scattered: bool = False
    """Whether a channel of what is made of it may need any of these channels."""

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
class Root:
    """The square root of a number."""

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
class Repeat:
    """Numbers that are the same in all rows, in all columns or in all channels, at each position of a map."""

    value: "Expression"
    """(C, 1, W), (C, H, 1) or (1, H, 1), as `shape` where it is not 1."""
    shape: Shape


@dataclass(frozen=True, eq=False, slots=True)
class Deal:
    """Channels dealt like cards: of `groups` heaps in turn, one from each, and some of the result."""

    value: "Expression"
    groups: int
    count: int
    """How many of them are taken."""
    start: int = 0
    """The first one."""

    @property
    def shape(self) -> Shape:
        """(C, H, W)."""
        return (self.count, *self.value.shape[1:])


@dataclass(frozen=True, eq=False, slots=True)
class Join:
    """The channels of one map, then those of another."""

    first: "Expression"
    second: "Expression"

    @property
    def shape(self) -> Shape:
        """(C, H, W)."""
        return (self.first.shape[0] + self.second.shape[0], *self.first.shape[1:])


@dataclass(frozen=True, eq=False, slots=True)
class Pool:
    """Means of windows, or their largest numbers."""

    function: PoolFunction
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
    | Root
    | Combine
    | Spread
    | Repeat
    | Deal
    | Join
    | Pool
)


def list_children(value: Expression) -> tuple[Expression, ...]:
    """Return what an expression is directly made of."""
    match value:
        case Stored() | Constant():
            return ()
        case Combine() | AddCodes():
            return (value.left, value.right)
        case Join():
            return (value.first, value.second)
        case _:
            return (value.value,)


def replace_children(value: Expression, children: Sequence[Expression]) -> Expression:
    """Return an expression made of other ones, as many as before."""
    match value:
        case Stored() | Constant():
            return value
        case Combine() | AddCodes():
            return replace(value, left=children[0], right=children[1])
        case Join():
            return replace(value, first=children[0], second=children[1])
        case _:
            return replace(value, value=children[0])


def iterate_leaves(value: Expression) -> Iterator[Stored]:
    """Yield every stored leaf of an expression; one that is used twice comes twice."""
    if isinstance(value, Stored):
        yield value
    moves = isinstance(value, Deal | Join)
    for child in list_children(value):
        for leaf in iterate_leaves(child):
            yield replace(leaf, scattered=True) if moves else leaf


def find_only_map(codes: Expression) -> Stored | None:
    """Return the stored codes that alone decide an expression, position by position and channel by channel.

    Numbers of a whole channel may take part: within a channel they are constants.
    """
    if sees_others(codes) or _merges(codes):
        return None
    maps = {
        (id(each.buffer), each.channel_start, each.row_start): each for each in _iterate_maps(codes)
    }
    (found, *others) = maps.values() or (None,)
    return None if others or found is None or found.buffer.kind == "numbers" else found


def _iterate_maps(value: Expression) -> Iterator[Stored]:
    if isinstance(value, Stored):
        yield value
    if not isinstance(value, Spread):
        for child in list_children(value):
            yield from _iterate_maps(child)


def has_windows(value: Expression) -> bool:
    """Whether a position needs others of its map."""
    return isinstance(value, Pool) or any(map(has_windows, list_children(value)))


def sees_others(value: Expression) -> bool:
    """Whether a position needs others of its map, its row and column numbers, or other channels."""
    moves = isinstance(value, Pool | Repeat | Deal | Join)
    return moves or any(map(sees_others, list_children(value)))


def _merges(value: Expression) -> bool:
    merges = isinstance(value, Merge) and value.merged > 1
    return merges or any(map(_merges, list_children(value)))
