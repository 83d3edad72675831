"""Random int8 graphs of the operators that students have, as an export would write them.

Dimensions: C channels, H rows, W columns, K classes.
"""

import numpy as np
import onnx
import torch
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from torch import Tensor
from torch.nn import functional

N_CLASSES = 3
MOST_CHANNELS = 12
Draw = st.DrawFn


class GraphBuilder:
    """Adds operators one by one, and computes each at once on a few clips, which set the ranges."""

    def __init__(self, shape: tuple[int, int, int], seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: list[onnx.TensorProto] = []
        self.values: dict[str, Tensor] = {}
        self.overlaps = False
        """Whether windows overlap somewhere: C refuses to cut rows out of their means; no student does."""
        self.shape = shape
        clips = self.generator.normal(0.3, 1.0, (4, *shape)).astype(np.float32)
        self.values["log_mels"] = torch.from_numpy(clips)

    def add_node(self, kind: str, inputs: list[str], value: Tensor, **attributes: object) -> str:
        """Add a node of one output; return the output's name."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        self.values[name] = value
        return name

    def add_array(self, values: np.ndarray) -> str:
        """Add a constant; return its name."""
        name = f"constant_{len(self.arrays)}"
        self.arrays.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def round(self, name: str, *, non_negative: bool = False) -> str:
        """Round a value to the grid of its range, and widen it again."""
        value = self.values[name]
        low = 0.0 if non_negative else min(float(value.min()), 0.0)
        step = np.float32(max(float(value.max()) - low, 1e-3) / 255)
        zero = np.uint8(np.clip(round(-low / step), 0, 255))
        grid = [self.add_array(step), self.add_array(zero)]
        codes = self.add_node("QuantizeLinear", [name, *grid], value)
        rounded = torch.fake_quantize_per_tensor_affine(value, float(step), int(zero), 0, 255)
        return self.add_node("DequantizeLinear", [codes, *grid], rounded)

    def _add_weights(self, shape: tuple[int, ...], scale: np.ndarray, kind: type) -> str:
        largest = 127 if kind is np.int8 else 2000
        values = self.generator.integers(-largest, largest + 1, shape).astype(kind)
        zeros = self.add_array(np.zeros(len(scale), kind))
        inputs = [self.add_array(values), self.add_array(scale), zeros]
        weights = values * scale.reshape(-1, *[1] * (len(shape) - 1))
        return self.add_node(
            "DequantizeLinear", inputs, torch.from_numpy(weights.astype(np.float32)), axis=0
        )

    def convolve(self, name: str, draw: Draw) -> str:
        """Add a rounded convolution of a widened map: any kernel, stride, padding and groups."""
        source = name if self.is_widened(name) else self.round(name)
        channels, height, width = self.values[source].shape[1:]
        per_group = draw(st.sampled_from([1, 2, channels]))
        groups = channels // per_group if channels % per_group == 0 else 1
        out_channels = groups * draw(st.integers(1, 2)) if groups > 1 else draw(st.integers(1, 7))
        spans = [self._draw_span(size, draw) for size in (height, width)]
        (kernel, strides, dilations, pads) = zip(*spans, strict=True)
        shape = (out_channels, channels // groups, *kernel)
        scale = self.generator.uniform(0.5, 2.0, out_channels).astype(np.float32)
        scale /= np.float32(100 * np.sqrt(np.prod(shape[1:])))
        inputs = [source, self._add_weights(shape, scale, np.int8)]
        if draw(st.booleans()):
            bias_scale = np.float32(self._find_step(source)) * scale
            inputs.append(self._add_weights((out_channels,), bias_scale, np.int32))
        weights, *bias = (self.values[each] for each in inputs[1:])
        value = functional.conv2d(
            self.values[source], weights, *bias, stride=strides, padding=pads,
            dilation=dilations, groups=groups,
        )  # fmt: skip
        result = self.add_node(
            "Conv", inputs, value, kernel_shape=kernel, strides=strides, dilations=dilations,
            pads=[*pads, *pads], group=groups,
        )  # fmt: skip
        rectified = draw(st.booleans())
        if rectified:
            result = self.add_node("Relu", [result], value.relu())
        return self.round(result, non_negative=rectified)

    @staticmethod
    def _draw_span(size: int, draw: Draw) -> tuple[int, int, int, int]:
        """Return kernel, stride, dilation and padding along one axis."""
        kernel, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 2))
        reach = (kernel - 1) * dilation
        lowest = max(0, -(-(reach + 1 - size) // 2))
        padding = draw(st.integers(lowest, max(lowest, reach)))
        return kernel, draw(st.integers(1, 2)), dilation, padding

    def _find_step(self, name: str) -> float:
        (array,) = (each for each in self.arrays if each.name == self._name_step(name))
        return float(numpy_helper.to_array(array))

    def _name_step(self, name: str) -> str:
        (node,) = (each for each in self.nodes if each.output[0] == name)
        return node.input[1]

    def is_widened(self, name: str) -> bool:
        """Whether a value comes directly from codes."""
        return name.startswith("dequantizelinear")

    def apply(self, name: str, draw: Draw) -> str:
        """Add a function of each number, whose argument has codes."""
        source = name if self.is_widened(name) else self.round(name)
        value = self.values[source]
        kind = draw(st.sampled_from(["Relu", "Gelu", "Sigmoid"]))
        results = {"Relu": value.relu(), "Gelu": functional.gelu(value), "Sigmoid": value.sigmoid()}
        return self.add_node(kind, [source], results[kind])

    def normalise(self, name: str, draw: Draw) -> str:
        """Add a scale and a shift per channel."""
        value = self.values[name]
        shape = (value.shape[1], 1, 1)
        scale = self.generator.uniform(-1.5, 1.5, shape).astype(np.float32)
        shift = self.generator.normal(0, 0.5, shape).astype(np.float32)
        scaled = self.add_node(
            "Mul", [name, self.add_array(scale)], value * torch.from_numpy(scale)
        )
        shifted = self.values[scaled] + torch.from_numpy(shift)
        return self.add_node("Add", [scaled, self.add_array(shift)], shifted)

    def add(self, name: str, draw: Draw) -> str:
        """Add two maps of one shape, the last one and any before it."""
        other = draw(st.sampled_from(self._find_like(name)))
        return self.add_node("Add", [other, name], self.values[other] + self.values[name])

    def _find_like(self, name: str) -> list[str]:
        """Return all values of the shape of one, which are numbers, not codes or sums."""
        return [
            each.output[0]
            for each in self.nodes
            if self.values[each.output[0]].shape == self.values[name].shape
            and each.op_type not in ("QuantizeLinear", "Conv", "Concat", "Cast", "Transpose")
            and not self._is_unrounded(each)
        ]

    def _is_unrounded(self, node: onnx.NodeProto) -> bool:
        return node.op_type == "Relu" and node.input[0].startswith("conv")

    def attend(self, name: str, draw: Draw) -> str:
        """Multiply each channel with a number that its mean decides."""
        mean = self._reduce("ReduceMean", name, keepdims=1)
        weights = self.add_node("Sigmoid", [self.round(mean)], self.values[mean].sigmoid())
        return self.add_node("Mul", [name, weights], self.values[name] * self.values[weights])

    def pool(self, name: str, draw: Draw) -> str:
        """Add means or largest numbers of windows: side by side, or overlapping ones that begin in the padding."""
        height, width = self.values[name].shape[2:]
        if self.is_widened(name):
            # Rounded again at once, ONNX Runtime pools the codes: it may be one code off. No student does.
            name = self.normalise(name, draw)
        if draw(st.booleans()):
            kernel, strides, pads = (3, 3), (2, 2), (1, 1)
            self.overlaps = True
        else:
            kernel = (draw(st.integers(1, min(2, height))), draw(st.integers(1, min(2, width))))
            strides, pads = kernel, (0, 0)
        if draw(st.booleans()):
            value = functional.max_pool2d(self.values[name], kernel, strides, pads)
            return self.add_node(
                "MaxPool", [name], value, kernel_shape=kernel, strides=strides, pads=[*pads, *pads]
            )
        value = functional.avg_pool2d(self.values[name], kernel, strides, pads)
        return self.add_node(
            "AveragePool", [name], value, kernel_shape=kernel, strides=strides,
            pads=[*pads, *pads], count_include_pad=1,
        )  # fmt: skip

    def join(self, name: str, draw: Draw) -> str:
        """Join two maps of one size along their channels, and convolve them, as all students do."""
        other = draw(st.sampled_from(self._find_like(name)))
        both = torch.cat([self.values[other], self.values[name]], dim=1)
        if both.shape[1] > MOST_CHANNELS:
            return self.normalise(name, draw)
        return self.convolve(self.add_node("Concat", [other, name], both, axis=1), draw)

    def fold(self, name: str, draw: Draw) -> str:
        """Add the halves of a map: of its channels or of its rows, if their number is even."""
        axis = draw(st.sampled_from([1] if self.overlaps else [1, 2]))
        value = self.values[name]
        if value.shape[axis] % 2 or value.shape[2] * value.shape[3] == 2:
            return self.normalise(name, draw)
        names = self._split(name, axis)
        shifted = self.normalise(names[1], draw)
        value = self.values[names[0]] + self.values[shifted]
        return self.add_node("Add", [names[0], shifted], value)

    def look_along(self, name: str, draw: Draw) -> str:
        """Add what a layer makes of a layer's means along one axis; both keep the number of channels."""
        rounded = self._convolve_each(name, "Relu")
        axis = draw(st.sampled_from([2, 3]))
        step = self._name_step(rounded)
        integers = next(each.input[0] for each in self.nodes if each.output[0] == rounded)
        value = self.values[rounded].mean(axis, keepdim=True)
        numbers = self.add_node("Cast", [integers], self.values[rounded], to=1)
        axes = self.add_array(np.array([axis], np.int64))
        mean = self.add_node("ReduceMean", [numbers, axes], value, keepdims=1)
        mixed = self._convolve_each(
            self.add_node("Mul", [mean, step], value), draw(st.sampled_from(["", "Relu"]))
        )
        return self.add_node("Add", [name, mixed], self.values[name] + self.values[mixed])

    def _convolve_each(self, name: str, function: str) -> str:
        """Add a rounded layer of 1x1 from a value of a few channels to as many."""
        source = self.round(name)
        n_channels = self.values[source].shape[1]
        scale = self.generator.uniform(0.005, 0.02, n_channels).astype(np.float32)
        weights = self._add_weights((n_channels, n_channels, 1, 1), scale, np.int8)
        value = functional.conv2d(self.values[source], self.values[weights])
        sums = self.add_node(
            "Conv", [source, weights], value, kernel_shape=[1, 1], strides=[1, 1], dilations=[1, 1],
            pads=[0, 0, 0, 0], group=1,
        )  # fmt: skip
        if function:
            sums = self.add_node(function, [sums], value.relu())
        return self.round(sums, non_negative=bool(function))

    def shuffle(self, name: str, draw: Draw) -> str:
        """Deal channels like cards, and add what looks along rows to one half, and along columns to the other."""
        value = self.values[name]
        n_batch, n_channels, *shape = value.shape
        if n_channels % 2 or shape == [1, 1]:
            return self.normalise(name, draw)
        groups = draw(st.sampled_from([2, n_channels // 2]))
        heaps = (n_channels // groups, *shape)
        shapes = [
            self.add_array(np.array(each, np.int64))
            for each in ((0, groups, *heaps), (0, n_channels, *shape))
        ]
        viewed = value.reshape(n_batch, groups, *heaps)
        turned = viewed.transpose(1, 2)
        names = self.add_node("Reshape", [name, shapes[0]], viewed)
        names = self.add_node("Transpose", [names], turned, perm=[0, 2, 1, 3, 4])
        dealt = self.add_node("Reshape", [names, shapes[1]], turned.reshape(value.shape))
        halves = self._split(dealt, 1)
        sums = [self.look_along(each, draw) for each in halves]
        both = torch.cat([self.values[each] for each in sums], 1)
        return self.add_node("Concat", sums, both, axis=1)

    def _split(self, name: str, axis: int) -> list[str]:
        names = [f"{half}_half_{len(self.nodes)}" for half in ("first", "second")]
        self.nodes.append(helper.make_node("Split", [name], names, axis=axis, num_outputs=2))
        self.values |= dict(zip(names, self.values[name].chunk(2, dim=axis), strict=True))
        return names

    def normalise_bands(self, name: str, draw: Draw) -> str:
        """Subtract the mean of each row over channels and columns, and divide by its spread."""
        value = self.values[name]
        mean = self._reduce_bands("ReduceMean", name, value.mean((1, 3), keepdim=True))
        centred = self.add_node("Sub", [name, mean], value - self.values[mean])
        exponent = self.add_array(np.float32(2))
        squares = self.add_node("Pow", [centred, exponent], self.values[centred].square())
        total = self.values[squares].sum((1, 3), keepdim=True)
        shifted = self.add_node(
            "Add",
            [self._reduce_bands("ReduceSum", squares, total), self.add_array(np.float32(0.1))],
            total + 0.1,
        )
        spread = self.add_node("Sqrt", [shifted], self.values[shifted].sqrt())
        return self.add_node("Div", [centred, spread], self.values[centred] / self.values[spread])

    def _reduce_bands(self, kind: str, name: str, result: Tensor) -> str:
        value = self.values[name]
        turned = value.transpose(1, 2)
        rows = turned.flatten(2)
        shapes = [
            self.add_array(np.array(each, np.int64)) for each in ([0, 0, -1], [2], [0, 1, -1, 1])
        ]
        node = self.add_node("Transpose", [name], turned, perm=[0, 2, 1, 3])
        node = self.add_node("Reshape", [node, shapes[0]], rows)
        node = self.add_node(kind, [node, shapes[1]], result.flatten(1)[:, :, None], keepdims=1)
        return self.add_node("Reshape", [node, shapes[2]], result)

    def _reduce(self, kind: str, name: str, keepdims: int) -> str:
        axes = self.add_array(np.array([2, 3], np.int64))
        value = self.values[name].mean((2, 3), keepdim=bool(keepdims))
        return self.add_node(kind, [name, axes], value, keepdims=keepdims)

    def finish(self, name: str) -> onnx.ModelProto:
        """Add a mean of the map and a linear layer; return the model."""
        mean = self.round(self._reduce("ReduceMean", name, keepdims=0))
        n_features = self.values[mean].shape[1]
        scale = self.generator.uniform(0.002, 0.02, N_CLASSES).astype(np.float32)
        weights = self._add_weights((N_CLASSES, n_features), scale, np.int8)
        bias_scale = np.float32(self._find_step(mean)) * scale
        bias = self._add_weights((N_CLASSES,), bias_scale, np.int32)
        self.nodes.append(helper.make_node("Gemm", [mean, weights, bias], ["logits"], transB=1))
        ends = [
            helper.make_tensor_value_info(each, onnx.TensorProto.FLOAT, ["batch", *shape])
            for each, shape in (("log_mels", self.shape), ("logits", (N_CLASSES,)))
        ]
        graph = helper.make_graph(self.nodes, "random", ends[:1], ends[1:], self.arrays)
        opsets = [helper.make_opsetid("", 20)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model


@st.composite
def random_graphs(draw: Draw, longest: int = 7) -> onnx.ModelProto:
    """Draw a graph of up to `longest` operators between the input and the mean before the logits."""
    shape = (draw(st.integers(1, 2)), draw(st.integers(2, 9)), draw(st.integers(2, 9)))
    builder = GraphBuilder(shape, seed=draw(st.integers(0, 999)))
    name = builder.convolve(builder.round("log_mels"), draw)
    operators = [
        builder.convolve,
        builder.apply,
        builder.normalise,
        builder.add,
        builder.attend,
        builder.pool,
        builder.join,
        builder.fold,
        builder.look_along,
        builder.shuffle,
        builder.normalise_bands,
    ]
    for operator in draw(st.lists(st.sampled_from(operators), min_size=1, max_size=longest)):
        name = operator(name, draw)
    return builder.finish(name)


def describe_graph(model: onnx.ModelProto) -> str:
    """Return a line for each operator but roundings: what it makes of what, with its attributes."""
    model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    shapes = {
        value.name: "x".join(str(axis.dim_value) for axis in value.type.tensor_type.shape.dim[1:])
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    constants = {each.name for each in graph.initializer}
    lines = []
    for node in graph.node:
        if node.input[0] in constants:
            continue
        sources = [each for each in node.input if each not in constants]
        attributes = [f"{a.name}={helper.get_attribute_value(a)}" for a in node.attribute]
        shape = shapes.get(node.output[0], "?")
        lines.append(
            f"{node.output[0]} {shape} = {node.op_type}({', '.join(sources)}) {attributes}"
        )
    return "\n".join(lines)
