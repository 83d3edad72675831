"""A ConvMixer for log-mels (B clips, D features, K classes, F mel bands, T frames)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from audio.augment import freq_mixstyle
from students.student import Student, check_sizes

MIXED_BLOCKS = 2
"""MixStyle follows the first two blocks, as published."""


class Isotropic(Student):
    """Patches of the spectrogram, mixed per channel in place and then between channels, in each block.

    Source: Trockman and Kolter 2022, arXiv:2201.09792, with every filter count and size of the
    ASCDomain report: v1 (64, 9, 3, 5), v2 (128, 4, 4, 8) and v3 (128, 6, 3, 8) as (filters, depth,
    kernel, patch). Bands and frames at the upper edges that do not fill a patch are ignored.

    Args:
        n_classes: number of logits.
        filters: channels of all layers, and the length of `features`.
        depth: number of blocks.
        kernel: side of the depthwise kernels.
        patch: side of the square patches.
        depthwise_activation: whether a GELU follows the depthwise convolutions; ASCDomain's `noact`
            has none.
        mixstyle_probability: share of the training batches whose channel statistics are mixed
            between clips after each of the first two blocks (ASCDomain's `mix`: 0.4); 0 is off.

    Raises:
        ValueError: a size below 1 or a share outside of 0...1.
    """

    classifier: nn.Sequential

    def __init__(
        self,
        n_classes: int,
        filters: int = 64,
        depth: int = 9,
        kernel: int = 3,
        patch: int = 5,
        *,
        depthwise_activation: bool = True,
        mixstyle_probability: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(n_classes=n_classes, filters=filters, depth=depth, kernel=kernel, patch=patch)
        blocks = [_make_block(filters, kernel, depthwise_activation) for _ in range(depth)]
        if mixstyle_probability:
            for block in blocks[:MIXED_BLOCKS]:
                # At its end, where it changes no key: all variants can load each other's weights.
                block.append(MixStyle(mixstyle_probability))
        self.model = nn.Sequential(
            nn.Conv2d(1, filters, patch, stride=patch),
            nn.GELU(),
            nn.BatchNorm2d(filters),
            *blocks,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.n_features = filters
        self.patch = patch
        self.classifier = nn.Sequential()
        self.classifier.add_module("fc", nn.Linear(filters, n_classes))

    def features(self, inputs_BCFT: Tensor) -> Tensor:
        """Return the pooled output of the last block, (B, D)."""
        return self.model(inputs_BCFT)

    def check_size(self, n_bands: int, n_frames: int) -> None:
        """Refuse inputs that are smaller than a patch.

        Raises:
            ValueError: the patch is larger than the input.
        """
        check_patch(self.patch, n_bands, n_frames)


class MixStyle(nn.Module):
    """Moves the mean and spread of each channel towards another clip's, in some training batches.

    Source: Zhou et al. 2021, arXiv:2104.02008, with random partners and one draw per batch. In
    evaluation it changes nothing.

    Args:
        probability: share of the batches that are mixed.
        alpha: both parameters of the Beta distribution of the mixing weights.

    Raises:
        ValueError: a share outside of 0...1.
    """

    def __init__(self, probability: float, alpha: float = 0.1) -> None:
        super().__init__()
        if not 0 <= probability <= 1:
            raise ValueError(f"mixstyle_probability={probability!r}, expected a share, 0...1")
        self.probability = probability
        self.weights = torch.distributions.Beta(alpha, alpha)

    def forward(self, maps_BDFT: Tensor) -> Tensor:
        """Return the clips, mixed or not, (B, D, F, T)."""
        # Drawn on the host, so that nothing waits for a GPU.
        if not self.training or torch.rand(()).item() >= self.probability:
            return maps_BDFT
        n_clips = len(maps_BDFT)
        return mix_channels(maps_BDFT, torch.randperm(n_clips), self.weights.sample((n_clips,)))


def mix_channels(maps_BDFT: Tensor, permutation_B: Tensor, lambda_B: Tensor) -> Tensor:
    """Apply MixStyle with one mean and spread per channel instead of per band."""
    return freq_mixstyle(maps_BDFT.transpose(1, 2), permutation_B, lambda_B).transpose(1, 2)


class _Residual(nn.Module):
    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fn(x)


class _EvenConv2d(nn.Conv2d):
    """A convolution with an even kernel whose output has the size of its input.

    The odd column and row of zeros are at the upper edges. `padding="same"` does the same, but warns
    at every first call.
    """

    def forward(self, input: Tensor) -> Tensor:
        low, high = (self.kernel_size[0] - 1) // 2, self.kernel_size[0] // 2
        return super().forward(functional.pad(input, (low, high, low, high)))


def make_depthwise(filters: int, kernel: int) -> nn.Conv2d:
    """Return a convolution of each channel with its own square kernel, which keeps the size."""
    if kernel % 2:
        return nn.Conv2d(filters, filters, kernel, padding=kernel // 2, groups=filters)
    return _EvenConv2d(filters, filters, kernel, groups=filters)


def check_patch(patch: int, n_bands: int, n_frames: int) -> None:
    """Refuse a patch that does not fit into the input.

    Raises:
        ValueError: it is larger than the bands or the frames.
    """
    if patch > min(n_bands, n_frames):
        raise ValueError(
            f"patch={patch}, expected at most {min(n_bands, n_frames)} for inputs of {n_bands} "
            f"bands and {n_frames} frames"
        )


def _make_block(filters: int, kernel: int, depthwise_activation: bool) -> nn.Sequential:
    # The activation is before the norm, and the skip spans only the depthwise part.
    activation = [nn.GELU()] if depthwise_activation else []
    return nn.Sequential(
        _Residual(
            nn.Sequential(make_depthwise(filters, kernel), *activation, nn.BatchNorm2d(filters)),
        ),
        nn.Conv2d(filters, filters, 1),
        nn.GELU(),
        nn.BatchNorm2d(filters),
    )
