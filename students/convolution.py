"""Convolutions as all students have them: without a bias, with a norm behind, and inputs that keep their size."""

from torch import nn

Side = tuple[int, int]
"""Size of a kernel, or of its steps: (mel bands, frames)."""


def make_convolution(
    in_channels: int,
    out_channels: int,
    kernel: Side,
    *,
    stride: Side = (1, 1),
    groups: int = 1,
) -> nn.Sequential:
    """Return a convolution and a norm.

    Args:
        in_channels: channels of the inputs.
        out_channels: channels of the result.
        kernel: odd numbers.
        stride: its steps.
        groups: as many as channels for a depthwise convolution.
    """
    return nn.Sequential(
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=find_padding(kernel),
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(out_channels),
    )


def make_rectified(
    in_channels: int,
    out_channels: int,
    kernel: Side,
    *,
    stride: Side = (1, 1),
    groups: int = 1,
) -> nn.Sequential:
    """Return a convolution, a norm and a ReLU; see `make_convolution`."""
    linear = make_convolution(in_channels, out_channels, kernel, stride=stride, groups=groups)
    return nn.Sequential(*linear, nn.ReLU())


def find_padding(kernel: Side) -> Side:
    """Return the zeros on each side with which a kernel of odd size keeps the size of its inputs."""
    return kernel[0] // 2, kernel[1] // 2
