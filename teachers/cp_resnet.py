"""CP-ResNet teachers, trained from scratch (B clips in a batch, K classes, D embedding, F, T)."""

from collections import OrderedDict

from torch import Tensor, nn

_N_BLOCKS = 4
CHANNELS_CUT_FROM_STAGE_3 = 36
STAGE_2_GROUPS = 2


class CPResNet(nn.Module):
    """CP-ResNet for log-mels (B, 1, F, T) -> logits (B, K), embedding (B, D).

    A ResNet with a small receptive field (Koutini et al. 2021, arXiv:2105.12395). With 32 base
    channels and 10 classes it has the 128 thousand parameters and the state_dict keys of the
    published `cpr_128k` checkpoints. The papers name no embedding; here it is the last stage's
    output averaged over frequency and time.

    Raises:
        ValueError: If there is no class, or the base channels are odd or fewer than 10.
    """

    def __init__(self, n_classes: int, base_channels: int = 32) -> None:
        super().__init__()
        _check_size(n_classes, base_channels)
        narrow, middle = base_channels, 2 * base_channels
        wide = 4 * base_channels - CHANNELS_CUT_FROM_STAGE_3
        self.in_c = _make_entry(narrow)
        self.stage1 = nn.Sequential(
            OrderedDict[str, nn.Module](
                pool1=nn.MaxPool2d(2),
                block1=BasicBlock(narrow, narrow, kernels=(3, 1)),
                pool2=nn.MaxPool2d((2, 1)),
                block2=BasicBlock(narrow, narrow, kernels=(3, 3)),
                pool3=nn.MaxPool2d((2, 1)),
            )
        )
        block = BasicBlock(narrow, middle, kernels=(3, 3), groups=STAGE_2_GROUPS)
        self.stage2 = nn.Sequential(OrderedDict[str, nn.Module](block1=block))
        block = BasicBlock(middle, wide, kernels=(3, 1))
        self.stage3 = nn.Sequential(OrderedDict[str, nn.Module](block1=block))
        self.feed_forward = _make_classifier(wide, n_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, K) and embedding (B, D) of log-mels (B, 1, F, T)."""
        features = self.stage3(self.stage2(self.stage1(self.in_c(x))))
        return self.feed_forward(features).mean((2, 3)), features.mean((2, 3))


class BasicBlock(nn.Module):
    """Two convolutions around a shortcut; before any training, the shortcut alone.

    Fixup initialisation (Zhang et al. 2019, arXiv:1901.09321) makes the first convolution smaller
    the more blocks the model has, and the second one 0.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernels: tuple[int, int], groups: int = 1
    ) -> None:
        super().__init__()
        first, second = kernels
        self.conv1 = _make_conv(channels_in, channels_out, first, groups)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = _make_conv(channels_out, channels_out, second, groups)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut = _make_shortcut(channels_in, channels_out, groups)
        # The published code divides by the number of blocks built so far in the process, so that a
        # worker's second model starts smaller than its first. Here every model starts as the first
        # one does there.
        fan_out = first * first * channels_out
        nn.init.normal_(self.conv1.weight, std=(2 / fan_out / _N_BLOCKS) ** 0.5)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels_in, F, T) to (B, channels_out, F, T)."""
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.shortcut(x)).relu()


def _make_entry(channels: int) -> nn.Sequential:
    conv = nn.Conv2d(1, channels, 5, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())


def _make_conv(channels_in: int, channels_out: int, kernel: int, groups: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels_in, channels_out, kernel, padding=kernel // 3, groups=groups, bias=False
    )


def _make_shortcut(channels_in: int, channels_out: int, groups: int) -> nn.Module:
    if channels_in == channels_out:
        return nn.Identity()
    conv = _make_conv(channels_in, channels_out, 1, groups)
    nn.init.normal_(conv.weight, std=(2 / channels_out) ** 0.5)
    norm = nn.BatchNorm2d(channels_out)
    return nn.Sequential(OrderedDict[str, nn.Module](conv=conv, bn=norm))


def _make_classifier(channels: int, n_classes: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, n_classes, 1, bias=False)
    nn.init.zeros_(conv.weight)
    return nn.Sequential(conv, nn.BatchNorm2d(n_classes))


def _check_size(n_classes: int, base_channels: int) -> None:
    if n_classes < 1:
        raise ValueError(f"n_classes is {n_classes}, expected at least 1")
    if base_channels < 10 or base_channels % STAGE_2_GROUPS:
        raise ValueError(
            f"base_channels is {base_channels}, expected an even number of at least 10 "
            f"(published: 32): stage 3 has 4 * base_channels - {CHANNELS_CUT_FROM_STAGE_3} "
            f"channels, stage 2 splits them into {STAGE_2_GROUPS} groups"
        )
