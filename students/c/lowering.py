"""From a graph to statements: what is stored, and what is computed on the way from one layer to the next.

Only codes are stored, and numbers of channels. Everything between two layers is an expression over stored
codes. A value that a shortcut takes unrounded is computed again from its codes.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatchmethod

import numpy as np

from students.c import graph as read
from students.c.expressions import (
    AddCodes,
    Buffer,
    Combine,
    Constant,
    Expression,
    IntegerLayer,
    Kind,
    Lookup,
    Merge,
    Pool,
    Rectify,
    Round,
    Slicer,
    Spread,
    Stored,
    Widen,
    find_only_map,
)
from students.c.graph import Grid, Shape, UnknownOperator, find_canonical, find_needed_maps
from students.c.layers import make_integer_layer
from students.c.lines import find_free_name
from students.c.statements import Classify, Convolve, Reduce, Statement, Store


@dataclass(frozen=True, eq=False, slots=True)
class Lowered:
    """A student as statements, in an order in which they can run."""

    statements: tuple[Statement, ...]
    input: Buffer
    """The codes of a clip, [C, F, T]."""
    grid: Grid
    """What they stand for."""
    logits: Buffer


def lower(graph: read.Graph) -> Lowered:
    """Decide what a student stores and computes.

    Raises:
        UnknownOperator: a use of an operator that C is not written for.
    """
    return _Lowering(graph).run()


@dataclass(frozen=True, eq=False, slots=True)
class _Sums:
    """A layer that is not rounded yet."""

    layer: read.Layer
    source: Expression
    grid: Grid
    rectified: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class _Parts:
    """Values one after the other, along the channels."""

    parts: tuple[Expression, ...]

    @property
    def shape(self) -> Shape:
        return (sum(each.shape[0] for each in self.parts), *self.parts[0].shape[1:])


class _Input:
    """The log-mels of a clip, before they are rounded."""


_Value = Expression | _Sums | _Parts | _Input


class _Lowering:
    def __init__(self, graph: read.Graph) -> None:
        self.graph = graph
        self.nodes = {node.name: node for node in graph.nodes}
        self.uses = Counter(name for node in graph.nodes for name in node.sources)
        self.values: dict[str, _Value] = {graph.input_name: _Input()}
        self.rounded: dict[tuple[str, Grid], Expression] = {}
        """What values are in a grid, by their names."""
        self.needed = find_needed_maps(graph)
        self.statements: list[Statement] = []
        self.slicer = Slicer()
        self.stored: dict[int, tuple[Expression, Stored]] = {}
        self.tables: dict[int, tuple[Expression, Merge]] = {}
        self.names: dict[str, set[str]] = {}
        self.input = Buffer("input", "codes", graph.input_shape)
        self.grid: Grid | None = None

    def run(self) -> Lowered:
        for node in self.graph.nodes:
            self.values[node.name] = self.lower(node)
        last = self.graph.nodes[-1]
        result = self._expect(self.values[self.graph.output_name], last)
        logits = self._make_buffer("logits", "numbers", result.shape)
        self.statements.append(Store(result, Stored(logits, logits.shape)))
        assert self.grid is not None
        return Lowered(tuple(self.statements), self.input, self.grid, logits)

    @singledispatchmethod
    def lower(self, node: read.Node) -> _Value:
        raise UnknownOperator(type(node).__name__, node.name, "C is not written for it")

    @lower.register
    def _(self, node: read.Rounded) -> _Value:
        key = (node.sources[0], node.grid)
        if key not in self.rounded:
            rounded = self._round(node)
            # Codes that one layer needs as a map are there for all others.
            is_needed = key in self.needed and isinstance(rounded, Round | AddCodes)
            self.rounded[key] = self._store(rounded) if is_needed else rounded
        return self.rounded[key]

    def _round(self, node: read.Rounded) -> Expression:
        value = self.values[node.sources[0]]
        match value:
            case _Input():
                return self._take_input(node)
            case _Sums():
                return self._finish_layer(node, value)
            case _Parts():
                return self._store_parts(node, value)
            case Widen(inside, grid) if grid == node.grid:
                return inside
            case _:
                return self._add_codes(node) or Round(value, node.grid, node.path)

    def _add_codes(self, node: read.Rounded) -> AddCodes | None:
        """Return a sum of two maps of codes that is only rounded: ONNX Runtime has an operator for it.

        A ReLU before codes that cannot be below 0 is no obstacle to it.
        """
        source = self.nodes.get(node.sources[0])
        if isinstance(source, read.Applied) and source.function == "Relu" and not node.grid.zero:
            source = self.nodes.get(source.sources[0]) if self.uses[source.name] == 1 else None
        if not isinstance(source, read.Combined) or source.arithmetic != "Add":
            return None
        left, right = (self.values.get(name) for name in source.sources)
        if not isinstance(left, Widen) or not isinstance(right, Widen):
            return None
        if left.shape != right.shape or self.uses[source.name] != 1:
            return None
        return AddCodes(left.value, right.value, left.grid, right.grid, node.grid, node.path)

    def _take_input(self, node: read.Rounded) -> Stored:
        if self.grid not in (None, node.grid):
            raise UnknownOperator(
                "QuantizeLinear", node.name, "the log-mels are rounded to more than one grid"
            )
        self.grid = node.grid
        return Stored(self.input, self.input.shape)

    def _finish_layer(self, node: read.Rounded, sums: _Sums) -> Expression:
        if sums.rectified and node.grid.zero:
            raise UnknownOperator(
                "QuantizeLinear", node.name, "expected 0 as the code for 0 after a ReLU"
            )
        name = self._make_name(sums.layer.path, "layer")
        layer = make_integer_layer(name, sums.layer, sums.grid, node.grid)
        size = layer.shape
        plain = (size.kernel_height, size.kernel_width, size.stride_height, size.stride_width)
        few = layer.weights.shape[1] <= 2 and size.groups == size.out_channels > 1
        if plain == (1, 1, 1, 1) and few and not sums.layer.is_linear:
            alone = layer.weights.shape[1] == 1
            return Merge(sums.source if alone else self._store(sums.source), layer)
        buffer = self._make_buffer(layer.path, "codes", self._find_out_shape(sums.layer))
        target = Stored(buffer, buffer.shape)
        source, table = self._find_source(sums.source, layer)
        self.statements.append(Convolve(layer, source, table, target))
        return target

    def _find_out_shape(self, layer: read.Layer) -> Shape:
        return find_canonical(self.graph.shapes[layer.name])

    def _find_source(
        self, codes: Expression, layer: IntegerLayer
    ) -> tuple[Stored, Expression | None]:
        """Return the stored map that a layer reads, and what it makes of each code first."""
        if isinstance(codes, Stored):
            return codes, None
        if layer.shape.kernel != "convolve_channel":
            return self._store(codes), None
        only = find_only_map(codes)
        if only is not None:
            return only, codes
        if isinstance(codes, Merge) and codes.merged == 1:
            if id(codes) not in self.tables:
                inside = self._store(codes.value)
                self.tables[id(codes)] = codes, replace(codes, value=inside)
            table = self.tables[id(codes)][1]
            assert isinstance(table.value, Stored)
            return table.value, table
        return self._store(codes), None

    def _store(self, codes: Expression) -> Stored:
        """Return where codes are stored; they are stored once."""
        if isinstance(codes, Stored):
            return codes
        assert isinstance(codes, Round | Merge | AddCodes)
        if id(codes) not in self.stored:
            path = codes.layer.path if isinstance(codes, Merge) else codes.path
            target = self._make_target("codes", codes.shape, path)
            self.statements.append(Store(codes, target))
            self.stored[id(codes)] = codes, target
        return self.stored[id(codes)][1]

    def _store_parts(self, node: read.Rounded, value: _Parts) -> Stored:
        whole = self._make_target("codes", value.shape, node.path)
        start = 0
        for part in value.parts:
            target = self.slicer.cut_channels(whole, start, part.shape[0])
            assert isinstance(target, Stored)
            self.statements.append(Store(Round(part, node.grid, node.path), target))
            start += part.shape[0]
        return whole

    @lower.register
    def _(self, node: read.Widened) -> _Value:
        codes = self._expect(self.values[node.sources[0]], node)
        return Widen(codes, node.grid)

    @lower.register
    def _(self, node: read.Layer) -> _Value:
        value = self.values[node.sources[0]]
        if not isinstance(value, Widen):
            raise UnknownOperator(
                "Gemm" if node.is_linear else "Conv",
                node.name,
                "its input is not int8: calibrate the student, or train it in int8",
            )
        return _Sums(node, value.value, value.grid)

    @lower.register
    def _(self, node: read.Applied) -> _Value:
        value = self.values[node.sources[0]]
        if node.function == "Relu":
            if isinstance(value, _Sums):
                return replace(value, rectified=True)
            if isinstance(value, _Parts):
                return _Parts(tuple(map(Rectify, value.parts)))
            return Rectify(self._expect(value, node))
        if not isinstance(value, Widen):
            raise UnknownOperator(
                node.function, node.name, "expected codes: it is a table of 256 numbers"
            )
        return Lookup(value.value, value.grid, node.function)

    @lower.register
    def _(self, node: read.Combined) -> _Value:
        left, right = (self._find_operand(name, node) for name in node.sources)
        if not isinstance(left, _Parts) and not isinstance(right, _Parts):
            return self._combine(node, left, right)
        whole = left if isinstance(left, _Parts) else right
        assert isinstance(whole, _Parts)
        counts = [part.shape[0] for part in whole.parts]
        pairs = zip(self._cut_like(left, counts), self._cut_like(right, counts), strict=True)
        return _Parts(tuple(self._combine(node, *pair) for pair in pairs))

    def _cut_like(self, value: Expression | _Parts, counts: Sequence[int]) -> list[Expression]:
        if isinstance(value, _Parts):
            return list(value.parts)
        starts = np.cumsum([0, *counts[:-1]])
        return [
            self.slicer.cut_channels(value, int(start), count)
            for start, count in zip(starts, counts, strict=True)
        ]

    def _find_operand(self, name: str, node: read.Node) -> Expression | _Parts:
        if name in self.graph.constants:
            values = self.graph.constants[name]
            # Numbers of channels have axes of length 1 behind theirs, as the maps have longer ones.
            rank = len(self.graph.shapes[node.name])
            if values.size > 1 and values.shape[-rank:] != (values.size, *(1,) * (rank - 1)):
                raise UnknownOperator(
                    "arithmetic", node.name, f"a constant of shape {values.shape}"
                )
            return Constant(self._make_constant_name(name), values.reshape(-1), values.size)
        value = self.values[name]
        if isinstance(value, _Parts):
            return value
        return self._expect(value, node)

    def _combine(self, node: read.Combined, left: Expression, right: Expression) -> Expression:
        shape = left.shape if np.prod(left.shape) >= np.prod(right.shape) else right.shape
        operands = [self._spread(each, shape, node) for each in (left, right)]
        return Combine(node.arithmetic, operands[0], operands[1])

    def _spread(self, value: Expression, shape: Shape, node: read.Node) -> Expression:
        if value.shape == shape:
            return value
        if value.shape not in ((shape[0], 1, 1), (1, 1, 1)):
            raise UnknownOperator("arithmetic", node.name, f"shapes {value.shape} and {shape}")
        return Spread(value, shape)

    @lower.register
    def _(self, node: read.Reduced) -> _Value:
        value = self.values[node.sources[0]]
        parts = value.parts if isinstance(value, _Parts) else (self._expect(value, node),)
        n_channels = 1 if node.over_channels else sum(each.shape[0] for each in parts)
        whole = self._make_target("numbers", (n_channels, 1, 1), node.name)
        start = 0
        for part in parts:
            count = 1 if node.over_channels else part.shape[0]
            target = self.slicer.cut_channels(whole, start, count)
            assert isinstance(target, Stored)
            by_columns = self.graph.transposed
            self.statements.append(
                Reduce(node.reduction, part, node.over_channels, by_columns, target)
            )
            start += count
        return whole

    @lower.register
    def _(self, node: read.Pooled) -> _Value:
        value = self._expect(self.values[node.sources[0]], node)
        shape = self.graph.shapes[node.name]
        by_columns = self.graph.transposed
        return Pool(value, node.kernel, node.strides, node.pads, shape, by_columns)

    @lower.register
    def _(self, node: read.Part) -> _Value:
        value = self._expect(self.values[node.sources[0]], node)
        if node.axis == "channels":
            return self.slicer.cut_channels(value, node.start, node.count)
        return self.slicer.cut_rows(value, node.start, node.count)

    @lower.register
    def _(self, node: read.Joined) -> _Value:
        return _Parts(tuple(self._expect(self.values[name], node) for name in node.sources))

    @lower.register
    def _(self, node: read.Reshaped) -> _Value:
        value = self.values[node.sources[0]]
        if isinstance(value, _Input):
            return value
        value = self._expect(value, node)
        shape = find_canonical(self.graph.shapes[node.name])
        if shape == value.shape:
            return value
        raise UnknownOperator(
            "Reshape", node.name, f"from {value.shape} to {shape}: expected the same axes"
        )

    def _expect(self, value: _Value, node: read.Node) -> Expression:
        """Return the value as an expression."""
        if isinstance(value, _Sums) and not value.layer.is_linear:
            raise UnknownOperator("Conv", value.layer.name, "its result is not rounded")
        if isinstance(value, _Sums):
            return self._classify(value)
        if isinstance(value, _Input):
            raise UnknownOperator(
                type(node).__name__, node.name, "takes the log-mels before they are rounded"
            )
        if isinstance(value, _Parts):
            raise UnknownOperator(type(node).__name__, node.name, "takes joined channels")
        return value

    def _classify(self, sums: _Sums) -> Expression:
        name = self._make_name(sums.layer.path, "layer")
        layer = make_integer_layer(name, sums.layer, sums.grid, None)
        target = self._make_target("numbers", sums.layer.out_shape, sums.layer.path)
        self.statements.append(Classify(layer, self._store(sums.source), target))
        return Rectify(target) if sums.rectified else target

    def _make_target(self, kind: Kind, shape: Shape, name: str) -> Stored:
        buffer = self._make_buffer(name, kind, shape)
        return Stored(buffer, shape)

    def _make_buffer(self, name: str, kind: Kind, shape: Shape) -> Buffer:
        return Buffer(self._make_name(name, "buffer"), kind, shape)

    def _make_name(self, name: str, of: str) -> str:
        """Return a name for C that nothing else of its kind has."""
        plain = re.sub(r"\W+", "_", name).strip("_")
        plain = plain if plain[:1].isalpha() else f"layer_{plain}"
        taken = self.names.setdefault(of, set())
        free = find_free_name(plain, taken)
        taken.add(free)
        return free

    def _make_constant_name(self, name: str) -> str:
        return re.sub(r"\W+", "_", name).strip("_")
