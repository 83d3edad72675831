"""Mixup: clips of a batch laid over each other, and all their labels alike (B clips of a batch)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixup:
    """How strongly clips are mixed, and whether a batch has one strength or every clip its own.

    Source: Zhang et al. 2018, arXiv:1710.09412.

    Raises:
        ValueError: an alpha that is not above 0, an unknown choice.
    """

    alpha: float = 0.2
    """Both parameters of the Beta distribution that shares are drawn from."""
    one_share_per: Literal["batch", "clip"] = "batch"

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ValueError(f"Mixup: alpha={self.alpha!r}, expected a number above 0")
        if self.one_share_per not in ("batch", "clip"):
            raise ValueError(f"Mixup: one_share_per={self.one_share_per!r}, expected batch or clip")

    def draw(self, n_clips: int, device: torch.device) -> "Mix":
        """Partners and shares for a batch, by torch's generator of the CPU."""
        n_shares = 1 if self.one_share_per == "batch" else n_clips
        alphas = torch.full((n_shares,), self.alpha)
        keep_B = torch.distributions.Beta(alphas, alphas).sample().expand(n_clips)
        return Mix(torch.randperm(n_clips).to(device), keep_B.to(device))


@dataclass(frozen=True, eq=False, slots=True)
class Mix:
    """Which clip each clip of a batch is mixed with, and how much of itself it keeps."""

    partner_B: Tensor
    keep_B: Tensor

    def __call__(self, values_B: Tensor) -> Tensor:
        """Whatever belongs to the clips, [B, ...], mixed as they are."""
        keep_B = self.keep_B.to(values_B.dtype).view(-1, *(1 for _ in values_B.shape[1:]))
        return torch.lerp(values_B[self.partner_B], values_B, keep_B)


def unmixed(values_B: Tensor) -> Tensor:
    """What stands for a `Mix` where nothing is mixed."""
    return values_B
