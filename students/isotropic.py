"""A ConvMixer for log-mels (B clips, D features, K classes, F mel bands, T frames)."""

from torch import Tensor, nn
from torch.nn import functional


class Isotropic(nn.Module):
    """Patches of the spectrogram, mixed in place and then between filters, block after block.

    Source: Trockman and Kolter 2022, arXiv:2201.09792, with every filter count and size of the
    ASCDomain report: v1 (64, 9, 3, 5), v2 (128, 4, 4, 8) and v3 (128, 6, 3, 8) as (filters, depth,
    kernel, patch). What does not fill a patch at the upper edges is not seen.

    Args:
        n_classes: Logits that come out.
        filters: Channels from the first layer to the last, the length of `features`.
        depth: Number of blocks.
        kernel: Side of the depthwise kernels.
        patch: Side of the square patches.
    """

    def __init__(
        self, n_classes: int, filters: int = 64, depth: int = 9, kernel: int = 3, patch: int = 5
    ) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(1, filters, patch, stride=patch),
            nn.GELU(),
            nn.BatchNorm2d(filters),
            *(_block(filters, kernel) for _ in range(depth)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.n_features = filters
        self.classifier = nn.Sequential()
        self.classifier.add_module("fc", nn.Linear(filters, n_classes))

    def features(self, log_mel_B1FT: Tensor) -> Tensor:
        """The pooled output of the last block, (B, D)."""
        return self.model(log_mel_B1FT)

    def forward(self, log_mel_B1FT: Tensor) -> Tensor:
        """Logits (B, K)."""
        return self.classifier(self.features(log_mel_B1FT))


class _Residual(nn.Module):
    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fn(x)


class _EvenConv2d(nn.Conv2d):
    """A convolution with an even kernel whose output is as large as its input.

    The odd column and row of zeros stand at the upper edges. `padding="same"` does the same, but
    warns at every first call.
    """

    def forward(self, input: Tensor) -> Tensor:
        low, high = (self.kernel_size[0] - 1) // 2, self.kernel_size[0] // 2
        return super().forward(functional.pad(input, (low, high, low, high)))


def _block(filters: int, kernel: int) -> nn.Sequential:
    # The activation stands before the norm, and the skip spans only the depthwise part.
    return nn.Sequential(
        _Residual(
            nn.Sequential(_depthwise(filters, kernel), nn.GELU(), nn.BatchNorm2d(filters)),
        ),
        nn.Conv2d(filters, filters, 1),
        nn.GELU(),
        nn.BatchNorm2d(filters),
    )


def _depthwise(filters: int, kernel: int) -> nn.Conv2d:
    if kernel % 2:
        return nn.Conv2d(filters, filters, kernel, padding=kernel // 2, groups=filters)
    return _EvenConv2d(filters, filters, kernel, groups=filters)
