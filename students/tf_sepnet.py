"""TF-SepNet: half of the channels look along frequency, half along time.

Dimensions: B clips, C channels, D features, F mel bands, T frames, K classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from students.convolution import make_rectified
from students.student import Student, check_sizes

MULTIPLES = (1.0, 1.5, 2.0, 2.5)
"""Width of each stage as a multiple of the base."""
EPSILON = 1e-5
FIRST_SHARE = 0.5
"""What `AdaptiveResidualNorm` leaves of its inputs before it has learnt anything."""


class TFSepNet(Student):
    """Blocks that convolve along one axis and broadcast a mean over it, with a norm per mel band.

    Sources: Cai et al. 2024, arXiv:2309.08200, table 1, with `adaptive_norm` and two poolings; Cai et
    al. 2024, arXiv:2408.14862 and easy_dcase_task1, their entry to DCASE 2024, with three poolings and
    a fixed norm.

    Args:
        n_classes: number of logits.
        channels: base of all widths, a multiple of 4.
        poolings: number of stages, 2 or 3, after which a map is halved along both axes.
        adaptive_norm: whether the norms learn what they leave of their inputs.
        dropout: share of the values of a block that are dropped in training.
        blocks: number of blocks of each of the four stages.

    Raises:
        ValueError: a size below 1, channels that are no multiple of 4, other poolings, or a share out of
            range.
    """

    def __init__(
        self,
        n_classes: int,
        channels: int = 64,
        poolings: int = 3,
        dropout: float = 0.1,
        blocks: Sequence[int] = (2, 2, 2, 3),
        *,
        adaptive_norm: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(n_classes=n_classes, channels=channels)
        _check(channels, poolings, dropout)
        _check_blocks(blocks)
        self.poolings = poolings
        width = 2 * channels
        make_norm = AdaptiveResidualNorm if adaptive_norm else ResidualNorm
        self.stem = nn.Sequential(
            make_rectified(1, channels // 2, (3, 3), stride=(2, 2)),
            make_rectified(channels // 2, width, (3, 3), stride=(2, 2), groups=channels // 2),
            make_norm(width),
        )
        self.stages = nn.ModuleList()
        for number, (multiple, n_blocks) in enumerate(zip(MULTIPLES, blocks, strict=True)):
            layers: list[nn.Module] = []
            for _ in range(n_blocks):
                layers.append(_Block(width, int(multiple * channels), dropout))
                width = int(multiple * channels)
            layers.append(make_norm(width))
            if number < poolings:
                layers.append(nn.MaxPool2d(2))
            self.stages.append(nn.Sequential(*layers))
        self.n_features = width
        self.head = nn.Conv2d(width, n_classes, 1)

    def features(self, inputs_BCFT: Tensor) -> Tensor:
        """Return the pooled output of the last stage, [B, D]."""
        return self._compute_maps(inputs_BCFT).mean((2, 3))

    def classifier(self, features_BD: Tensor) -> Tensor:
        """Return logits [B, K]: the published head pools last, but a 1x1 convolution and a mean commute."""
        return self.head(features_BD[:, :, None, None]).flatten(1)

    def features_and_logits(self, inputs_BCFT: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [B, D] and logits [B, K] of one pass, with the published head."""
        maps = self._compute_maps(inputs_BCFT)
        return maps.mean((2, 3)), self.head(maps).mean((2, 3))

    def forward(self, inputs_BCFT: Tensor) -> Tensor:
        """Return logits [B, K]."""
        return self.head(self._compute_maps(inputs_BCFT)).mean((2, 3))

    def check_size(self, n_bands: int, n_frames: int) -> None:
        """Refuse inputs of which nothing is left after the poolings.

        Raises:
            ValueError: too few bands or frames.
        """
        # The stem leaves a quarter, rounded up; a pooling leaves a half, rounded down.
        least = 4 * (2**self.poolings - 1) + 1
        if min(n_bands, n_frames) < least:
            raise ValueError(
                f"inputs of {n_bands} bands and {n_frames} frames, expected at least {least} of both "
                f"for poolings={self.poolings}; choose a front-end with a shorter hop or more bands"
            )

    def _compute_maps(self, inputs_BCFT: Tensor) -> Tensor:
        maps = self.stem(inputs_BCFT)
        for stage in self.stages:
            maps = stage(maps)
        return maps


class ResidualNorm(nn.Module):
    """Each mel band of each clip normalised over channels and frames, and a share of the inputs added.

    Source: Kim et al. 2021, arXiv:2111.06531 (residual normalisation), with its share of 0.1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, maps_BCFT: Tensor) -> Tensor:
        """Return maps of the same shape."""
        return 0.1 * maps_BCFT + _normalise_bands(maps_BCFT)


class AdaptiveResidualNorm(nn.Module):
    """A learnt mixture, per channel, of inputs and their normalised bands, with a scale and an offset.

    Source: Cai et al. 2023, technical report for DCASE 2023 task 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        shape = (channels, 1, 1)
        # None is called weight or bias: the published counts have no product of theirs.
        self.rho = nn.Parameter(torch.full(shape, FIRST_SHARE))
        self.gamma = nn.Parameter(torch.ones(shape))
        self.beta = nn.Parameter(torch.zeros(shape))

    def forward(self, maps_BCFT: Tensor) -> Tensor:
        """Return maps of the same shape."""
        mixed = self.rho * maps_BCFT + (1 - self.rho) * _normalise_bands(maps_BCFT)
        return self.gamma * mixed + self.beta


def _normalise_bands(maps_BCFT: Tensor) -> Tensor:
    """Return maps whose every band has mean 0 and variance 1 over channels and frames."""
    n_values = maps_BCFT.shape[1] * maps_BCFT.shape[3]
    centred = maps_BCFT - maps_BCFT.mean((1, 3), keepdim=True)
    # As published, the variance is that of a sample.
    variance_B1F1 = centred.square().sum((1, 3), keepdim=True) / (n_values - 1)
    return centred / (variance_B1F1 + EPSILON).sqrt()


class _Block(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        changes = in_channels != out_channels
        self.transition = (
            make_rectified(in_channels, out_channels, (1, 1)) if changes else nn.Identity()
        )
        self.n_half = half = out_channels // 2
        self.along_bands = make_rectified(half, half, (3, 1), groups=half)
        self.mix_frames = make_rectified(half, half, (1, 1))
        self.along_frames = make_rectified(half, half, (1, 3), groups=half)
        self.mix_bands = make_rectified(half, half, (1, 1))
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps_BCFT: Tensor) -> Tensor:
        maps = self.transition(maps_BCFT)
        # Both halves take from both halves of the block before: the channels are dealt out like cards.
        shuffled = maps.unflatten(1, (2, self.n_half)).transpose(1, 2).flatten(1, 2)
        first, second = shuffled.split(self.n_half, dim=1)
        frames = self.mix_frames(self.along_bands(first).mean(2, keepdim=True))
        bands = self.mix_bands(self.along_frames(second).mean(3, keepdim=True))
        return torch.cat([first + self.dropout(frames), second + self.dropout(bands)], dim=1)


def _check_blocks(blocks: Sequence[int]) -> None:
    if len(blocks) != len(MULTIPLES) or min(blocks) < 1:
        raise ValueError(f"blocks={blocks!r}, expected {len(MULTIPLES)} numbers, each at least 1")


def _check(channels: int, poolings: int, dropout: float) -> None:
    if channels % 4:
        raise ValueError(f"channels={channels}, expected a multiple of 4: 2.5 times it is halved")
    if poolings not in (2, 3):
        raise ValueError(f"poolings={poolings!r}, expected 2 or 3")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout!r}, expected a share from 0 to below 1")
