"""Small int8 graphs, node by node, as `students.export.onnx_int8` writes them."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class GraphMaker:
    """Adds nodes to a graph that takes log-mels [B, C, F, T]; each method returns the name of its result."""

    def __init__(self, *shape: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: dict[str, np.ndarray] = {}
        self.shape = shape
        self.random = np.random.default_rng(0)

    def add(self, operator: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, name: str, values: object, kind: type = np.float32) -> str:
        self.arrays[name] = np.asarray(values, kind)
        return name

    def round(self, value: str, path: str, scale: float = 0.125, zero: int = 128) -> str:
        grid = [
            self.constant(f"{path}.scale", scale),
            self.constant(f"{path}.zero", zero, np.uint8),
        ]
        self.add("QuantizeLinear", [value, *grid], f"{path}.integers")
        return self.add("DequantizeLinear", [f"{path}.integers", *grid], path)

    def convolve(self, value: str, path: str, shape: Sequence[int], **attributes: object) -> str:
        weights = self._add_integers(f"{path}.weight", self.random.integers(-9, 9, shape), np.int8)
        bias = self._add_integers(f"{path}.bias", self.random.integers(-99, 99, shape[0]), np.int32)
        n = len(shape) - 2
        plain = {"pads": [0] * 2 * n, "strides": [1] * n, "dilations": [1] * n, "group": 1}
        sizes = {"kernel_shape": list(shape[2:])} | plain | attributes
        return self.add("Conv", [value, weights, bias], f"{path}.sums", **sizes)

    def classify(self, value: str, path: str, n_inputs: int) -> str:
        weights = self.random.integers(-9, 9, (3, n_inputs))
        names = [
            self._add_integers(f"{path}.weight", weights, np.int8),
            self._add_integers(f"{path}.bias", self.random.integers(-99, 99, 3), np.int32),
        ]
        return self.add("Gemm", [value, *names], "logits", transB=1)

    def _add_integers(self, name: str, values: np.ndarray, kind: type) -> str:
        scale = self.constant(f"{name}.scale", np.full(len(values), 0.03125))
        zero = self.constant(f"{name}.zero", np.zeros(len(values)), kind)
        given = [self.constant(name, values, kind), scale, zero]
        return self.add("DequantizeLinear", given, f"{name}.widened", axis=0)

    def finish(self) -> onnx.ModelProto:
        ends = [("log_mels", self.shape), (self.nodes[-1].output[0], (3,))]
        given, result = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
            for name, shape in ends
        )
        tensors = [numpy_helper.from_array(values, name) for name, values in self.arrays.items()]
        graph = helper.make_graph(self.nodes, "small", [given], [result], tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def make_small_graph() -> onnx.ModelProto:
    """Return a student of two layers with a norm and a shortcut between them, a mean and a linear layer."""
    made = GraphMaker(1, 6, 6)
    stem = made.convolve(made.round("log_mels", "stem.input"), "stem", (2, 1, 2, 2), strides=[2, 2])
    stem = made.add("Relu", [made.round(stem, "stem.output")], "relu")
    scale = made.constant("norm.scale", np.reshape([0.5, 1.5], (2, 1, 1)))
    shift = made.constant("norm.shift", np.reshape([-0.25, 0.75], (2, 1, 1)))
    norm = made.add("Add", [made.add("Mul", [stem, scale], "scaled"), shift], "shifted")
    deep = made.convolve(
        made.round(norm, "deep.input", 0.0625, 16), "deep", (2, 1, 3, 3), group=2, pads=[1] * 4
    )
    both = made.add("Add", [made.round(deep, "deep.output"), norm], "both")
    mixed = made.convolve(made.round(both, "mix.input"), "mix", (3, 2, 1, 1))
    mean = made.add(
        "ReduceMean",
        [made.round(mixed, "mix.output"), made.constant("axes", [2, 3], np.int64)],
        "mean",
        keepdims=0,
    )
    made.classify(made.round(mean, "head.input"), "head", 3)
    return made.finish()
