"""A student's ONNX model in 8-bit integers: what `students.quantise` simulates.

Dimensions: O output channels of a layer.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper
from torch import nn

from students.quantise import (
    ActivationRange,
    QuantisedLayer,
    weight_integers,
    weight_scale,
)


def in_integers(model: onnx.ModelProto, simulated: nn.Module) -> onnx.ModelProto:
    """A copy whose convolutions and linear layers hold int8 weights and int32 biases.

    What such a layer takes and gives passes a QuantizeLinear and a DequantizeLinear: the pair by
    which a runtime knows where it may compute in integers.

    Args:
        model: of `students.quantise.unrounded(simulated)`.
        simulated: from `students.quantise.quantised`, with its ranges.

    Raises:
        ValueError: a range that no clip has set, or a layer that is not in the model; names it.
    """
    graph = model.graph
    layers, results = {}, {}
    for path, module in simulated.named_modules():
        if not isinstance(module, QuantisedLayer):
            continue
        layer = _Layer.of(path, module)
        found = [node for node in graph.node if f"{path}.layer.weight" in node.input]
        if not found:
            raise ValueError(f"layer {path}: no node of the model has its weights")
        for node in found:
            layers[node.output[0]] = layer
            if layer.output is not None:
                results[_result(graph, node, rectified=module.rectified)] = layer.output
    nodes = [each for node in graph.node for each in _rewritten(node, layers, results)]
    return _with_nodes(model, nodes, _constants(layers.values()))


@dataclass(frozen=True, eq=False, slots=True)
class _Grid:
    """Constants of a rounding, by name: a step and the integer for 0; of an activation, or of O."""

    name: str
    scale: np.ndarray
    zero: np.ndarray

    @classmethod
    def of(cls, name: str, simulated: ActivationRange) -> "_Grid":
        simulated.check()
        scale, zero = simulated.grid()
        return cls(name, scale.numpy(), zero.numpy().astype(np.uint8))

    @property
    def constants(self) -> dict[str, np.ndarray]:
        return {f"{self.name}.scale": self.scale, f"{self.name}.zero": self.zero}

    def widened(self, name: str, into: str) -> NodeProto:
        """From integers to float32; one step for each output channel, if there are several."""
        # Without a meaning for a single step, where 1 is what stands for none.
        axis = 0 if self.scale.ndim else 1
        return helper.make_node("DequantizeLinear", [name, *self.constants], [into], axis=axis)

    def rounded(self, name: str, into: str) -> list[NodeProto]:
        """From float32 to integers and back."""
        integers = f"{into}.integers"
        to_integers = helper.make_node("QuantizeLinear", [name, *self.constants], [integers])
        return [to_integers, self.widened(integers, into)]


@dataclass(frozen=True, eq=False, slots=True)
class _Layer:
    """What a layer holds in integers, with the grid of each, and the grids of what passes it."""

    input: _Grid
    output: _Grid | None
    parameters: dict[str, tuple[np.ndarray, _Grid]]
    """By what they are for: weight, and bias if it has one."""

    @classmethod
    def of(cls, path: str, simulated: QuantisedLayer) -> "_Layer":
        try:
            into = _Grid.of(f"{path}.input", simulated.input)
            out = None if simulated.output is None else _Grid.of(f"{path}.output", simulated.output)
        except ValueError as error:
            raise ValueError(f"layer {path}: {error}") from error
        weight, bias = simulated.layer.weight, simulated.layer.bias
        scale_O = weight_scale(weight).numpy()
        no_shift_O = np.zeros(len(scale_O), dtype=np.int8)
        weight_grid = _Grid(f"{path}.weight", scale_O, no_shift_O)
        parameters = {"weight": (weight_integers(weight.detach()).numpy(), weight_grid)}
        if bias is not None:
            # What integer products add up to has this step, so a runtime adds the bias as it is.
            bias_scale_O = into.scale * scale_O
            limits = np.iinfo(np.int32)
            wide_O = np.rint(bias.detach().double().numpy() / bias_scale_O)
            bias_grid = _Grid(f"{path}.bias", bias_scale_O, no_shift_O.astype(np.int32))
            clipped_O = np.clip(wide_O, limits.min, limits.max).astype(np.int32)
            parameters["bias"] = (clipped_O, bias_grid)
        return cls(into, out, parameters)


def _result(graph: onnx.GraphProto, node: NodeProto, *, rectified: bool) -> str:
    """The name of what a layer gives, after its ReLU if it has one."""
    if not rectified:
        return node.output[0]
    (relu,) = (each for each in graph.node if node.output[0] in each.input)
    return relu.output[0]


def _rewritten(
    node: NodeProto, layers: Mapping[str, _Layer], results: Mapping[str, _Grid]
) -> Iterator[NodeProto]:
    """A node, with all that stands before and behind it in integers."""
    copied = NodeProto()
    copied.CopyFrom(node)
    name = node.output[0]
    layer, after = layers.get(name), results.get(name)
    if layer is not None:
        taken = [f"{name}.{each}" for each in ("input", *layer.parameters)]
        yield from layer.input.rounded(node.input[0], taken[0])
        for (_, grid), widened in zip(layer.parameters.values(), taken[1:], strict=True):
            yield grid.widened(grid.name, widened)
        copied.input[:] = taken
    if after is None:
        yield copied
        return
    # Whoever takes the result finds it rounded under its name.
    copied.output[0] = f"{name}.unrounded"
    yield copied
    yield from after.rounded(copied.output[0], name)


def _constants(layers: Iterable[_Layer]) -> dict[str, np.ndarray]:
    constants: dict[str, np.ndarray] = {}
    for layer in layers:
        for grid in filter(None, (layer.input, layer.output)):
            constants |= grid.constants
        for integers, grid in layer.parameters.values():
            constants |= {grid.name: integers} | grid.constants
    return constants


def _with_nodes(
    model: onnx.ModelProto, nodes: list[NodeProto], constants: Mapping[str, np.ndarray]
) -> onnx.ModelProto:
    """A copy of the model with other nodes and more constants, less those that nobody takes."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    taken = {name for node in nodes for name in node.input}
    kept = [each for each in model.graph.initializer if each.name in taken]
    more = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    for field, values in (("node", nodes), ("initializer", [*kept, *more])):
        copied.graph.ClearField(field)
        getattr(copied.graph, field).extend(values)
    return copied
