"""A student in 8-bit integers, simulated in float32; `students.onnx_int8` makes them real.

Dimensions: B clips in a batch, O output channels of a layer.

Convolutions and linear layers, which are all of a student's multiply-accumulates and nearly all of
its parameters, become integers; what stands between them stays in float32. Weights: per output
channel, symmetric. Activations: per tensor, affine, 0...255. Both grids are those of
PyTorch's own quantisation-aware training.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn.utils.fusion import fuse_conv_bn_weights

Model = TypeVar("Model", bound=nn.Module)

LARGEST_ACTIVATION = 255
LARGEST_WEIGHT, SMALLEST_WEIGHT = 127, -128
RANGE_MOMENTUM = 0.01
"""How far a batch moves the range of an activation while the student learns."""
CALIBRATION_CLIPS = 512
"""Set the ranges of the activations, if there are so many."""
_Layer = nn.Conv1d | nn.Conv2d | nn.Linear
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_LAYERS = (*_CONVOLUTIONS, nn.Linear)
_Norm = nn.BatchNorm1d | nn.BatchNorm2d
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_Kinds = type[nn.Module] | tuple[type[nn.Module], ...]
_SMALLEST_SCALE = torch.finfo(torch.float32).eps


def quantised(student: Model, input_shape: Sequence[int]) -> Model:
    """A copy whose layers compute as integers would, with gradients: any loop can train it.

    A batch normalisation that alone follows a convolution is folded into it, and so is a ReLU that
    alone follows either: both are gone from the copy. All other norms stay: after an activation, a
    norm could only be folded into the convolution behind it, and where that one pads, or a
    shortcut takes the norm's result too, the sum would be another one.

    In training mode every batch moves the ranges of the activations; they are to be set by
    `calibrate` first. In evaluation mode they stand still.

    Args:
        student: trained; stays as it is.
        input_shape: of one clip, (1, C, F, T).
    """
    plans = _plans(copy.deepcopy(student).cpu().eval(), input_shape)
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


def _fold(layer: _Layer, norm: _Norm) -> None:
    """Take a norm, as it is in evaluation, into the convolution before it."""
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
    """Set the range of every activation to all that it is on these clips.

    Args:
        model: from `quantised`; is left in evaluation mode.
        inputs: batches [B, C, F, T] of clips of the fold `fit`, on the model's device.

    Raises:
        ValueError: no batch at all.
    """
    ranges = _ranges(model)
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
    """Let batches move the ranges of the activations or not, while the rest stays in its mode.

    Args:
        model: from `quantised`; the next call of its `train` or `eval` decides anew.
        moving: whether they do.
    """
    for each in _ranges(model):
        each.train(moving)


def _ranges(model: nn.Module) -> list["ActivationRange"]:
    return [module for module in model.modules() if isinstance(module, ActivationRange)]


def unrounded(model: Model) -> Model:
    """A copy in evaluation whose layers compute in float32, with norms and ReLUs still taken in.

    What is left of the norms is a scale and a shift.

    Args:
        model: from `quantised`, calibrated or not.
    """
    copied = copy.deepcopy(model).eval()
    for path, module in list(copied.named_modules()):
        if isinstance(module, QuantisedLayer):
            module.rounding = False
        elif isinstance(module, _NORMS):
            copied.set_submodule(path, _ScaleAndShift(module))
    return copied


class ActivationRange(nn.Module):
    """Rounds a tensor to 0...255 steps between the smallest and the largest value seen, and 0.

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
        """Forget what was seen."""
        self.low.fill_(torch.nan)
        self.high.fill_(torch.nan)

    def grid(self) -> tuple[Tensor, Tensor]:
        """The step (float32) and the integer (int32) that stands for 0, both scalars."""
        low, high = self.low.clamp_max(0), self.high.clamp_min(0)
        scale = ((high - low) / LARGEST_ACTIVATION).clamp_min(_SMALLEST_SCALE)
        zero_point = (-(low / scale).round()).clamp(0, LARGEST_ACTIVATION)
        return scale, zero_point.to(torch.int32)

    def forward(self, values: Tensor) -> Tensor:
        """The tensor rounded to the grid; as it came while calibrating."""
        if self.calibrating:
            self._widen(values)
            return values
        if self.training:
            self._follow(values.detach())
        else:
            self.check()
        return torch.fake_quantize_per_tensor_affine(values, *self.grid(), 0, LARGEST_ACTIVATION)

    def check(self) -> None:
        """Refuse to round to a range that is not known.

        Raises:
            ValueError: nothing was seen yet.
        """
        if self.low.isnan():
            raise ValueError("no clip has set the range of its activations: calibrate the student")

    def _widen(self, values: Tensor) -> None:
        # fmin and fmax pass over the NaN of a range that has seen nothing.
        self.low.copy_(torch.fmin(self.low, values.min()))
        self.high.copy_(torch.fmax(self.high, values.max()))

    @torch.no_grad()
    def _follow(self, values: Tensor) -> None:
        for bound, now in ((self.low, values.min()), (self.high, values.max())):
            moved = bound + RANGE_MOMENTUM * (now - bound)
            bound.copy_(torch.where(bound.isnan(), now, moved))


class QuantisedLayer(nn.Module):
    """A convolution or linear layer that rounds its weights, what it takes and what it gives.

    Args:
        layer: becomes a part of this one.
        rectified: whether a ReLU belongs to the layer.
        rounds: whether what it gives is rounded; not needed where one such layer alone takes it.
    """

    def __init__(self, layer: _Layer, *, rectified: bool, rounds: bool) -> None:
        super().__init__()
        self.layer, self.rectified = layer, rectified
        self.input = ActivationRange()
        self.output = ActivationRange() if rounds else None
        self.rounding = True

    def forward(self, values: Tensor) -> Tensor:
        """What the layer gives, simulated in float32."""
        if not self.rounding:
            result = self.layer(values)
            return result.relu() if self.rectified else result
        # The grids are finer than what bfloat16 can tell apart.
        with torch.autocast(values.device.type, enabled=False):
            rounded = {"weight": _rounded(self.layer.weight)}
            result = functional_call(self.layer, rounded, (self.input(values.float()),))
            result = result.relu() if self.rectified else result
            return result if self.output is None else self.output(result)


def weight_scale(weight: Tensor) -> Tensor:
    """The step of each output channel's integers, float32 [O]: its largest weight is 127.5 of them."""
    largest_O = weight.detach().flatten(1).abs().amax(dim=1)
    return (largest_O / ((LARGEST_WEIGHT - SMALLEST_WEIGHT) / 2)).clamp_min(_SMALLEST_SCALE)


def weight_integers(weight: Tensor) -> Tensor:
    """A layer's weights as int8: so many steps of each output channel."""
    scale_O = weight_scale(weight)
    # Not of the weights themselves: a channel's largest lies between two integers, and must become
    # the one that it was while it learnt.
    return (_rounded(weight) / scale_O.view(-1, *[1] * (weight.ndim - 1))).round().to(torch.int8)


def _rounded(weight: Tensor) -> Tensor:
    """A layer's weights on the grid of int8, in float32 and with gradients."""
    scale_O = weight_scale(weight)
    no_shift_O = torch.zeros_like(scale_O, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(
        weight, scale_O, no_shift_O, 0, SMALLEST_WEIGHT, LARGEST_WEIGHT
    )


class _ScaleAndShift(nn.Module):
    """A batch normalisation in evaluation: two numbers a channel instead of four."""

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
    """What becomes part of a layer, by its path, and whether what comes out is to be rounded."""

    rounds: bool
    norm: str | None = None
    relu: str | None = None


def _plans(student: nn.Module, input_shape: Sequence[int]) -> dict[str, _Plan]:
    """A plan for each convolution and linear layer that a pass calls, by its path."""
    passed = torch.export.export(student, (torch.zeros(tuple(input_shape)),))
    calls = _Calls(passed.graph, dict(student.named_modules(remove_duplicate=False)))
    return {
        path: calls.plan(path) for path in calls.nodes if isinstance(calls.modules[path], _LAYERS)
    }


class _Calls:
    """The operations of one pass, by the path of the innermost module that they belong to."""

    def __init__(self, graph: fx.Graph, modules: dict[str, nn.Module]) -> None:
        self.modules = modules
        self.nodes: dict[str, list[fx.Node]] = {}
        for node in graph.nodes:
            self.nodes.setdefault(_path(node), []).append(node)

    def plan(self, path: str) -> _Plan:
        """What to do with the layer at a path, by who takes its result."""
        plan = _Plan(rounds=isinstance(self.modules[path], _CONVOLUTIONS))
        if not self._is_called_once(path):
            # It has no follower of its own.
            return plan
        result = self.nodes[path][-1]
        if plan.rounds and (norm := self._only_taker(result, _NORMS)):
            plan.norm, result = norm, self.nodes[norm][0]
        if relu := self._only_taker(result, nn.ReLU):
            plan.relu, result = relu, self.nodes[relu][0]
        if self._only_taker(result, _LAYERS):
            plan.rounds = False
        return plan

    def _only_taker(self, result: fx.Node, kinds: _Kinds) -> str | None:
        """The path of the module that alone takes a result, if it is of a kind and called once."""
        takers = {_path(user) for user in result.users}
        path = takers.pop() if len(takers) == 1 else ""
        wanted = isinstance(self.modules[path], kinds) and self._is_called_once(path)
        return path if wanted else None

    def _is_called_once(self, path: str) -> bool:
        # A layer may pad by itself before its one product.
        return len([n for n in self.nodes[path] if n.target is not torch.ops.aten.pad.default]) == 1


def _path(node: fx.Node) -> str:
    """The path of the innermost module that a node belongs to; that of inputs and outputs is ""."""
    around = list(node.meta.get("nn_module_stack", {}).values())
    return around[-1][0] if around else ""
