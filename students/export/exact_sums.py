"""Rewrites means and sums along axes of a map in an int8 graph: whatever computes them, the numbers are the same.

A runtime may exchange the axes of maps, and adds along one axis in an order that the processor and the number of
threads decide. In float32 another order is another sum, and a code in some ten thousand becomes another one.

Dimensions: B clips in a batch, C channels, F mel bands, T frames.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper, shape_inference

_CONSTANTS = {
    "sum_of_bands.rows": [0, 0, -1],
    "sum_of_bands.axis": [2],
    "sum_of_bands.map": [0, 1, -1, 1],
}
"""Shapes and axes that rewritten sums of bands take; 0 keeps a length."""


_RANK = 4


class ExactSums:
    """Rewrites the reductions of the maps of one model, [B, C, F, T]; others are left as they are.

    Args:
        model: in float32.
        rectified: the step of each layer's output that is rounded after a ReLU, by the output's name: its integer
            for 0 is 0.
    """

    def __init__(self, model: onnx.ModelProto, rectified: Mapping[str, str]) -> None:
        graph, maps = model.graph, _find_maps(model)
        axes = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self._rectified = rectified
        self._of_one_axis, self._of_bands = set[str](), set[str]()
        for node in graph.node:
            if node.op_type not in ("ReduceMean", "ReduceSum") or node.input[-1] not in axes:
                continue
            if node.input[0] not in maps:
                continue
            over = sorted(int(axis) % _RANK for axis in axes[node.input[-1]])
            if over in ([2], [3]) and node.op_type == "ReduceMean" and node.input[0] in rectified:
                self._of_one_axis.add(node.output[0])
            if over == [1, 3] and helper.get_node_attr_value(node, "keepdims"):
                self._of_bands.add(node.output[0])

    @property
    def constants(self) -> dict[str, np.ndarray]:
        """What the new nodes need, by name."""
        return {name: np.array(values, np.int64) for name, values in _CONSTANTS.items()}

    def rewrite(self, node: NodeProto) -> Iterator[NodeProto]:
        """Yield the nodes that take the place of a node: itself, if it adds nothing along an axis."""
        if node.output[0] in self._of_one_axis:
            yield from self._average_integers(node)
        elif node.output[0] in self._of_bands:
            yield from _add_rows(node)
        else:
            yield node

    def _average_integers(self, node: NodeProto) -> Iterator[NodeProto]:
        """Yield the mean of a map's integers times their step: all sums are integers below 2^24, so exact."""
        (mean,) = node.output
        widened, averaged = f"{mean}.integers", f"{mean}.of_integers"
        yield helper.make_node(
            "Cast", [f"{node.input[0]}.integers"], [widened], to=onnx.TensorProto.FLOAT
        )
        yield _copy(node, [widened, node.input[1]], averaged)
        yield helper.make_node("Mul", [averaged, self._rectified[node.input[0]]], [mean])


def _find_maps(model: onnx.ModelProto) -> set[str]:
    """Return the names of the values with the axes of maps."""
    graph = shape_inference.infer_shapes(model).graph
    known = (*graph.input, *graph.value_info, *graph.output)
    return {each.name for each in known if len(each.type.tensor_type.shape.dim) == _RANK}


def _add_rows(node: NodeProto) -> Iterator[NodeProto]:
    """Yield a sum over [C, T] of each band as one of rows [F, C * T]: numbers that lie side by side."""
    (result,) = node.output
    turned, rows, of_rows = (f"{result}.{each}" for each in ("turned", "rows", "of_rows"))
    shape, axis, back = _CONSTANTS
    yield helper.make_node("Transpose", [node.input[0]], [turned], perm=[0, 2, 1, 3])
    yield helper.make_node("Reshape", [turned, shape], [rows])
    yield _copy(node, [rows, axis], of_rows)
    yield helper.make_node("Reshape", [of_rows, back], [result])


def _copy(node: NodeProto, inputs: list[str], result: str) -> NodeProto:
    copied = NodeProto()
    copied.CopyFrom(node)
    copied.input[:] = inputs
    copied.output[0] = result
    return copied
