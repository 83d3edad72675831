"""CNN-GRU: a convolutional network with two kinds of pooling side by side, and a GRU at its end.

Dimensions: B clips, C channels, D features, F mel bands, T frames, H hidden values, K classes.
"""

import torch
from torch import Tensor, nn

from students.convolution import make_convolution
from students.student import Student, check_sizes

FIRST_WIDTH = 7
BANDS_PER_STEP = 16
"""Mel bands of the inputs for each band of the maps that the GRU takes."""
LEAST_FRAMES = 6


class CNNGRU(Student):
    """Convolutions along one axis at a time, twice as branches behind a maximum and a mean, then a GRU.

    The GRU's sequence is the channels, one after the other, each with its bands as a vector; this is
    what the published network does. The logits see the mean of what it says of a channel, mixed with
    the mean of the channel itself.

    Source: Tan et al. 2025, arXiv:2509.09931, first system of their entry to DCASE 2025 (SNTL-NTU).

    Args:
        n_classes: number of logits.
        channels: width of the first block, a multiple of 4.
        multiplier: ratio of the width of a branch and `channels`.
        expansion: how much the depthwise convolutions widen the maps, twice.
        divisor: ratio of the widths before and after the last convolution.
        hidden: length H of the GRU's state.
        bands: number of mel bands F of the inputs, a multiple of 16: the GRU is made for it.

    Raises:
        ValueError: a size that is not a whole number of at least 1, or no such multiple.
    """

    def __init__(
        self,
        n_classes: int,
        channels: int = 24,
        multiplier: float = 1.5,
        expansion: int = 2,
        divisor: int = 5,
        hidden: int = 64,
        bands: int = 256,
    ) -> None:
        super().__init__()
        check_sizes(n_classes=n_classes, expansion=expansion, divisor=divisor, hidden=hidden)
        _check_multiples(channels=(channels, 4), bands=(bands, BANDS_PER_STEP))
        narrow = int(channels * multiplier)
        wide, widest = narrow * expansion, narrow * expansion**2
        _check_width(wide, widest // divisor)
        self.bands = bands
        self.n_features = widest // divisor
        half = channels // 2
        self.stem = nn.Sequential(
            make_convolution(1, FIRST_WIDTH, (3, 3)),
            make_convolution(FIRST_WIDTH, half, (1, 1)),
            _Shuffle(channels // 4),
            make_convolution(half, channels, (3, 1), groups=half),
            make_convolution(channels, channels, (1, 3), groups=half),
            nn.SiLU(),
            _Excitation(channels),
        )
        self.max_pool, self.mean_pool = nn.MaxPool2d(2), nn.AvgPool2d(2)
        self.behind_max = _make_branch(channels, narrow, wide)
        self.behind_mean = _make_branch(channels, narrow, wide)
        self.mix_mean, self.mix_max, self.mix_branches, self.mix_sequence = (
            nn.Parameter(torch.tensor(0.5)) for _ in range(4)
        )
        self.residual = make_convolution(wide, wide, (1, 1))
        self.tail = nn.Sequential(
            _Shuffle(wide // 2),
            make_convolution(wide, widest, (5, 1), stride=(2, 1), groups=wide),
            nn.SiLU(),
            nn.Dropout2d(0.3),
            make_convolution(widest, self.n_features, (5, 1)),
            nn.SiLU(),
        )
        self.recurrence = GRU(bands // BANDS_PER_STEP, hidden)
        self.channel_dropout = nn.Dropout1d(0.5)
        self.activation = nn.SiLU()
        self.head = nn.Linear(self.n_features, n_classes)

    def features(self, inputs_BCFT: Tensor) -> Tensor:
        """Return one value per channel of the last maps, [B, D]."""
        maps = self.stem(inputs_BCFT)
        by_max = self.behind_max(self.max_pool(maps))
        by_mean = self.behind_mean(self.mean_pool(maps))
        mean = _mix(self.mix_mean, self.mean_pool(by_mean), self.mean_pool(by_max))
        largest = _mix(self.mix_max, self.max_pool(by_max), self.max_pool(by_mean))
        both = _mix(self.mix_branches, mean, largest)
        sequence_BDF = self.tail(self.residual(both) + both).mean(3)
        states_BDH = self.channel_dropout(self.recurrence(sequence_BDF))
        return self.activation(_mix(self.mix_sequence, sequence_BDF.mean(2), states_BDH.mean(2)))

    def classifier(self, features_BD: Tensor) -> Tensor:
        """Return logits [B, K]."""
        return self.head(features_BD)

    def check_size(self, n_bands: int, n_frames: int) -> None:
        """Refuse inputs with another number of bands, or with too few frames.

        Raises:
            ValueError: says which.
        """
        if n_bands != self.bands:
            raise ValueError(
                f"inputs of {n_bands} bands, expected bands={self.bands}: the GRU is made for a "
                "number of bands; choose another front-end, or the argument bands"
            )
        if n_frames < LEAST_FRAMES:
            raise ValueError(
                f"inputs of {n_frames} frames, expected at least {LEAST_FRAMES}; choose a front-end "
                "with a shorter hop"
            )


class GRU(nn.Module):
    """One layer of gated recurrent units, with torch's initialisation and its names of the weights.

    `torch.nn.GRU` keeps a second list of its weights, about which an export warns.

    Source: Cho et al. 2014, arXiv:1406.1078, with the reset gate applied after the product, as in
    cuDNN and ONNX (`linear_before_reset`).

    Args:
        n_inputs: length of a step's vector.
        hidden: length H of the state.
    """

    def __init__(self, n_inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        shapes = {"ih": (3 * hidden, n_inputs), "hh": (3 * hidden, hidden)}
        for name, shape in shapes.items():
            self.register_parameter(f"weight_{name}_l0", nn.Parameter(torch.empty(shape)))
        for name in shapes:
            self.register_parameter(f"bias_{name}_l0", nn.Parameter(torch.empty(3 * hidden)))
        for each in self.parameters():
            nn.init.uniform_(each, -(hidden**-0.5), hidden**-0.5)

    def forward(self, steps_BTC: Tensor) -> Tensor:
        """Return the state after each step, [B, T, H]; it begins as zeros."""
        start = steps_BTC.new_zeros(1, steps_BTC.shape[0], self.hidden)
        states_BTH, _ = torch.gru(
            steps_BTC,
            start,
            tuple(self.parameters()),
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=False,
            bidirectional=False,
            batch_first=True,
        )
        return states_BTH


class _Shuffle(nn.Module):
    """Deals the channels of each of several groups out to all of them."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, maps_BCFT: Tensor) -> Tensor:
        return maps_BCFT.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


class _Excitation(nn.Module):
    """A weight for each channel of a clip (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // 2)
        self.relu = nn.ReLU()
        self.excite = nn.Linear(channels // 2, channels)
        self.gate = nn.Sigmoid()

    def forward(self, maps_BCFT: Tensor) -> Tensor:
        gates_BC = self.gate(self.excite(self.relu(self.squeeze(maps_BCFT.mean((2, 3))))))
        return maps_BCFT * gates_BC[:, :, None, None]


def _make_branch(in_channels: int, narrow: int, wide: int) -> nn.Sequential:
    return nn.Sequential(
        make_convolution(in_channels, narrow, (1, 1)),
        make_convolution(narrow, wide, (5, 1), groups=narrow),
        make_convolution(wide, wide, (1, 5), stride=(2, 2), groups=wide),
        nn.SiLU(),
        _Excitation(wide),
    )


def _mix(share: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return share * first + (1 - share) * second


def _check_multiples(**numbers: tuple[int, int]) -> None:
    for name, (number, of) in numbers.items():
        check_sizes(**{name: number})
        if number % of:
            raise ValueError(f"{name}={number}, expected a multiple of {of}")


def _check_width(wide: int, last: int) -> None:
    if wide < 1 or wide % 2 or last < 1:
        raise ValueError(
            f"widths of {wide} in the branches and {last} at the end, expected an even number and at "
            "least 1; change channels, multiplier, expansion or divisor"
        )
