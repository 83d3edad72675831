"""Deep space separable distillation networks, with a head for scenes and one for groups of scenes.

B clips, C channels, F mel bands, T frames, D features, K classes, G groups.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from students.groups import GROUPS
from students.student import Student, check_sizes

BlockKind = Literal["split", "plain"]

_N_BLOCKS = 5
FIRST_CHANNELS = 16
HIDDEN = 100
DROPOUT = 0.3


class DSMN(Student):
    """Five blocks of separable dilated convolutions whose last four outputs are pooled and joined.

    Source: DSMN_dcase2023. The input is a log-mel and its delta. Models 1 to 4 differ in the
    kinds and widths of their blocks (see `students.catalogue`). The published networks have a sixth
    block that no pass calls. The published model 4 cannot be built: here its joint width follows from
    the channels.

    Args:
        n_classes: number K of scene logits; the second head has G = 3 logits of groups.
        blocks: the kind of each block: `split` halves the mel axis and has more layers for the low
            half only, `plain` treats all of it alike.
        channels: output channels of each block, even numbers.
        sixth_block: also have the block that is never called, so that published weights load and
            the number of parameters is the published one.

    Raises:
        ValueError: not five kinds or five even numbers, or an unknown kind.
    """

    n_channels = 2
    n_features = HIDDEN

    def __init__(
        self,
        n_classes: int,
        blocks: Sequence[BlockKind] = ("split",) * _N_BLOCKS,
        channels: Sequence[int] = (24, 32, 64, 64, 64),
        *,
        sixth_block: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(n_classes=n_classes)
        _check_blocks(blocks, channels)
        self.blocks, self.n_classes = tuple(blocks), n_classes
        self.conv = nn.Conv2d(self.n_channels, FIRST_CHANNELS, 1)
        width = FIRST_CHANNELS
        for name, kind, out_channels in zip(_NAMES, blocks, channels, strict=True):
            self.add_module(name, _Block(kind, width, out_channels))
            width = out_channels
        if sixth_block:
            self.conv6 = _Block(blocks[-1], width, width)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(DROPOUT)
        self.l1 = nn.Linear(sum(channels[1:]), HIDDEN)
        self.l2 = nn.Linear(HIDDEN, n_classes + len(GROUPS))

    def features(self, inputs_BCFT: Tensor) -> Tensor:
        """Return the input of both heads, (B, D)."""
        x = self.conv(inputs_BCFT.transpose(2, 3))
        pooled = []
        for name in _NAMES:
            x = self.get_submodule(name)(x)
            pooled.append(x.mean(dim=(2, 3)))
        return self.relu(self.l1(torch.cat(pooled[1:], dim=1)))

    def heads(self, features_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of the scenes [B, K] and of their groups [B, G]."""
        scenes_BK, groups_BG = self.l2(self.dropout(features_BD)).split(
            [self.n_classes, len(GROUPS)], dim=1
        )
        return scenes_BK, groups_BG

    def classifier(self, features_BD: Tensor) -> Tensor:
        """Return logits of the scenes, (B, K)."""
        return self.heads(features_BD)[0]

    def check_size(self, n_bands: int, n_frames: int) -> None:
        """Refuse inputs that are too small: blocks halve both axes, split ones need an even number of bands.

        Raises:
            ValueError: too few bands or frames are left for a block.
        """
        bands, frames = n_bands, n_frames
        for number, kind in enumerate(self.blocks, start=1):
            if min(bands, frames) < 2 or (kind == "split" and bands % 2):
                raise ValueError(
                    f"inputs of {n_bands} bands and {n_frames} frames leave {bands} x {frames} to "
                    f"{kind} block {number}, expected at least 2 x 2, and for a split one an even "
                    "number of bands: give the front-end a multiple of 32 bands and at least 32 "
                    "frames"
                )
            bands, frames = bands // 2, frames // 2


_NAMES = tuple(f"conv{number}" for number in range(1, _N_BLOCKS + 1))


class _Separable(nn.Module):
    """Scales or merges channel pairs, then adds a convolution along time and one along mel."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.ch_conv1 = nn.Conv2d(in_channels, out_channels, 1, groups=out_channels, bias=False)
        self.sp_conv1 = _make_dilated(out_channels, (3, 1), (2, 0))
        self.sp_conv2 = _make_dilated(out_channels, (1, 3), (0, 2))
        self.norm = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.ch_conv1(x)
        return self.relu(self.norm(self.sp_conv1(x) + self.sp_conv2(x)))


class _ChannelAttention(nn.Module):
    """Efficient channel attention (Wang et al. 2020, arXiv:1910.03151), three channels wide."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        pooled_B1C = x.mean(dim=(2, 3)).unsqueeze(1)
        return x * self.sigmoid(self.conv(pooled_B1C)).squeeze(1)[:, :, None, None]


class _Block(nn.Module):
    def __init__(self, kind: BlockKind, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = in_channels // 2
        self.is_split = kind == "split"
        self.dilaconv1 = _Separable(in_channels, in_channels)
        self.dilaconv2 = _Separable(in_channels, in_channels)
        self.dilaconv3 = _Separable(in_channels, half)
        self.conv1 = nn.Conv2d(in_channels, half, 1)
        self.conv2 = nn.Conv2d(in_channels, half, 1)
        self.conv3 = nn.Conv2d(half if self.is_split else 3 * half, out_channels, 1)
        self.att = _ChannelAttention()
        self.norm = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        # A split block has halved the mel axis already.
        self.pool = nn.AvgPool2d((2, 1) if self.is_split else 2)

    def forward(self, x: Tensor) -> Tensor:
        joined = self._forward_split(x) if self.is_split else self._forward_plain(x)
        return self.pool(self.relu(self.norm(self.conv3(self.att(joined)))))

    def _forward_split(self, x: Tensor) -> Tensor:
        low, high = x.chunk(2, dim=3)
        deep = self.dilaconv3(self.dilaconv2(self.dilaconv1(low)))
        return self.conv1(low) + self.conv2(high) + deep

    def _forward_plain(self, x: Tensor) -> Tensor:
        first = self.dilaconv1(x)
        deep = self.dilaconv3(self.dilaconv2(first))
        return torch.cat([self.conv1(x), self.conv2(first), deep], dim=1)


def _make_dilated(channels: int, kernel: tuple[int, int], padding: tuple[int, int]) -> nn.Conv2d:
    return nn.Conv2d(
        channels, channels, kernel, padding=padding, dilation=2, groups=channels, bias=False
    )


def _check_blocks(blocks: Sequence[BlockKind], channels: Sequence[int]) -> None:
    if len(blocks) != _N_BLOCKS or not set(blocks) <= {"split", "plain"}:
        raise ValueError(f"blocks={blocks!r}, expected {_N_BLOCKS} times split or plain")
    if len(channels) != _N_BLOCKS or any(each < 2 or each % 2 for each in channels):
        raise ValueError(f"channels={channels!r}, expected {_N_BLOCKS} even numbers, at least 2")
