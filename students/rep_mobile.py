"""CP-Mobile's frame with branches that are folded for use: Rep-Mobile."""

from collections.abc import Sequence

from torch import nn

from students.branches import Branches
from students.cp_mobile import CPMobile

KERNELS = ((3, 3), (3, 1), (1, 3), (1, 1))
"""Kernels of the branches: (mel bands, frames)."""


class RepMobile(CPMobile):
    """Inverted bottlenecks whose depthwise convolutions have branches of several kernels.

    Source: Han et al. 2024, arXiv:2410.20775: an efficient network of inverted bottlenecks with
    several branches of convolutions, re-parameterised for use. OURS, as neither code nor a list of
    layers was at hand: the frame of CP-Mobile without response norm, the kernels of the branches, and
    all widths.

    Args:
        n_classes: number of logits.
        base_channels: as for `CPMobile`, and so are all that follow.
        channels_multiplier: ratio of the widths of a stage and the one before.
        expansion_rate: ratio of a block's inner width and its inputs.
        strides: strides of the six blocks.

    Raises:
        ValueError: as for `CPMobile`.
    """

    def __init__(
        self,
        n_classes: int,
        base_channels: int = 32,
        channels_multiplier: float = 1.8,
        expansion_rate: float = 2.1,
        strides: Sequence[Sequence[int]] = ((1, 1), (2, 2), (1, 1), (2, 1), (1, 1), (1, 1)),
    ) -> None:
        super().__init__(
            n_classes,
            base_channels,
            channels_multiplier,
            expansion_rate,
            strides,
            response_norm=False,
        )
        for path, module in list(self.named_modules()):
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                layer, _, _ = path.rpartition(".")
                self.set_submodule(layer, nn.Sequential(_branch_out(module), nn.ReLU()))


def _branch_out(depthwise: nn.Conv2d) -> Branches:
    width, (bands, frames) = depthwise.in_channels, depthwise.stride
    return Branches(width, width, KERNELS, stride=(bands, frames), groups=width)
