"""The graph of an int8 student as typed nodes.

Shapes are those of one clip, without the batch: C channels, H rows, W columns, or N numbers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from disk import PortableError
from students.errors import NoPlan

Shape = tuple[int, ...]
Function = Literal["Relu", "Gelu", "Sigmoid", "Sqrt"]
Arithmetic = Literal["Add", "Sub", "Mul", "Div"]
Reduction = Literal["ReduceMean", "ReduceL2", "ReduceSum"]
PoolFunction = Literal["AveragePool", "MaxPool"]
Axis = Literal["channels", "rows", "columns"]


class UnknownOperator(PortableError, NoPlan):
    """A graph that C cannot be written for; names the operator, its result and the reason."""

    def __init__(self, operator: str, name: str, reason: str) -> None:
        super().__init__(f"operator {operator} ({name}): {reason}")


@dataclass(frozen=True, slots=True)
class Grid:
    """What the integers 0...255 of a map stand for: (code - zero) * scale."""

    scale: float
    """A float32."""
    zero: int


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """A value of the graph, and the values that it is made of."""

    name: str
    sources: tuple[str, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Rounded(Node):
    """From numbers to codes."""

    grid: Grid
    path: str
    """What is rounded, in the student: the input or output of a layer."""


@dataclass(frozen=True, eq=False, slots=True)
class Widened(Node):
    """From codes back to numbers."""

    grid: Grid


@dataclass(frozen=True, eq=False, slots=True)
class Layer(Node):
    """A convolution, or a linear layer as one of 1x1; its source is a widened map."""

    path: str
    """The layer's name in the student."""
    weights: np.ndarray
    """int8 [O, I / groups, kernel height, kernel width]."""
    weight_scale: np.ndarray
    """float32 [O]."""
    bias: np.ndarray | None
    """int32 [O]."""
    in_shape: Shape
    """(I, H, W)."""
    out_shape: Shape
    """(O, H, W)."""
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    """Zeros above the first row and before the first column; those at the other ends follow."""
    groups: int = 1
    is_linear: bool = False

    @property
    def goes_by_channel(self) -> bool:
        """Whether each output channel has one input channel."""
        return self.groups == self.in_shape[0] == self.out_shape[0] > 1


@dataclass(frozen=True, eq=False, slots=True)
class Applied(Node):
    """A function of each number."""

    function: Function


@dataclass(frozen=True, eq=False, slots=True)
class Combined(Node):
    """Arithmetic of two values, of which one may be a constant or have 1 position along some axes."""

    arithmetic: Arithmetic


@dataclass(frozen=True, eq=False, slots=True)
class Reduced(Node):
    """One number for all positions along some axes."""

    reduction: Reduction
    over: tuple[Axis, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Pooled(Node):
    """Means of windows, in which padding counts as zeros, or their largest numbers."""

    function: PoolFunction
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int]


@dataclass(frozen=True, eq=False, slots=True)
class Part(Node):
    """Some channels or rows of a value."""

    axis: Axis
    start: int
    count: int


@dataclass(frozen=True, eq=False, slots=True)
class Joined(Node):
    """Values one after the other, along the channels."""


@dataclass(frozen=True, eq=False, slots=True)
class Dealt(Node):
    """The channels of a value, as one of each of `groups` heaps in turn."""

    groups: int


@dataclass(frozen=True, eq=False, slots=True)
class Reshaped(Node):
    """The same numbers in the same order."""


@dataclass(frozen=True, eq=False, slots=True)
class Graph:
    """A student's graph in an order in which it can be computed."""

    input_name: str
    input_shape: Shape
    """(C, F, T)."""
    nodes: tuple[Node, ...]
    output_name: str
    constants: Mapping[str, np.ndarray]
    """float32 constants of arithmetic, by name."""
    shapes: Mapping[str, Shape]
    """As in the file, without the batch; of transposed maps as they are stored."""
    transposed: bool
    """Whether maps are stored as [C, F, T] where the graph has [C, T, F]."""


def find_canonical(shape: Shape) -> Shape:
    """Return a shape as (C, H, W); N numbers are (N, 1, 1), however many axes of length 1 they have."""
    if is_vector(shape):
        return (math.prod(shape), 1, 1)
    return find_map_shape(shape)


def find_reduced_shape(shape: Shape, over: Sequence[Axis]) -> Shape:
    """Return what is left of (C, H, W) when each of some axes becomes one position."""
    axes: tuple[Axis, ...] = ("channels", "rows", "columns")
    return tuple(1 if axis in over else size for axis, size in zip(axes, shape, strict=True))


def is_vector(shape: Shape) -> bool:
    """Whether it has numbers of channels: [N], [1, N] as a convolution over channels takes them, [N, 1, 1]."""
    return len(shape) < 2 or (len(shape) == 2 and shape[0] == 1) or shape[1:] == (1, 1)


def find_map_shape(shape: Shape) -> Shape:
    """Return a shape as (C, H, W); that of rows, (C, W), is (C, 1, W).

    Raises:
        UnknownOperator: other axes.
    """
    if not 2 <= len(shape) <= 3:
        raise UnknownOperator("Conv", str(shape), "expected maps, or rows of channels")
    return shape if len(shape) == 3 else (shape[0], 1, shape[1])


def find_needed_maps(graph: Graph) -> set[tuple[str, Grid]]:
    """Return which values, in which grid, a layer reads that takes no channels one by one."""
    nodes = {node.name: node for node in graph.nodes}
    needed = set()
    for layer in graph.nodes:
        if isinstance(layer, Layer) and not layer.goes_by_channel:
            widened = nodes.get(layer.sources[0])
            rounded = nodes.get(widened.sources[0]) if isinstance(widened, Widened) else None
            if isinstance(rounded, Rounded):
                needed.add((rounded.sources[0], rounded.grid))
    return needed
