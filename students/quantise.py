"""A student in 8-bit integers, simulated in float32; `students.export.onnx_int8` makes them real.

Dimensions: B clips in a batch, O output channels of a layer.

Convolutions and linear layers, which have all of a student's multiply-accumulates and nearly all of
its parameters, become integers; everything between them stays in float32. Weights: per output
channel, symmetric. Activations: per tensor, affine, 0...255. Both grids are those of PyTorch's own
quantisation-aware training.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn.utils.fusion import fuse_conv_bn_weights

from students.branches import fold_branches

Model = TypeVar("Model", bound=nn.Module)

LARGEST_ACTIVATION = 255
LARGEST_WEIGHT, SMALLEST_WEIGHT = 127, -128
RANGE_MOMENTUM = 0.01
"""How far a batch moves the range of an activation in training."""
_Layer = nn.Conv1d | nn.Conv2d | nn.Linear
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_LAYERS = (*_CONVOLUTIONS, nn.Linear)
_Norm = nn.BatchNorm1d | nn.BatchNorm2d
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_Kinds = type[nn.Module] | tuple[type[nn.Module], ...]
_SMALLEST_SCALE = torch.finfo(torch.float32).eps


def quantise(student: Model, input_shape: Sequence[int]) -> Model:
    """Return a copy whose layers compute as integers would, with gradients: any loop can train it.

    Branches become one convolution first, and stay one.
    If a convolution's result goes only to a batch normalisation, this is folded into it, and so is a
    ReLU that alone follows either; both are removed from the copy. All other norms stay: a norm
    after an activation could only be folded into the next convolution, and the sum would change if
    that one pads, or if a shortcut takes the norm's result too.

    In training mode every batch moves the ranges of the activations; `calibrate` must set them
    first. In evaluation mode they are fixed.

    Args:
        student: a trained student; is not changed.
        input_shape: shape of one clip, (1, C, F, T).
    """
    student = fold_branches(student)
    plans = _plan_layers(copy.deepcopy(student).cpu().eval(), input_shape)
    copied = copy.deepcopy(student)
    for path, plan in plans.items():
        layer = cast(_Layer, copied.get_submodule(path))
        if plan.norm:
            _fold(layer, cast(_Norm, copied.get_submodule(plan.norm)))
        for gone in filter(None, (plan.norm, plan.relu)):
            copied.set_submodule(gone, nn.Identity())
        wrapped = QuantisedLayer(layer, rectified=plan.relu is not None, rounds=plan.rounds)
        copied.set_submodule(path, wrapped.to(layer.weight.device).train(layer.training))
    return copied


def becomes_integers(module: nn.Module) -> bool:
    """Whether int8 has a form of a module's own parameters, or they are too few to need one.

    Those of convolutions and linear layers become integers; norms and numbers per channel are folded into
    them or are few. The matrices of any other layer, as those of a recurrence, stay in float32.
    """
    own = (parameter.shape for _, parameter in module.named_parameters(recurse=False))
    has_matrix = any(sum(size > 1 for size in shape) > 1 for shape in own)
    return isinstance(module, _LAYERS) or not has_matrix


def _fold(layer: _Layer, norm: _Norm) -> None:
    """Fold a norm, as it is in evaluation, into the convolution before it."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    layer.weight, layer.bias = fuse_conv_bn_weights(
        layer.weight,
        layer.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )


@torch.no_grad()
def calibrate(model: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Set the range of every activation to the smallest and largest value on these clips.

    Args:
        model: from `quantise`; is left in evaluation mode.
        inputs: batches [B, C, F, T] of clips of the fold `fit`, on the model's device.

    Raises:
        ValueError: there is no batch.
    """
    ranges = _find_ranges(model)
    for each in ranges:
        each.reset()
        each.calibrating = True
    model.eval()
    for inputs_BCFT in inputs:
        model(inputs_BCFT)
    for each in ranges:
        each.calibrating = False
        each.check()


def move_ranges(model: nn.Module, moving: bool) -> None:
    """Let batches move the ranges of the activations or not; the other modules stay in their mode.

    Args:
        model: from `quantise`; the next call of its `train` or `eval` overrides this.
        moving: whether batches move the ranges.
    """
    for each in _find_ranges(model):
        each.train(moving)


def _find_ranges(model: nn.Module) -> list["ActivationRange"]:
    return [module for module in model.modules() if isinstance(module, ActivationRange)]


def remove_rounding(model: Model) -> Model:
    """Return a copy in evaluation mode that computes in float32, with norms and ReLUs still folded.

    The norms that are left become a scale and a shift.

    Args:
        model: from `quantise`, calibrated or not.
    """
    copied = copy.deepcopy(model).eval()
    for path, module in list(copied.named_modules()):
        if isinstance(module, QuantisedLayer):
            module.rounding = False
        elif isinstance(module, _NORMS):
            copied.set_submodule(path, _ScaleAndShift(module))
    return copied


class ActivationRange(nn.Module):
    """Rounds a tensor to 0...255 steps in the range of all values seen, which includes 0.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.1, with the running range of PyTorch's
    MovingAverageMinMaxObserver.
    """

    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(torch.nan))
        self.register_buffer("high", torch.tensor(torch.nan))
        self.calibrating = False

    def reset(self) -> None:
        """Forget all values."""
        self.low.fill_(torch.nan)
        self.high.fill_(torch.nan)

    def compute_grid(self) -> tuple[Tensor, Tensor]:
        """Return the step (float32) and the integer (int32) that stands for 0, both scalars."""
        low, high = self.low.clamp_max(0), self.high.clamp_min(0)
        scale = ((high - low) / LARGEST_ACTIVATION).clamp_min(_SMALLEST_SCALE)
        zero_point = (-(low / scale).round()).clamp(0, LARGEST_ACTIVATION)
        return scale, zero_point.to(torch.int32)

    def forward(self, values: Tensor) -> Tensor:
        """Return the tensor rounded to the grid; unchanged while calibrating."""
        if self.calibrating:
            self._widen(values)
            return values
        if self.training:
            self._follow(values.detach())
        else:
            self.check()
        return torch.fake_quantize_per_tensor_affine(
            values, *self.compute_grid(), 0, LARGEST_ACTIVATION
        )

    def check(self) -> None:
        """Refuse to round to an unknown range.

        Raises:
            ValueError: no value was seen yet.
        """
        if self.low.isnan():
            raise ValueError("no clip has set the range of its activations: calibrate the student")

    def _widen(self, values: Tensor) -> None:
        # fmin and fmax ignore the NaN of a range that has seen nothing.
        self.low.copy_(torch.fmin(self.low, values.min()))
        self.high.copy_(torch.fmax(self.high, values.max()))

    @torch.no_grad()
    def _follow(self, values: Tensor) -> None:
        for bound, now in ((self.low, values.min()), (self.high, values.max())):
            moved = bound + RANGE_MOMENTUM * (now - bound)
            bound.copy_(torch.where(bound.isnan(), now, moved))


class QuantisedLayer(nn.Module):
    """A convolution or linear layer that rounds its weights, inputs and outputs.

    Args:
        layer: the layer, which becomes a part of this one.
        rectified: whether a ReLU belongs to the layer.
        rounds: whether the outputs are rounded; not needed if only one such layer takes them.
    """

    def __init__(self, layer: _Layer, *, rectified: bool, rounds: bool) -> None:
        super().__init__()
        self.layer, self.rectified = layer, rectified
        self.input = ActivationRange()
        self.output = ActivationRange() if rounds else None
        self.rounding = True

    def forward(self, values: Tensor) -> Tensor:
        """Return the layer's outputs, simulated in float32."""
        if not self.rounding:
            result = self.layer(values)
            return result.relu() if self.rectified else result
        # The grids are finer than bfloat16.
        with torch.autocast(values.device.type, enabled=False):
            rounded = {"weight": _fake_quantise(self.layer.weight)}
            result = functional_call(self.layer, rounded, (self.input(values.float()),))
            result = result.relu() if self.rectified else result
            return result if self.output is None else self.output(result)


def compute_weight_scale(weight: Tensor) -> Tensor:
    """Return the step of each output channel, float32 [O]: its largest weight is 127.5 steps."""
    largest_O = weight.detach().flatten(1).abs().amax(dim=1)
    return (largest_O / ((LARGEST_WEIGHT - SMALLEST_WEIGHT) / 2)).clamp_min(_SMALLEST_SCALE)


def round_weight(weight: Tensor) -> Tensor:
    """Return a layer's weights as int8, in steps of each output channel."""
    scale_O = compute_weight_scale(weight)
    # Not the weights themselves are rounded: a channel's largest weight is between two integers, and
    # must become the one that it was in training.
    return (
        (_fake_quantise(weight) / scale_O.view(-1, *[1] * (weight.ndim - 1))).round().to(torch.int8)
    )


def _fake_quantise(weight: Tensor) -> Tensor:
    """Return a layer's weights on the grid of int8, in float32 and with gradients."""
    scale_O = compute_weight_scale(weight)
    no_shift_O = torch.zeros_like(scale_O, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(
        weight, scale_O, no_shift_O, 0, SMALLEST_WEIGHT, LARGEST_WEIGHT
    )


class _ScaleAndShift(nn.Module):
    """A batch normalisation in evaluation, with two numbers per channel instead of four."""

    def __init__(self, norm: _Norm) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.detach() * (norm.running_var + norm.eps).rsqrt()
        shape = (-1, 1, 1) if isinstance(norm, nn.BatchNorm2d) else (-1,)
        self.register_buffer("scale", scale.view(shape))
        self.register_buffer("shift", (norm.bias.detach() - norm.running_mean * scale).view(shape))

    def forward(self, values: Tensor) -> Tensor:
        return values * self.get_buffer("scale") + self.get_buffer("shift")


@dataclass(slots=True)
class _Plan:
    """The paths of modules that are folded into a layer, and whether its outputs are rounded."""

    rounds: bool
    norm: str | None = None
    relu: str | None = None


def _plan_layers(student: nn.Module, input_shape: Sequence[int]) -> dict[str, _Plan]:
    """Return a plan for each convolution and linear layer that a pass calls, by its path."""
    passed = torch.export.export(student, (torch.zeros(tuple(input_shape)),))
    calls = _Calls(passed.graph, dict(student.named_modules(remove_duplicate=False)))
    return {
        path: calls.plan(path) for path in calls.nodes if isinstance(calls.modules[path], _LAYERS)
    }


class _Calls:
    """The operations of one pass, by the path of their innermost module."""

    def __init__(self, graph: fx.Graph, modules: dict[str, nn.Module]) -> None:
        self.modules = modules
        self.nodes: dict[str, list[fx.Node]] = {}
        for node in graph.nodes:
            self.nodes.setdefault(_find_path(node), []).append(node)

    def plan(self, path: str) -> _Plan:
        """Plan what to fold into the layer at a path, by the modules that take its result."""
        plan = _Plan(rounds=isinstance(self.modules[path], _CONVOLUTIONS))
        if not self._is_called_once(path):
            # Its results go to different modules.
            return plan
        result = self.nodes[path][-1]
        if plan.rounds and (norm := self._find_only_taker(result, _NORMS)):
            plan.norm, result = norm, self.nodes[norm][0]
        if relu := self._find_only_taker(result, nn.ReLU):
            plan.relu, result = relu, self.nodes[relu][0]
        if self._find_only_taker(result, _LAYERS):
            plan.rounds = False
        return plan

    def _find_only_taker(self, result: fx.Node, kinds: _Kinds) -> str | None:
        """Return the path of the only module that takes a result, if it is of a kind and called once."""
        takers = {_find_path(user) for user in result.users}
        path = takers.pop() if len(takers) == 1 else ""
        wanted = isinstance(self.modules[path], kinds) and self._is_called_once(path)
        return path if wanted else None

    def _is_called_once(self, path: str) -> bool:
        # A layer may pad before its single product.
        return len([n for n in self.nodes[path] if n.target is not torch.ops.aten.pad.default]) == 1


def _find_path(node: fx.Node) -> str:
    """Return the path of a node's innermost module; "" for inputs and outputs."""
    around = list(node.meta.get("nn_module_stack", {}).values())
    return around[-1][0] if around else ""
