"""Rewrites a student's ONNX model in 8-bit integers, as `students.quantise` simulates them.

Dimensions: O output channels of a layer.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper
from torch import nn

from students.export.exact_sums import ExactSums
from students.quantise import (
    ActivationRange,
    QuantisedLayer,
    compute_weight_scale,
    round_weight,
)


def convert_to_integers(model: onnx.ModelProto, simulated: nn.Module) -> onnx.ModelProto:
    """Return a copy whose convolutions and linear layers have int8 weights and int32 biases.

    The inputs and outputs of such a layer pass a QuantizeLinear and a DequantizeLinear: this pair
    tells a runtime where it may compute in integers.

    Args:
        model: the model of `students.quantise.remove_rounding(simulated)`.
        simulated: from `students.quantise.quantise`, with its ranges.

    Raises:
        ValueError: no clip has set a range, or a layer is not in the model; names it.
    """
    graph = model.graph
    layers, results, rectified = {}, {}, {}
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
                result = _find_result(graph, node, rectified=module.rectified)
                results[result] = layer.output
                if module.rectified:
                    rectified[result] = f"{layer.output.name}.scale"
    sums = ExactSums(model, rectified)
    rewritten = [
        each
        for node in graph.node
        for changed in sums.rewrite(node)
        for each in _rewrite(changed, layers, results)
    ]
    nodes = _drop_unused_widenings(rewritten, graph.output[0].name)
    constants = _collect_constants(layers.values()) | sums.constants
    return _replace_nodes(model, nodes, constants)


@dataclass(frozen=True, eq=False, slots=True)
class _Grid:
    """Constants of a rounding, by name: the step and the integer for 0, one or O of each."""

    name: str
    scale: np.ndarray
    zero: np.ndarray

    @classmethod
    def of(cls, name: str, simulated: ActivationRange) -> "_Grid":
        simulated.check()
        scale, zero = simulated.compute_grid()
        return cls(name, scale.numpy(), zero.numpy().astype(np.uint8))

    @property
    def constants(self) -> dict[str, np.ndarray]:
        return {f"{self.name}.scale": self.scale, f"{self.name}.zero": self.zero}

    def make_widening(self, name: str, into: str) -> NodeProto:
        """Return the node from integers to float32, with a step for each output channel if there are several."""
        # A single step has no axis; 1 is the operator's default.
        axis = 0 if self.scale.ndim else 1
        return helper.make_node("DequantizeLinear", [name, *self.constants], [into], axis=axis)

    def make_rounding(self, name: str, into: str) -> list[NodeProto]:
        """Return the nodes from float32 to integers and back."""
        integers = f"{into}.integers"
        to_integers = helper.make_node("QuantizeLinear", [name, *self.constants], [integers])
        return [to_integers, self.make_widening(integers, into)]


@dataclass(frozen=True, eq=False, slots=True)
class _Layer:
    """The integers of a layer with their grids, and the grids of its inputs and outputs."""

    input: _Grid
    output: _Grid | None
    parameters: dict[str, tuple[np.ndarray, _Grid]]
    """By name: weight, and bias if it has one."""

    @classmethod
    def of(cls, path: str, simulated: QuantisedLayer) -> "_Layer":
        try:
            into = _Grid.of(f"{path}.input", simulated.input)
            out = None if simulated.output is None else _Grid.of(f"{path}.output", simulated.output)
        except ValueError as error:
            raise ValueError(f"layer {path}: {error}") from error
        weight, bias = simulated.layer.weight, simulated.layer.bias
        scale_O = compute_weight_scale(weight).numpy()
        no_shift_O = np.zeros(len(scale_O), dtype=np.int8)
        weight_grid = _Grid(f"{path}.weight", scale_O, no_shift_O)
        parameters = {"weight": (round_weight(weight.detach()).numpy(), weight_grid)}
        if bias is not None:
            # Sums of integer products have this step, so a runtime adds the bias as it is.
            bias_scale_O = into.scale * scale_O
            limits = np.iinfo(np.int32)
            wide_O = np.rint(bias.detach().double().numpy() / bias_scale_O)
            bias_grid = _Grid(f"{path}.bias", bias_scale_O, no_shift_O.astype(np.int32))
            clipped_O = np.clip(wide_O, limits.min, limits.max).astype(np.int32)
            parameters["bias"] = (clipped_O, bias_grid)
        return cls(into, out, parameters)


def _find_result(graph: onnx.GraphProto, node: NodeProto, *, rectified: bool) -> str:
    """Return the name of a layer's output, after its ReLU if it has one."""
    if not rectified:
        return node.output[0]
    (relu,) = (each for each in graph.node if node.output[0] in each.input)
    return relu.output[0]


def _rewrite(
    node: NodeProto, layers: Mapping[str, _Layer], results: Mapping[str, _Grid]
) -> Iterator[NodeProto]:
    """Yield a node with the nodes before and after it that convert to integers."""
    copied = NodeProto()
    copied.CopyFrom(node)
    name = node.output[0]
    layer, after = layers.get(name), results.get(name)
    if layer is not None:
        taken = [f"{name}.{each}" for each in ("input", *layer.parameters)]
        yield from layer.input.make_rounding(node.input[0], taken[0])
        for (_, grid), widened in zip(layer.parameters.values(), taken[1:], strict=True):
            yield grid.make_widening(grid.name, widened)
        copied.input[:] = taken
    if after is None:
        yield copied
        return
    # The rounded result takes the old name, so that later nodes use it.
    copied.output[0] = f"{name}.unrounded"
    yield copied
    yield from after.make_rounding(copied.output[0], name)


def _drop_unused_widenings(nodes: Sequence[NodeProto], result: str) -> list[NodeProto]:
    taken = {name for node in nodes for name in node.input} | {result}
    return [each for each in nodes if each.op_type != "DequantizeLinear" or each.output[0] in taken]


def _collect_constants(layers: Iterable[_Layer]) -> dict[str, np.ndarray]:
    constants: dict[str, np.ndarray] = {}
    for layer in layers:
        for grid in filter(None, (layer.input, layer.output)):
            constants |= grid.constants
        for integers, grid in layer.parameters.values():
            constants |= {grid.name: integers} | grid.constants
    return constants


def _replace_nodes(
    model: onnx.ModelProto, nodes: list[NodeProto], constants: Mapping[str, np.ndarray]
) -> onnx.ModelProto:
    """Return a copy of the model with other nodes, and with the constants that they use."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    taken = {name for node in nodes for name in node.input}
    kept = [each for each in model.graph.initializer if each.name in taken]
    more = [
        numpy_helper.from_array(values, name) for name, values in constants.items() if name in taken
    ]
    for field, values in (("node", nodes), ("initializer", [*kept, *more])):
        copied.graph.ClearField(field)
        getattr(copied.graph, field).extend(values)
    return copied
