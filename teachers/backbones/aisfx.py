"""aiSFX: a network that learnt sound-effects libraries (B clips, C channels, F mel bands, T frames).

Ma and Lerch, Representation Learning for the Automatic Indexing of Sound Effects Libraries, ISMIR
2022. Its blocks are those of the nine-layer network of Kong et al. (arXiv:1808.00773).
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from teachers.backbones.aisfx_package import locate_checkpoint

CHANNELS = (1, 64, 128, 256, 512)
_PREFIX = "embedding_net."


class Block(nn.Module):
    """Two convolutions, each with normalisation and ReLU."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.bn2 = nn.BatchNorm2d(n_out)

    def forward(self, x_BCTF: Tensor) -> Tensor:
        """Return (B, C', T, F)."""
        x_BCTF = functional.relu_(self.bn1(self.conv1(x_BCTF)))
        return functional.relu_(self.bn2(self.conv2(x_BCTF)))


class Aisfx(nn.Module):
    """The published network without its classifiers: log-mels (B, 1, F, T) -> embedding (B, 512).

    Its keys are the published ones after `embedding_net.`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_block1, self.conv_block2, self.conv_block3, self.conv_block4 = (
            Block(n_in, n_out) for n_in, n_out in pairwise(CHANNELS)
        )

    def forward(self, log_mel_BCFT: Tensor) -> Tensor:
        """Return the mean over bands and the largest over frames of the last block."""
        x_BCTF = log_mel_BCFT.transpose(2, 3)
        for block in (self.conv_block1, self.conv_block2, self.conv_block3):
            x_BCTF = functional.max_pool2d(block(x_BCTF), 2)
        return self.conv_block4(x_BCTF).mean(3).amax(2)


def load_aisfx() -> Aisfx:
    """Return the network with its published weights.

    Raises:
        MissingWeights: the package is not installed.
        DamagedWeights: its file is not the published one.
    """
    network = Aisfx()
    # The file is a pair of weights and numbers of classes. Those are numpy's numbers, whose maker is
    # replaced here: torch's reader calls what is on its list, and nothing else.
    allowed: list[Any] = [
        (_ignore, "numpy.core.multiarray.scalar"),
        (np.dtype, "numpy.dtype"),
        type(np.dtype(np.int64)),
    ]
    with torch.serialization.safe_globals(allowed):
        weights, _ = torch.load(locate_checkpoint(), map_location="cpu", weights_only=True)
    network.load_state_dict(
        {key.removeprefix(_PREFIX): weights[key] for key in weights if key.startswith(_PREFIX)}
    )
    return network


def _ignore(*_: object) -> None:
    """Stand for a number that nobody here needs."""
