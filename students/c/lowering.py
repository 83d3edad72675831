"""From a graph to statements: what is stored, and what is computed on the way from one layer to the next.

Only codes are stored, and numbers of channels. Everything between two layers is an expression over stored
codes. A value that a shortcut takes unrounded is computed again from its codes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import singledispatchmethod

import numpy as np

from students.c import graph as read
from students.c.expressions import (
    AddCodes,
    Buffer,
    Combine,
    Constant,
    Deal,
    Expression,
    IntegerLayer,
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
    find_only_map,
)
from students.c.graph import (
    Grid,
    Shape,
    UnknownOperator,
    find_canonical,
    find_needed_maps,
    find_reduced_shape,
    is_vector,
)
from students.c.joining import join
from students.c.layers import make_integer_layer
from students.c.naming import Names, name_constant
from students.c.slicing import Slicer
from students.c.statements import Classify, Convolve, Lowered, Reduce, Statement, Store
from students.c.values import Input, Parts, Sums, Value


def lower(graph: read.Graph) -> Lowered:
    """Decide what a student stores and computes.

    Raises:
        UnknownOperator: a use of an operator that C is not written for.
    """
    return _Lowering(graph).run()


class _Lowering:
    def __init__(self, graph: read.Graph) -> None:
        self.graph = graph
        self.nodes = {node.name: node for node in graph.nodes}
        self.uses = Counter(name for node in graph.nodes for name in node.sources)
        self.values: dict[str, Value] = {graph.input_name: Input()}
        self.rounded: dict[tuple[str, Grid], Expression] = {}
        """What values are in a grid, by their names."""
        self.needed = find_needed_maps(graph)
        self.statements: list[Statement] = []
        self.slicer = Slicer()
        self.stored: dict[int, tuple[Expression, Stored]] = {}
        self.numbers: dict[int, tuple[Expression, Stored]] = {}
        self.tables: dict[int, tuple[Expression, Merge]] = {}
        self.names = Names()
        self.input = Buffer("input", "codes", graph.input_shape)
        self.grid: Grid | None = None

    def run(self) -> Lowered:
        for node in self.graph.nodes:
            self.values[node.name] = self.lower(node)
        last = self.graph.nodes[-1]
        result = self._expect(self.values[self.graph.output_name], last)
        logits = self.names.make_buffer("logits", "numbers", result.shape)
        self.statements.append(Store(result, Stored(logits, logits.shape)))
        assert self.grid is not None
        return Lowered(tuple(self.statements), self.input, self.grid, logits)

    @singledispatchmethod
    def lower(self, node: read.Node) -> Value:
        raise UnknownOperator(type(node).__name__, node.name, "C is not written for it")

    @lower.register
    def _(self, node: read.Rounded) -> Value:
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
            case Input():
                return self._take_input(node)
            case Sums():
                return self._finish_layer(node, value)
            case Parts():
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
        if self.uses[source.name] != 1:
            return None
        given = right.value
        if left.shape != right.shape:
            if is_vector(left.shape) or is_vector(right.shape):
                return None
            given = self._repeat_codes(right.value, left.shape, source)
        return AddCodes(left.value, given, left.grid, right.grid, node.grid, node.path)

    def _repeat_codes(self, codes: Expression, shape: Shape, node: read.Node) -> Repeat:
        if np.prod(codes.shape) > np.prod(shape):
            # There the operator's rounding depends on how ONNX Runtime lays out its maps.
            raise UnknownOperator(
                "Add",
                node.name,
                "its first operand is repeated, and only codes are made of it: exchange both",
            )
        return Repeat(self._store(codes), shape)

    def _take_input(self, node: read.Rounded) -> Stored:
        if self.grid not in (None, node.grid):
            raise UnknownOperator(
                "QuantizeLinear", node.name, "the log-mels are rounded to more than one grid"
            )
        self.grid = node.grid
        return Stored(self.input, self.input.shape)

    def _finish_layer(self, node: read.Rounded, sums: Sums) -> Expression:
        if sums.rectified and node.grid.zero:
            raise UnknownOperator(
                "QuantizeLinear", node.name, "expected 0 as the code for 0 after a ReLU"
            )
        name = self.names.name_layer(sums.layer.path)
        layer = make_integer_layer(name, sums.layer, sums.grid, node.grid)
        size = layer.shape
        plain = (size.kernel_height, size.kernel_width, size.stride_height, size.stride_width)
        few = layer.weights.shape[1] <= 2 and size.groups == size.out_channels > 1
        if plain == (1, 1, 1, 1) and few and not sums.layer.is_linear:
            alone = layer.weights.shape[1] == 1
            return Merge(sums.source if alone else self._store(sums.source), layer)
        buffer = self.names.make_buffer(layer.path, "codes", self._find_out_shape(sums.layer))
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
            target = self.names.make_target("codes", codes.shape, path)
            self.statements.append(Store(codes, target))
            self.stored[id(codes)] = codes, target
        return self.stored[id(codes)][1]

    def _store_parts(self, node: read.Rounded, value: Parts) -> Stored:
        whole = self.names.make_target("codes", value.shape, node.path)
        start = 0
        for part in value.parts:
            target = self.slicer.cut_channels(whole, start, part.shape[0])
            assert isinstance(target, Stored)
            self.statements.append(Store(Round(part, node.grid, node.path), target))
            start += part.shape[0]
        return whole

    @lower.register
    def _(self, node: read.Widened) -> Value:
        codes = self._expect(self.values[node.sources[0]], node)
        return Widen(codes, node.grid)

    @lower.register
    def _(self, node: read.Layer) -> Value:
        value = self.values[node.sources[0]]
        if not isinstance(value, Widen):
            raise UnknownOperator(
                "Gemm" if node.is_linear else "Conv",
                node.name,
                "its input is not int8: calibrate the student, or train it in int8",
            )
        return Sums(node, value.value, value.grid)

    @lower.register
    def _(self, node: read.Applied) -> Value:
        value = self.values[node.sources[0]]
        if node.function == "Relu":
            if isinstance(value, Sums):
                return replace(value, rectified=True)
            if isinstance(value, Parts):
                return Parts(tuple(map(Rectify, value.parts)))
            return Rectify(self._expect(value, node))
        if node.function == "Sqrt":
            return Root(self._expect(value, node))
        if not isinstance(value, Widen):
            raise UnknownOperator(
                node.function, node.name, "expected codes: it is a table of 256 numbers"
            )
        return Lookup(value.value, value.grid, node.function)

    @lower.register
    def _(self, node: read.Combined) -> Value:
        left, right = (self._find_operand(name, node) for name in node.sources)
        if not isinstance(left, Parts) and not isinstance(right, Parts):
            return self._combine(node, left, right)
        whole = left if isinstance(left, Parts) else right
        assert isinstance(whole, Parts)
        counts = [part.shape[0] for part in whole.parts]
        pairs = zip(self._cut_like(left, counts), self._cut_like(right, counts), strict=True)
        return Parts(tuple(self._combine(node, *pair) for pair in pairs))

    def _cut_like(self, value: Expression | Parts, counts: Sequence[int]) -> list[Expression]:
        if isinstance(value, Parts):
            return list(value.parts)
        starts = np.cumsum([0, *counts[:-1]])
        return [
            self.slicer.cut_channels(value, int(start), count)
            for start, count in zip(starts, counts, strict=True)
        ]

    def _find_operand(self, name: str, node: read.Node) -> Expression | Parts:
        if name in self.graph.constants:
            values = self.graph.constants[name]
            # Numbers of channels have axes of length 1 behind theirs, as the maps have longer ones.
            rank = len(self.graph.shapes[node.name])
            if values.size > 1 and values.shape[-rank:] != (values.size, *(1,) * (rank - 1)):
                raise UnknownOperator(
                    "arithmetic", node.name, f"a constant of shape {values.shape}"
                )
            return Constant(name_constant(name), values.reshape(-1), values.size)
        value = self.values[name]
        if isinstance(value, Parts):
            return value
        return self._expect(value, node)

    def _combine(self, node: read.Combined, left: Expression, right: Expression) -> Expression:
        shape = left.shape if np.prod(left.shape) >= np.prod(right.shape) else right.shape
        operands = [self._spread(each, shape, node) for each in (left, right)]
        return Combine(node.arithmetic, operands[0], operands[1])

    def _spread(self, value: Expression, shape: Shape, node: read.Node) -> Expression:
        if value.shape == shape:
            return value
        if value.shape in ((shape[0], 1, 1), (1, 1, 1)):
            return Spread(value, shape)
        if any(own not in (1, size) for own, size in zip(value.shape, shape, strict=True)):
            raise UnknownOperator("arithmetic", node.name, f"shapes {value.shape} and {shape}")
        return Repeat(self._store_numbers(value, node), shape)

    def _store_numbers(self, value: Expression, node: read.Node) -> Expression:
        """Return numbers that are repeated as stored ones: they are computed once."""
        if isinstance(value, Stored) or (
            isinstance(value, Widen) and isinstance(value.value, Stored)
        ):
            return value
        if id(value) not in self.numbers:
            target = self.names.make_target("numbers", value.shape, f"{node.name}_by")
            self.statements.append(Store(value, target))
            self.numbers[id(value)] = value, target
        return self.numbers[id(value)][1]

    @lower.register
    def _(self, node: read.Reduced) -> Value:
        value = self.values[node.sources[0]]
        value = value if isinstance(value, Parts) else self._expect(value, node)
        parts = value.parts if isinstance(value, Parts) else (value,)
        if "channels" in node.over and len(parts) > 1:
            raise UnknownOperator(node.reduction, node.name, "over joined channels")
        whole = self.names.make_target(
            "numbers", find_reduced_shape(value.shape, node.over), node.name
        )
        start = 0
        for part in parts:
            count = whole.shape[0] if len(parts) == 1 else part.shape[0]
            target = self.slicer.cut_channels(whole, start, count)
            assert isinstance(target, Stored)
            by_columns = self.graph.transposed
            self.statements.append(Reduce(node.reduction, part, node.over, by_columns, target))
            start += count
        return whole

    @lower.register
    def _(self, node: read.Pooled) -> Value:
        value = self._expect(self.values[node.sources[0]], node)
        shape = self.graph.shapes[node.name]
        by_columns = self.graph.transposed
        return Pool(node.function, value, node.kernel, node.strides, node.pads, shape, by_columns)

    @lower.register
    def _(self, node: read.Part) -> Value:
        value = self._expect(self.values[node.sources[0]], node)
        if node.axis == "channels":
            return self.slicer.cut_channels(value, node.start, node.count)
        return self.slicer.cut_rows(value, node.start, node.count)

    @lower.register
    def _(self, node: read.Joined) -> Value:
        parts = tuple(self._expect(self.values[name], node) for name in node.sources)
        return (join(*parts) if len(parts) == 2 else None) or Parts(parts)

    @lower.register
    def _(self, node: read.Dealt) -> Value:
        value = self._expect(self.values[node.sources[0]], node)
        return Deal(value, node.groups, value.shape[0])

    @lower.register
    def _(self, node: read.Reshaped) -> Value:
        value = self.values[node.sources[0]]
        before, after = self.graph.input_shape, self.graph.shapes[node.name]
        if not isinstance(value, Input):
            value = self._expect(value, node)
            before, after = value.shape, find_canonical(after)
        if before == after:
            return value
        raise UnknownOperator(
            "Reshape", node.name, f"from {before} to {after}: expected the same axes"
        )

    def _expect(self, value: Value, node: read.Node) -> Expression:
        """Return the value as an expression."""
        if isinstance(value, Sums) and not value.layer.is_linear:
            raise UnknownOperator("Conv", value.layer.name, "its result is not rounded")
        if isinstance(value, Sums):
            return self._classify(value)
        if isinstance(value, Input):
            raise UnknownOperator(
                type(node).__name__, node.name, "takes the log-mels before they are rounded"
            )
        if isinstance(value, Parts):
            raise UnknownOperator(type(node).__name__, node.name, "takes joined channels")
        return value

    def _classify(self, sums: Sums) -> Expression:
        name = self.names.name_layer(sums.layer.path)
        layer = make_integer_layer(name, sums.layer, sums.grid, None)
        target = self.names.make_target("numbers", sums.layer.out_shape, sums.layer.path)
        self.statements.append(Classify(layer, self._store(sums.source), target))
        return Rectify(target) if sums.rectified else target
