"""Mixup: clips of a batch laid over each other, and all their labels alike (B clips of a batch)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from students.recipe import Mixup


@dataclass(frozen=True, eq=False, slots=True)
class Mix:
    """The clip that each clip of a batch is mixed with, and the share that it keeps of itself."""

    partner_B: Tensor
    keep_B: Tensor

    def __call__(self, values_B: Tensor) -> Tensor:
        """Mix anything that belongs to the clips, [B, ...]."""
        keep_B = self.keep_B.to(values_B.dtype).view(-1, *(1 for _ in values_B.shape[1:]))
        return torch.lerp(values_B[self.partner_B], values_B, keep_B)


def draw_mix(mixup: Mixup, n_clips: int, device: torch.device) -> Mix:
    """Draw partners and shares for a batch, with the CPU's global generator."""
    n_shares = 1 if mixup.one_share_per == "batch" else n_clips
    alphas = torch.full((n_shares,), mixup.alpha)
    keep_B = torch.distributions.Beta(alphas, alphas).sample().expand(n_clips)
    return Mix(torch.randperm(n_clips).to(device), keep_B.to(device))


def leave_unmixed(values_B: Tensor) -> Tensor:
    """Return the values: the `Mix` of a batch that is not mixed."""
    return values_B
