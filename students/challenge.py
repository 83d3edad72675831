"""Representation self-challenging: what a student leans on most is taken from it.

Dimensions: B clips in a batch, D features, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """How much is taken away; 0.05 twice in the ASCDomain report, 0.33 twice in its code.

    Raises:
        ValueError: a share outside of 0...1.
    """

    drop_features: float = 0.05
    """Share of a clip's features that is muted: those that speak most for the true class."""
    drop_clips: float = 0.05
    """Share of the batch's clips that is challenged: those that suffer most from it."""

    def __post_init__(self) -> None:
        for name in ("drop_features", "drop_clips"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ValueError(f"Challenge: {name}={value!r}, expected a share between 0 and 1")


def challenged(
    features_BD: Tensor,
    classifier: Callable[[Tensor], Tensor],
    labels_B: Tensor,
    challenge: Challenge,
) -> Tensor:
    """The features, some of them muted in the clips that need them most.

    Source: Huang et al. 2020, arXiv:2007.02454, in the order of ASCDomain's code: features are
    judged by the gradient of the true class's logit, clips by what its probability loses.

    Args:
        features_BD: with gradient, which flows through what is not muted.
        classifier: from features to logits [B, K].
        labels_B: true classes, int64.
        challenge: how much is muted.
    """
    mask_BD = _mask(features_BD.detach(), classifier, labels_B.unsqueeze(1), challenge)
    return features_BD * mask_BD


def _mask(
    features_BD: Tensor,
    classifier: Callable[[Tensor], Tensor],
    true_B1: Tensor,
    challenge: Challenge,
) -> Tensor:
    """1 for what is left and 0 for what is muted, in the features' type."""
    with torch.enable_grad():
        leaf_BD = features_BD.requires_grad_()
        logits_BK = classifier(leaf_BD)
        (gradient_BD,) = torch.autograd.grad(logits_BK.gather(1, true_B1).sum(), leaf_BD)
    with torch.no_grad():
        threshold_B1 = _quantile(gradient_BD, 1 - challenge.drop_features, dim=1)
        spared_BD = gradient_BD < threshold_B1
        muted_logits_BK = classifier(features_BD * spared_BD)
        lost_B1 = _true_share(logits_BK, true_B1) - _true_share(muted_logits_BK, true_B1)
        unchallenged_B1 = lost_B1 < _quantile(lost_B1, 1 - challenge.drop_clips, dim=0)
        return (spared_BD | unchallenged_B1).to(features_BD.dtype)


def _quantile(values: Tensor, share: float, dim: int) -> Tensor:
    return values.float().quantile(share, dim=dim, keepdim=True)


def _true_share(logits_BK: Tensor, true_B1: Tensor) -> Tensor:
    return logits_BK.softmax(dim=1).gather(1, true_B1)
