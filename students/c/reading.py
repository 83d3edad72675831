"""Reads the ONNX graph of an int8 student; an operator that C is not written for is refused by name."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from students.c.graph import (
    Applied,
    Arithmetic,
    Axis,
    Combined,
    Dealt,
    Function,
    Graph,
    Grid,
    Joined,
    Layer,
    Node,
    Part,
    Pooled,
    PoolFunction,
    Reduced,
    Reduction,
    Reshaped,
    Rounded,
    UnknownOperator,
    Widened,
    find_map_shape,
    is_vector,
)
from students.c.patterns import Pattern, find_patterns

MOST_INTEGERS = 2**24 // 255
"""The sum of so many codes is exact in float32, in any order."""


def read_graph(model: onnx.ModelProto) -> Graph:
    """Read the graph of a file that `students.export.onnx_int8` wrote, without its front-end.

    Raises:
        UnknownOperator: an operator, or a use of one, that C is not written for.
    """
    return _Reader(model).read()


class _Reader:
    def __init__(self, model: onnx.ModelProto) -> None:
        graph = _infer_shapes(model).graph
        self.onnx_nodes = list(graph.node)
        self.arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self.shapes = {
            value.name: tuple(each.dim_value for each in value.type.tensor_type.shape.dim)[1:]
            for value in (*graph.value_info, *graph.input, *graph.output)
        }
        self.input_name, self.output_name = graph.input[0].name, graph.output[0].name
        self.weights: dict[str, onnx.NodeProto] = {}
        self.integers: set[str] = set()
        """Codes that are taken as the integers that they are."""
        patterns = find_patterns(self.onnx_nodes, self.shapes, self.arrays)
        self.transposed = self._finds_transpositions(patterns)
        if self.transposed:
            # Their sums are over axes of the graph, not over those of the maps that are stored.
            patterns = [each for each in patterns if isinstance(each.node, Dealt)]
        self.patterns = {each.node.name: each.node for each in patterns}
        self.inside = {name for each in patterns for name in each.inside}
        if self.transposed:
            turned = {k: v[:1] + v[:0:-1] for k, v in self.shapes.items() if len(v) == 3}
            self.shapes |= turned | {self.input_name: self.shapes[self.input_name]}

    def _finds_transpositions(self, patterns: Sequence[Pattern]) -> bool:
        """Whether a map is transposed outside of all patterns."""
        inside = {name for each in patterns for name in each.inside}
        outputs = {each.output[0] for each in self.onnx_nodes if each.op_type == "Transpose"}
        return not outputs <= inside

    def read(self) -> Graph:
        self._refuse_recurrences()
        input_shape = self.shapes[self.input_name]
        nodes = [each for node in self.onnx_nodes for each in self._read_node(node)]
        constants = {
            name: values for name, values in self.arrays.items() if values.dtype == np.float32
        }
        return Graph(
            self.input_name,
            input_shape,
            tuple(nodes),
            self.output_name,
            constants,
            self.shapes,
            self.transposed,
        )

    def _refuse_recurrences(self) -> None:
        """Refuse a recurrence before the operators that only prepare its inputs."""
        for node in self.onnx_nodes:
            if node.op_type in ("GRU", "LSTM", "RNN"):
                raise UnknownOperator(
                    node.op_type,
                    node.output[0],
                    "a recurrence, which int8 leaves in float32: C computes integer layers that know nothing "
                    "of the step before; the form onnx-int8 runs wherever ONNX Runtime does",
                )

    def _read_node(self, node: onnx.NodeProto) -> Sequence[Node]:
        if node.output[0] in self.inside:
            return []
        if node.output[0] in self.patterns:
            return [self.patterns[node.output[0]]]
        reader = _READERS.get(node.op_type)
        if reader is None:
            raise UnknownOperator(node.op_type, node.output[0], "C is not written for it")
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        return reader(self, node, attributes)

    def read_rounding(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Sequence[Node]:
        path = node.input[1].removesuffix(".scale")
        return [Rounded(node.output[0], (node.input[0],), self._read_grid(node), path)]

    def read_widening(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Sequence[Node]:
        if node.input[0] in self.arrays:
            self.weights[node.output[0]] = node
            return []
        return [Widened(node.output[0], (node.input[0],), self._read_grid(node))]

    def _read_grid(self, node: onnx.NodeProto) -> Grid:
        scale, zero = (self.arrays[name] for name in node.input[1:3])
        if scale.size != 1 or zero.dtype != np.uint8:
            raise UnknownOperator(
                node.op_type, node.output[0], "expected one step and a uint8 for 0"
            )
        return Grid(float(scale), int(zero))

    def read_convolution(
        self, node: onnx.NodeProto, attributes: Mapping[str, Any]
    ) -> Sequence[Node]:
        weights, scale, bias = self._read_parameters(node)
        strides, dilations, pads = self._read_steps(attributes)
        layer = Layer(
            node.output[0],
            (node.input[0],),
            self._find_path(node),
            self._widen_kernel(weights),
            scale,
            bias,
            find_map_shape(self.shapes[node.input[0]]),
            find_map_shape(self.shapes[node.output[0]]),
            strides,
            dilations,
            pads,
            attributes["group"],
        )
        return [layer]

    def _read_steps(self, attributes: Mapping[str, Any]) -> list[tuple[int, int]]:
        """Return strides, dilations and the pads at the low ends, as (rows, columns)."""
        steps = [attributes["strides"], attributes["dilations"], attributes["pads"]]
        if len(attributes["strides"]) == 1:
            return [(1, steps[0][0]), (1, steps[1][0]), (0, steps[2][0])]
        pairs = [(each[0], each[1]) for each in steps]
        return [pair[::-1] for pair in pairs] if self.transposed else pairs

    def _widen_kernel(self, weights: np.ndarray) -> np.ndarray:
        """Return weights [O, I / groups, rows, columns]."""
        if weights.ndim == 3:
            return weights[:, :, None]
        return weights.swapaxes(2, 3) if self.transposed else weights

    def read_linear(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Sequence[Node]:
        plain = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
        if {**plain, **attributes} != plain:
            raise UnknownOperator(node.op_type, node.output[0], f"expected {plain}")
        weights, scale, bias = self._read_parameters(node)
        (n_out, n_in) = weights.shape
        layer = Layer(
            node.output[0],
            (node.input[0],),
            self._find_path(node),
            weights.reshape(n_out, n_in, 1, 1),
            scale,
            bias,
            (n_in, 1, 1),
            (n_out, 1, 1),
            is_linear=True,
        )
        return [layer]

    def _read_parameters(
        self, node: onnx.NodeProto
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        found = [self.weights.get(name) for name in node.input[1:]]
        if None in found:
            raise UnknownOperator(
                node.op_type,
                node.output[0],
                "its weights are not int8: calibrate the student, or train it in int8",
            )
        widened = [[self.arrays[name] for name in each.input] for each in found if each]
        (weights, scale, zero), *biases = widened
        if weights.dtype != np.int8 or zero.any() or scale.shape != (len(weights),):
            raise UnknownOperator(
                node.op_type, node.output[0], "expected int8 weights with a step per channel"
            )
        return weights, scale, biases[0][0] if biases else None

    def _find_path(self, node: onnx.NodeProto) -> str:
        return self.weights[node.input[1]].input[0].removesuffix(".weight")

    def read_function(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Sequence[Node]:
        if attributes.get("approximate", b"none") != b"none":
            raise UnknownOperator(node.op_type, node.output[0], "C knows the exact one only")
        function = cast(Function, node.op_type)
        return [Applied(node.output[0], tuple(node.input), function)]

    def read_power(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Sequence[Node]:
        exponent = self.arrays.get(node.input[1])
        if exponent is None or exponent.size != 1 or float(exponent.reshape(())) != 2:
            raise UnknownOperator(node.op_type, node.output[0], "expected a square")
        return [Combined(node.output[0], (node.input[0], node.input[0]), "Mul")]

    def read_cast(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Sequence[Node]:
        """Read integers that a mean takes as they are."""
        name = node.output[0]
        makers = [each.op_type for each in self.onnx_nodes if node.input[0] in each.output]
        takers = {each.op_type for each in self.onnx_nodes if name in each.input}
        if makers != ["QuantizeLinear"] or takers != {"ReduceMean"} or attributes["to"] != 1:
            raise UnknownOperator(node.op_type, name, "expected codes in float32, for a mean")
        self.integers.add(name)
        return [Widened(name, (node.input[0],), Grid(1.0, 0))]

    def read_arithmetic(
        self, node: onnx.NodeProto, attributes: Mapping[str, Any]
    ) -> Sequence[Node]:
        arithmetic = cast(Arithmetic, node.op_type)
        return [Combined(node.output[0], tuple(node.input), arithmetic)]

    def read_reduction(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Sequence[Node]:
        reduction = cast(Reduction, node.op_type)
        rank = len(self.shapes[node.input[0]]) + 1
        axes = sorted(int(axis) % rank for axis in self.arrays[node.input[1]])
        over = self._find_reduced_axes(node, axes, keeps=bool(attributes.get("keepdims", 1)))
        if over is None:
            raise UnknownOperator(
                node.op_type,
                node.output[0],
                f"over axes {axes} of {rank}, expected {list(range(2, rank))}: one number for each channel. A mean "
                "of each mel band or frame needs the form that an export as onnx-int8 gives it, whose sums are the "
                "same on every machine",
            )
        return [Reduced(node.output[0], (node.input[0],), reduction, over)]

    def _find_reduced_axes(
        self, node: onnx.NodeProto, axes: Sequence[int], *, keeps: bool
    ) -> tuple[Axis, ...] | None:
        """Return what a reduction adds along; None if C is not written for it."""
        shape = self.shapes[node.input[0]]
        rank, is_sum = len(shape) + 1, node.op_type == "ReduceSum"
        if axes == list(range(2, rank)) and not is_sum:
            return ("rows", "columns")
        if axes == [1] and is_vector(shape) and not is_sum:
            return ("channels",)
        if rank != 4 or self.transposed or node.input[0] not in self.integers:
            return None
        if axes not in ([2], [3]) or not keeps or shape[axes[0] - 1] > MOST_INTEGERS:
            return None
        return ("rows",) if axes == [2] else ("columns",)

    def read_pooling(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Sequence[Node]:
        kernel, strides = attributes["kernel_shape"], attributes["strides"]
        pads = attributes.get("pads", [0, 0, 0, 0])
        function = cast(PoolFunction, node.op_type)
        counts = attributes.get("count_include_pad", function == "MaxPool") or not any(pads)
        dilated = set(attributes.get("dilations", [1])) != {1}
        if not counts or attributes.get("ceil_mode", 0) or dilated:
            raise UnknownOperator(
                node.op_type, node.output[0], "expected windows inside the padded map"
            )
        turn = -1 if self.transposed else 1
        sizes = [tuple(each[::turn]) for each in (kernel, strides, pads[:2])]
        return [Pooled(node.output[0], (node.input[0],), function, *sizes)]

    def read_split(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Sequence[Node]:
        axis = self._find_axis(node, attributes["axis"])
        position = 0 if axis == "channels" else 1
        parts, start = [], 0
        for name in node.output:
            count = self.shapes[name][position]
            if axis == "rows" and self.shapes[name][1:] == (1, 1):
                # It would be read as numbers of channels, which lie side by side; these do not.
                raise UnknownOperator(node.op_type, name, "one position of a map for each channel")
            parts.append(Part(name, (node.input[0],), axis, start, count))
            start += count
        return parts

    def read_join(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Sequence[Node]:
        if self._find_axis(node, attributes["axis"]) != "channels":
            raise UnknownOperator(node.op_type, node.output[0], "expected to join channels")
        return [Joined(node.output[0], tuple(node.input))]

    def _find_axis(self, node: onnx.NodeProto, axis: int) -> Axis:
        rank = len(self.shapes[node.input[0]]) + 1
        rows = 3 if self.transposed else 2
        if axis % rank == 1:
            return "channels"
        if axis % rank == rows and rank == 4:
            return "rows"
        raise UnknownOperator(
            node.op_type, node.output[0], f"along axis {axis}: expected channels or rows"
        )

    def read_view(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> Sequence[Node]:
        return [Reshaped(node.output[0], (node.input[0],))]

    def read_transposition(
        self, node: onnx.NodeProto, attributes: Mapping[str, Any]
    ) -> Sequence[Node]:
        if node.input[0] != self.input_name or list(attributes["perm"]) != [0, 1, 3, 2]:
            raise UnknownOperator(
                node.op_type, node.output[0], "expected to exchange the axes of the input"
            )
        return [Reshaped(node.output[0], (node.input[0],))]


_READERS = {
    "QuantizeLinear": _Reader.read_rounding,
    "DequantizeLinear": _Reader.read_widening,
    "Conv": _Reader.read_convolution,
    "Gemm": _Reader.read_linear,
    "Cast": _Reader.read_cast,
    "Pow": _Reader.read_power,
    **dict.fromkeys(("Relu", "Gelu", "Sigmoid", "Sqrt"), _Reader.read_function),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _Reader.read_arithmetic),
    **dict.fromkeys(("ReduceMean", "ReduceL2", "ReduceSum"), _Reader.read_reduction),
    **dict.fromkeys(("AveragePool", "MaxPool"), _Reader.read_pooling),
    "Split": _Reader.read_split,
    "Concat": _Reader.read_join,
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"), _Reader.read_view),
    "Transpose": _Reader.read_transposition,
}


def _infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model for a batch of one clip, with the shape of each value."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    for value in (*copied.graph.input, *copied.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return shape_inference.infer_shapes(copied, strict_mode=True)
