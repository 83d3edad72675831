"""CP-Mobile, of 2023 and simplified (B clips, D features, K classes, F mel bands, T frames)."""

import itertools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from students.convolution import make_convolution, make_rectified
from students.student import Student, check_sizes

Stride = tuple[int, int]
"""Stride of a block: (mel bands, frames)."""

BLOCKS_PER_STAGE = (3, 2, 1)
NARROWEST = 8
"""All widths are multiples of this."""


class CPMobile(Student):
    """Inverted bottlenecks with depthwise convolutions, in three stages of growing width.

    Sources: Schmid et al. 2023, CP-JKU's DCASE 2023 technical report (cpjku_dcase23), the defaults
    here; and the DCASE 2024 task 1 baseline, also known as BCBL, which is the same without response
    norm, narrower, and with other strides (see `students.catalogue`).

    Args:
        n_classes: number of logits.
        base_channels: width of the first stage, rounded to a multiple of 8 like all widths.
        channels_multiplier: ratio of the widths of a stage and the one before.
        expansion_rate: ratio of a block's inner width and its inputs.
        strides: strides of the six blocks.
        response_norm: whether blocks end in global response normalisation.

    Raises:
        ValueError: a size that is not above 0, or strides that are not six pairs of at least 1.
    """

    def __init__(
        self,
        n_classes: int,
        base_channels: int = 32,
        channels_multiplier: float = 2.3,
        expansion_rate: float = 3.0,
        strides: Sequence[Sequence[int]] = ((1, 1), (2, 2), (1, 1), (2, 1), (1, 1), (1, 1)),
        *,
        response_norm: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(n_classes=n_classes, base_channels=base_channels)
        _check_rates(channels_multiplier=channels_multiplier, expansion_rate=expansion_rate)
        base = round_width(base_channels)
        n_stages = len(BLOCKS_PER_STAGE)
        widths = [base, *(round_width(base * channels_multiplier**i) for i in range(n_stages))]
        self.in_c = nn.Sequential(
            make_rectified(1, base // 4, (3, 3), stride=(2, 2)),
            make_rectified(base // 4, base, (3, 3), stride=(2, 2)),
        )
        self.stages = nn.Sequential()
        numbered = enumerate(_parse_strides(strides), start=1)
        for stage, n_blocks in enumerate(BLOCKS_PER_STAGE):
            blocks = nn.Sequential()
            width = widths[stage]
            for number, stride in itertools.islice(numbered, n_blocks):
                block = _Block(width, widths[stage + 1], expansion_rate, stride, response_norm)
                blocks.add_module(f"b{number}", block)
                width = widths[stage + 1]
            self.stages.add_module(f"s{stage + 1}", blocks)
        self.n_features = widths[-1]
        self.feed_forward = nn.Sequential(
            nn.Conv2d(self.n_features, n_classes, 1, bias=False),
            nn.BatchNorm2d(n_classes),
            nn.AdaptiveAvgPool2d(1),
        )
        _initialise(self)

    def features(self, inputs_BCFT: Tensor) -> Tensor:
        """Return the pooled output of the last block, (B, D)."""
        return self._pool(self._compute_maps(inputs_BCFT))

    def classifier(self, features_BD: Tensor) -> Tensor:
        """Return logits (B, K) of pooled features, computed as in evaluation, also in training.

        The published head classifies every position and then pools. In evaluation both are equal,
        because a 1x1 convolution and its norm commute with a mean. In training the norm needs the
        positions, as in `forward` and `features_and_logits`: this method only reads the statistics
        that they collect.
        """
        convolution, norm = self.feed_forward[0], cast(nn.BatchNorm2d, self.feed_forward[1])
        logits_BK = convolution(features_BD[:, :, None, None]).flatten(1)
        return functional.batch_norm(
            logits_BK, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )

    def features_and_logits(self, inputs_BCFT: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [B, D] and logits [B, K] of one pass, with the published head."""
        maps = self._compute_maps(inputs_BCFT)
        return self._pool(maps), self.feed_forward(maps).flatten(1)

    def forward(self, inputs_BCFT: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return self.feed_forward(self._compute_maps(inputs_BCFT)).flatten(1)

    def _compute_maps(self, inputs_BCFT: Tensor) -> Tensor:
        return self.stages(self.in_c(inputs_BCFT))

    def _pool(self, maps_BDFT: Tensor) -> Tensor:
        return maps_BDFT.mean(dim=(2, 3))


class GlobalResponseNorm(nn.Module):
    """Raises channels that respond more strongly than the others, and lowers the weaker ones.

    Source: Woo et al. 2023, arXiv:2301.00808, with one scale and one offset for all channels, as in
    cpjku_dcase23. With both at 0, where they start, nothing changes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.beta = nn.Parameter(torch.zeros(1))

    def forward(self, maps_BDFT: Tensor) -> Tensor:
        """Return maps of the same shape."""
        response_BD11 = torch.linalg.vector_norm(maps_BDFT, dim=(2, 3), keepdim=True)
        relative_BD11 = response_BD11 / (response_BD11.mean(dim=1, keepdim=True) + 1e-6)
        return self.gamma * (maps_BDFT * relative_BD11) + self.beta + maps_BDFT


class _Block(nn.Module):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expansion_rate: float,
        stride: Stride,
        response_norm: bool,
    ) -> None:
        super().__init__()
        inside = round_width(in_channels * expansion_rate)
        self.shortcut = _make_shortcut(stride) if in_channels == out_channels else None
        self.after_block_norm = GlobalResponseNorm() if response_norm else nn.Identity()
        self.after_block_activation = nn.ReLU()
        self.block = nn.Sequential(
            make_rectified(in_channels, inside, (1, 1)),
            make_rectified(inside, inside, (3, 3), stride=stride, groups=inside),
            make_convolution(inside, out_channels, (1, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return self.after_block_activation(self.after_block_norm(y))


def round_width(width: float) -> int:
    """Round to the nearest multiple of 8, or to the next one if that is more than a tenth below.

    Source: the rule of the MobileNets, as in cpjku_dcase23 and the DCASE 2024 baseline.
    """
    nearest = max(NARROWEST, int(width + NARROWEST / 2) // NARROWEST * NARROWEST)
    return nearest if nearest >= 0.9 * width else nearest + NARROWEST


def _make_shortcut(stride: Stride) -> nn.Module:
    return nn.Identity() if stride == (1, 1) else nn.AvgPool2d(3, stride, padding=1)


def _initialise(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")


def _check_rates(**rates: float) -> None:
    for name, rate in rates.items():
        if not rate > 0:
            raise ValueError(f"{name}={rate!r}, expected a number above 0")


def _parse_strides(strides: Sequence[Sequence[int]]) -> list[Stride]:
    """Return the stride of each block; lists, as from JSON, are accepted."""
    n_blocks = sum(BLOCKS_PER_STAGE)
    if len(strides) != n_blocks or any(len(each) != 2 or min(each) < 1 for each in strides):
        raise ValueError(
            f"strides={strides!r}, expected {n_blocks} pairs (mel bands, frames), each at least 1"
        )
    return [(bands, frames) for bands, frames in strides]
