"""Dynamic MobileNet teachers: each clip has its own kernels and activations.

B clips in a batch, K classes, D embedding, H context channels, C channels, F mel bands, T frames.
"""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from teachers.mobilenet import (
    LAST_EXPANSION,
    BlockShape,
    InvertedResidual,
    check_size,
    init_parameters,
    make_batch_norm,
    make_block_shapes,
    make_conv_norm,
    make_mlp_head,
    round_channels,
)

N_KERNELS = 4

DynamicBlocks = Literal["all", "replace_se"]
"""Which blocks depend on their input: all, or only those that weigh their channels in a MobileNet."""


class DyMN(nn.Module):
    """Dynamic MobileNet for log-mels of any size: (B, 1, F, T) -> logits (B, K), embedding (B, D).

    The state_dict has the keys of the published checkpoints (Schmid et al. 2024,
    arXiv:2310.15648). It does not hold `temperature`, which softens the choice among a dynamic
    convolution's kernels: the AudioSet checkpoints end their training at 1.0 and are fine-tuned
    there, so only 1.0 gives their logits.

    Raises:
        ValueError: If there is no class, width or temperature is not above 0, or the choice of
            dynamic blocks is none of the published ones.
    """

    def __init__(
        self,
        n_classes: int,
        width: float = 1.0,
        temperature: float = 1.0,
        dynamic_blocks: DynamicBlocks = "all",
    ) -> None:
        super().__init__()
        check_size(n_classes, width)
        if dynamic_blocks not in get_args(DynamicBlocks):
            choices = ", ".join(get_args(DynamicBlocks))
            raise ValueError(f"dynamic_blocks is {dynamic_blocks!r}, expected one of {choices}")
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}, expected above 0 (fine-tuning: 1.0)")
        shapes = make_block_shapes(width)
        last_channels = LAST_EXPANSION * shapes[-1].channels_out
        # In the published keys, these layers come before the first convolution.
        self.layers = nn.Sequential(
            *(
                DynamicBlock(shape, count_context_channels(shape.expanded, width), temperature)
                if dynamic_blocks == "all" or shape.squeeze
                else InvertedResidual(shape)
                for shape in shapes
            )
        )
        self.in_c = make_conv_norm(1, shapes[0].channels_in, nn.Hardswish(), kernel=3, stride=2)
        self.out_c = make_conv_norm(shapes[-1].channels_out, last_channels, nn.Hardswish())
        self.classifier = make_mlp_head(last_channels, n_classes, width)
        init_parameters(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, K) and embedding (B, D) of log-mels (B, 1, F, T)."""
        embedding_BD = self.out_c(self.layers(self.in_c(x))).mean((2, 3))
        return self.classifier(embedding_BD), embedding_BD


class Context(NamedTuple):
    """What a block derives from its input in order to process it."""

    summary_BH: Tensor
    """The input in H numbers, which give the kernels and the activation."""
    frequency_BCF1: Tensor
    """Coordinate attention before its sigmoid, one value a channel and band of the output."""
    time_BC1T: Tensor
    """The same, one value a channel and frame of the output."""


class DynamicBlock(nn.Module):
    """An inverted residual block whose convolutions and activation depend on its input."""

    def __init__(self, shape: BlockShape, n_context: int, temperature: float) -> None:
        super().__init__()
        narrow, wide = shape.channels_in, shape.expanded
        if shape.has_expansion:
            self.exp_conv = DynamicConv(narrow, wide, n_context, temperature)
            self.exp_norm = make_batch_norm(wide)
            self.exp_act = shape.make_activation()
        self.depth_conv = DynamicConv(
            wide, wide, n_context, temperature, shape.kernel, shape.stride, groups=wide
        )
        self.depth_norm = make_batch_norm(wide)
        self.depth_act = DynamicReLU(wide, n_context)
        self.proj_conv = DynamicConv(wide, shape.channels_out, n_context, temperature)
        self.proj_norm = make_batch_norm(shape.channels_out)
        self.context_gen = ContextGenerator(narrow, n_context, wide, shape.stride)
        self.has_expansion = shape.has_expansion
        self.has_residual = shape.has_residual

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels_in, F, T) to (B, channels_out, F', T'), halved where the stride is 2."""
        context = self.context_gen(x)
        summary_BH = context.summary_BH
        wide = x
        if self.has_expansion:
            wide = self.exp_act(self.exp_norm(self.exp_conv(x, summary_BH)))
        wide = self.depth_act(self.depth_norm(self.depth_conv(wide, summary_BH)), summary_BH)
        wide = wide * context.frequency_BCF1.sigmoid() * context.time_BC1T.sigmoid()
        out = self.proj_norm(self.proj_conv(wide, summary_BH))
        return x + out if self.has_residual else out


class ContextGenerator(nn.Module):
    """The context of a block, from its input's means over time and over frequency.

    Source: coordinate attention (Hou et al. 2021, arXiv:2103.02907); here its shared first layer
    also feeds the dynamic convolutions and activations.
    """

    def __init__(self, channels: int, n_context: int, expanded: int, stride: int) -> None:
        super().__init__()
        self.joint_conv = nn.Conv2d(channels, n_context, 1, bias=False)
        self.joint_norm = make_batch_norm(n_context)
        self.conv_f = nn.Conv2d(n_context, expanded, 1)
        self.conv_t = nn.Conv2d(n_context, expanded, 1)
        self.stride = stride

    def forward(self, x: Tensor) -> Context:
        """Return the context of (B, channels_in, F, T), in the size of the block's output."""
        n_bands, n_frames = x.shape[2:]
        # One sequence of F + T steps: both axes share a layer and its normalisation.
        sequence = torch.cat((x.mean(3), x.mean(2)), dim=2).unsqueeze(3)
        sequence = functional.hardswish(self.joint_norm(self.joint_conv(sequence)))
        frequency, time = sequence.split((n_bands, n_frames), dim=2)
        time = time.transpose(2, 3)
        if self.stride == 2:
            # Zeros beyond the edge count in the mean, as in the published training.
            frequency = functional.avg_pool2d(frequency, (3, 1), (2, 1), (1, 0))
            time = functional.avg_pool2d(time, (1, 3), (1, 2), (0, 1))
        return Context(sequence.mean((2, 3)), self.conv_f(frequency), self.conv_t(time))


class DynamicConv(nn.Module):
    """A convolution without bias that mixes its kernel from four kernels for each clip.

    Source: dynamic convolution (Chen et al. 2020, arXiv:1912.03458).
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        n_context: int,
        temperature: float,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.kernel_shape = (channels_out, channels_in // groups, kernel, kernel)
        self.stride, self.groups, self.temperature = stride, groups, temperature
        self.is_pointwise = (kernel, stride, groups) == (1, 1, 1)
        self.weight = nn.Parameter(_init_kernels(self.kernel_shape))
        self.residuals = nn.Sequential(nn.Linear(n_context, N_KERNELS))

    def forward(self, x: Tensor, summary_BH: Tensor) -> Tensor:
        """Map (B, channels_in, F, T) and the context (B, H) to (B, channels_out, F', T')."""
        shares = (self.residuals(summary_BH) / self.temperature).softmax(1)
        kernels = shares @ self.weight.view(N_KERNELS, -1)
        if self.is_pointwise:
            return _mix_channels(x, kernels.view(len(x), *self.kernel_shape[:2]))
        return self._filter(x, kernels)

    def _filter(self, x: Tensor, kernels: Tensor) -> Tensor:
        n_clips, _, n_bands, n_frames = x.shape
        channels_out, group_in, kernel, _ = self.kernel_shape
        # All clips side by side as channels: one grouped convolution gives each its own kernel.
        y = functional.conv2d(
            x.reshape(1, -1, n_bands, n_frames),
            kernels.view(n_clips * channels_out, group_in, kernel, kernel),
            stride=self.stride,
            padding=(kernel - 1) // 2,
            groups=n_clips * self.groups,
        )
        return y.view(n_clips, channels_out, *y.shape[2:])


def _mix_channels(x: Tensor, matrices: Tensor) -> Tensor:
    """Apply a 1x1 convolution per clip; a training step takes 7 % less time than if it were grouped."""
    n_clips, channels_out, _ = matrices.shape
    return torch.bmm(matrices, x.flatten(2)).view(n_clips, channels_out, *x.shape[2:])


class DynamicReLU(nn.Module):
    """The maximum of two lines, whose slopes and offsets differ by clip and channel.

    Source: dynamic ReLU, version B (Chen et al. 2020, arXiv:2003.10082). The constants are buffers
    because the published checkpoints hold them.
    """

    lambdas: Tensor
    init_v: Tensor

    def __init__(self, channels: int, n_context: int) -> None:
        super().__init__()
        self.register_buffer("lambdas", torch.tensor([1.0, 1.0, 0.5, 0.5]))
        self.register_buffer("init_v", torch.tensor([1.0, 0.0, 0.0, 0.0]))
        self.coef_net = nn.Sequential(nn.Linear(n_context, 4 * channels))

    def forward(self, x: Tensor, summary_BH: Tensor) -> Tensor:
        """Map (B, C, F, T) and the context (B, H) to (B, C, F, T)."""
        theta = 2 * self.coef_net(summary_BH).sigmoid() - 1
        coefficients = theta.view(*x.shape[:2], 1, 1, 4) * self.lambdas + self.init_v
        slope_1, slope_2, offset_1, offset_2 = coefficients.unbind(-1)
        line_1, line_2 = x * slope_1 + offset_1, x * slope_2 + offset_2
        # torch.maximum would keep both lines for the backward pass, an eighth of all memory.
        return torch.where(line_1 > line_2, line_1, line_2)


def count_context_channels(expanded: int, width: float) -> int:
    """Return H of a block: a quarter of its expanded channels, in limits that grow with the width."""
    quarter = round_channels(expanded // 4)
    return min(max(quarter, round_channels(32 * width)), round_channels(128 * width))


def _init_kernels(kernel_shape: tuple[int, int, int, int]) -> Tensor:
    """Return four kernels as one parameter (1, 1, 4, elements), each initialised like a static one."""
    kernels = torch.empty(N_KERNELS, *kernel_shape)
    for kernel in kernels:
        nn.init.kaiming_normal_(kernel, mode="fan_out")
    return kernels.view(1, 1, N_KERNELS, -1)
