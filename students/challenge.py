"""Representation self-challenging: the features that a student relies on most are muted.

Dimensions: B clips in a batch, D features, K classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from students.recipe import Challenge


def challenge_features(
    features_BD: Tensor,
    classifier: Callable[[Tensor], Tensor],
    labels_B: Tensor,
    challenge: Challenge,
) -> Tensor:
    """Mute features in the clips that rely on them most.

    Source: Huang et al. 2020, arXiv:2007.02454, in the order of ASCDomain's code: features are
    ranked by the gradient of the true class's logit, clips by the loss of its probability.

    Args:
        features_BD: with gradient, which flows through the features that are not muted.
        classifier: from features to logits [B, K].
        labels_B: true classes, int64.
        challenge: the shares that are muted.
    """
    mask_BD = _make_mask(features_BD.detach(), classifier, labels_B.unsqueeze(1), challenge)
    return features_BD * mask_BD


def _make_mask(
    features_BD: Tensor,
    classifier: Callable[[Tensor], Tensor],
    true_B1: Tensor,
    challenge: Challenge,
) -> Tensor:
    """Return 0 for muted features and 1 for the others, in the features' type."""
    with torch.enable_grad():
        leaf_BD = features_BD.requires_grad_()
        logits_BK = classifier(leaf_BD)
        (gradient_BD,) = torch.autograd.grad(logits_BK.gather(1, true_B1).sum(), leaf_BD)
    with torch.no_grad():
        threshold_B1 = _quantile(gradient_BD, 1 - challenge.drop_features, dim=1)
        spared_BD = gradient_BD < threshold_B1
        muted_logits_BK = classifier(features_BD * spared_BD)
        lost_B1 = _compute_true_share(logits_BK, true_B1) - _compute_true_share(
            muted_logits_BK, true_B1
        )
        unchallenged_B1 = lost_B1 < _quantile(lost_B1, 1 - challenge.drop_clips, dim=0)
        return (spared_BD | unchallenged_B1).to(features_BD.dtype)


def _quantile(values: Tensor, share: float, dim: int) -> Tensor:
    return values.float().quantile(share, dim=dim, keepdim=True)


def _compute_true_share(logits_BK: Tensor, true_B1: Tensor) -> Tensor:
    return logits_BK.softmax(dim=1).gather(1, true_B1)
