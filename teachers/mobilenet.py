"""MobileNet teachers, one input channel (B clips in a batch, K classes, D embedding, F mel, T frames)."""

import math
from collections import OrderedDict
from typing import Literal, NamedTuple, get_args

from torch import Tensor, nn

STEM_CHANNELS = 16
HEAD_CHANNELS = 1280
LAST_EXPANSION = 6

Head = Literal["mlp", "fully_convolutional"]
Strides = tuple[int, int, int, int]
"""The strides of the four blocks that halve both axes in the published networks, in their order."""
STRIDES: Strides = (2, 2, 2, 2)


class BlockShape(NamedTuple):
    """The channels and layers of one inverted residual block."""

    channels_in: int
    expanded: int
    channels_out: int
    kernel: int
    stride: int
    hardswish: bool
    squeeze: bool

    @property
    def has_residual(self) -> bool:
        """Whether the block's input is added to its output."""
        return self.stride == 1 and self.channels_in == self.channels_out

    @property
    def has_expansion(self) -> bool:
        """Whether a 1x1 convolution widens the input before the depthwise one."""
        return self.expanded != self.channels_in

    def make_activation(self) -> nn.Module:
        """Return a new activation layer for this block."""
        return nn.Hardswish() if self.hardswish else nn.ReLU()


# Howard et al. 2019, arXiv:1905.02244, table 1 (MobileNetV3-Large):
# kernel, stride, Hardswish instead of ReLU, squeeze-and-excitation, expanded, channels out.
_LARGE = (
    (3, 1, False, False, 16, 16),
    (3, 2, False, False, 64, 24),
    (3, 1, False, False, 72, 24),
    (5, 2, False, True, 72, 40),
    (5, 1, False, True, 120, 40),
    (5, 1, False, True, 120, 40),
    (3, 2, True, False, 240, 80),
    (3, 1, True, False, 200, 80),
    (3, 1, True, False, 184, 80),
    (3, 1, True, False, 184, 80),
    (3, 1, True, True, 480, 112),
    (3, 1, True, True, 672, 112),
    (5, 2, True, True, 672, 160),
    (5, 1, True, True, 960, 160),
    (5, 1, True, True, 960, 160),
)


class MobileNet(nn.Module):
    """MobileNetV3-Large for log-mels of any size: (B, 1, F, T) -> logits (B, K), embedding (B, D).

    The embedding is the average over frequency and time of the last convolution's output. The
    state_dict has the keys of the published checkpoints (Schmid et al. 2023, arXiv:2211.04772).
    The fully convolutional head classifies each place of the last map and averages the logits; a
    stride of 1 instead of 2 leaves that map larger.

    Raises:
        ValueError: If there is no class, the width is not above 0, a stride is not 1 or 2, or the head
            is not a published one.
    """

    def __init__(
        self,
        n_classes: int,
        width: float = 1.0,
        strides: Strides = STRIDES,
        head: Head = "mlp",
    ) -> None:
        super().__init__()
        check_size(n_classes, width)
        _check_head(head)
        shapes = make_block_shapes(width, strides)
        last_channels = LAST_EXPANSION * shapes[-1].channels_out
        self.features = nn.Sequential(
            make_conv_norm(1, shapes[0].channels_in, nn.Hardswish(), kernel=3, stride=2),
            *(InvertedResidual(shape) for shape in shapes),
            make_conv_norm(shapes[-1].channels_out, last_channels, nn.Hardswish()),
        )
        self.classifies_places = head == "fully_convolutional"
        self.classifier = (
            make_convolutional_head(last_channels, n_classes)
            if self.classifies_places
            else make_mlp_head(last_channels, n_classes, width)
        )
        init_parameters(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, K) and embedding (B, D) of log-mels (B, 1, F, T)."""
        map_BDFT = self.features(x)
        embedding_BD = map_BDFT.mean((2, 3))
        if self.classifies_places:
            return self.classifier(map_BDFT).mean((2, 3)), embedding_BD
        return self.classifier(embedding_BD), embedding_BD


class InvertedResidual(nn.Module):
    """Expands, filters each channel, weighs the channels, projects; adds the input where it fits."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        wide = shape.expanded
        steps: list[nn.Module] = []
        if shape.has_expansion:
            steps.append(make_conv_norm(shape.channels_in, wide, shape.make_activation()))
        steps.append(
            make_conv_norm(
                wide, wide, shape.make_activation(), shape.kernel, shape.stride, groups=wide
            )
        )
        if shape.squeeze:
            # The published keys number the gates of a block, and a block has just one.
            gates = nn.Sequential(SqueezeExcite(wide))
            steps.append(nn.Sequential(OrderedDict[str, nn.Module](conc_se_layers=gates)))
        steps.append(make_conv_norm(wide, shape.channels_out))
        self.block = nn.Sequential(*steps)
        self.has_residual = shape.has_residual

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels_in, F, T) to (B, channels_out, F', T'), halved where the stride is 2."""
        return x + self.block(x) if self.has_residual else self.block(x)


class SqueezeExcite(nn.Module):
    """Multiplies each channel by a number in 0...1 that depends on the means of all channels.

    The gate is a sigmoid, not MobileNetV3's hard sigmoid: the checkpoints were trained with it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = round_channels(channels // 4)
        self.fc1 = nn.Linear(channels, squeezed)
        self.fc2 = nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the channels of (B, channels, F, T)."""
        gate = self.fc2(self.fc1(x.mean((2, 3))).relu()).sigmoid()
        return x * gate[:, :, None, None]


def round_channels(channels: float) -> int:
    """Return the multiple of 8 near `channels`: at least 8, and never more than 10 % below."""
    rounded = max(8, 8 * math.floor((channels + 4) / 8))
    return rounded + 8 if rounded < 0.9 * channels else rounded


def make_block_shapes(width: float, strides: Strides = STRIDES) -> tuple[BlockShape, ...]:
    """Return the 15 blocks of MobileNetV3-Large with all channels scaled by `width`.

    Raises:
        ValueError: If `strides` are not four of 1 or 2.
    """
    if len(strides) != 4 or not set(strides) <= {1, 2}:
        raise ValueError(f"strides are {strides}, expected four of 1 or 2 (published: {STRIDES})")
    halving_strides = iter(strides)
    shapes = []
    channels_in = round_channels(STEM_CHANNELS * width)
    for kernel, usual_stride, hardswish, squeeze, expanded, channels_out in _LARGE:
        stride = next(halving_strides) if usual_stride == 2 else 1
        shape = BlockShape(
            channels_in=channels_in,
            expanded=round_channels(expanded * width),
            channels_out=round_channels(channels_out * width),
            kernel=kernel,
            stride=stride,
            hardswish=hardswish,
            squeeze=squeeze,
        )
        shapes.append(shape)
        channels_in = shape.channels_out
    return tuple(shapes)


def make_batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return a batch normalisation with the constants of the published checkpoints."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def make_conv_norm(
    channels_in: int,
    channels_out: int,
    activation: nn.Module | None = None,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """Return a convolution without bias, a batch normalisation and, if given, the activation."""
    padding = (kernel - 1) // 2
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, groups=groups, bias=False)
    norm = make_batch_norm(channels_out)
    return (
        nn.Sequential(conv, norm) if activation is None else nn.Sequential(conv, norm, activation)
    )


def make_mlp_head(channels: int, n_classes: int, width: float) -> nn.Sequential:
    """Return a head from an embedding (B, channels) to logits (B, n_classes), with a hidden layer.

    The layers are named 2 to 5 as in the published keys, where 0 and 1 pool and flatten.
    """
    hidden = round_channels(HEAD_CHANNELS * width)
    layers: dict[str, nn.Module] = {
        "2": nn.Linear(channels, hidden),
        "3": nn.Hardswish(),
        "4": nn.Dropout(0.2),
        "5": nn.Linear(hidden, n_classes),
    }
    return nn.Sequential(OrderedDict(layers))


def make_convolutional_head(channels: int, n_classes: int) -> nn.Sequential:
    """Return a head from a map (B, channels, F, T) to logits (B, n_classes, F, T) of its places."""
    # Unlike everywhere else in the network, upstream left this normalisation at torch's constants.
    conv = nn.Conv2d(channels, n_classes, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(n_classes))


def init_parameters(model: nn.Module) -> None:
    """Initialise `model` in place: convolutions by Kaiming, linear layers with small numbers."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)


def check_size(n_classes: int, width: float) -> None:
    """Check the arguments that all MobileNets share.

    Raises:
        ValueError: If there is no class, or the width is not above 0.
    """
    if n_classes < 1:
        raise ValueError(f"n_classes is {n_classes}, expected at least 1")
    if not width > 0:
        raise ValueError(f"width is {width}, expected a factor above 0 (published: 0.1 to 4.0)")


def _check_head(head: str) -> None:
    if head not in get_args(Head):
        raise ValueError(f"head is {head!r}, expected one of {', '.join(get_args(Head))}")
