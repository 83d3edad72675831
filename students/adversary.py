"""Removes the recording device from features: gradient reversal and a discriminator (B clips, D features)."""

import math
from typing import Any

import torch
from torch import Tensor, nn


class Discriminator(nn.Module):
    """Classifies recording devices by a student's features; needed for training only.

    Source: Ganin et al. 2016, arXiv:1505.07818, with the layers of the ASCDomain report.

    Args:
        n_devices: number of recording devices in the training clips.
        features: length D of the student's feature vectors.
        hidden: size of the two hidden layers.
    """

    def __init__(self, n_devices: int, features: int = 64, hidden: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, n_devices),
        )

    def forward(self, features_BD: Tensor) -> Tensor:
        """Return logits (B, n_devices)."""
        return self.layers(features_BD)


def reverse_gradient(features_BD: Tensor, strength: float) -> Tensor:
    """Return the same values; their gradient is multiplied by -strength.

    Source: Ganin et al. 2016, arXiv:1505.07818.
    """
    return _ReverseGradient.apply(features_BD, strength)


def reversal_strength(progress: float) -> float:
    """Strength of the reversal: from 0 at the start of training towards 1, as 2 / (1 + e^-10p) - 1.

    Source: Ganin et al. 2016, arXiv:1505.07818, with gamma = 10.

    Args:
        progress: share of the training steps already taken, 0...1.

    Raises:
        ValueError: progress outside of 0...1.
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress={progress!r}, expected a share of the training, 0...1")
    return math.tanh(5 * progress)


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features_BD: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return features_BD.view_as(features_BD)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * grad_outputs[0], None
