"""Two tasks of one student: scenes, and the groups of scenes.

Dimensions: B clips in a batch, K scenes, G groups.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from students.groups import GROUP_OF_SCENE, GROUPS, check_groups


def make_group_matrix(scenes: Sequence[str]) -> Tensor:
    """Return which group each scene is in: [K, G], with a 1 in every row.

    Scene labels times this matrix are group labels.

    Raises:
        ValueError: names the scenes that are in no group.
    """
    check_groups(scenes)
    groups = torch.tensor([GROUPS.index(GROUP_OF_SCENE[scene]) for scene in scenes])
    return nn.functional.one_hot(groups, len(GROUPS)).float()


def merge_losses(first: Tensor, second: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Merge two losses into one whose gradient has no conflict between them.

    If the gradients of both losses conflict, each loses its part along the other, and then they are
    averaged: PCGrad (Yu et al. 2020, arXiv:2001.06782, algorithm 1).

    Args:
        first: a scalar.
        second: another scalar of the same graph, which is kept for further losses.
        parameters: all parameters that minimise both.

    Returns:
        A scalar, the mean of both. Only its first derivatives are meaningful.
    """
    gradients = [
        torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        for loss in (first, second)
    ]
    shares = _compute_shares(*gradients)
    value = (first.detach() + second.detach()) / 2
    for parameter, a, b in zip(parameters, *gradients, strict=True):
        # A term that is linear in the parameter has this gradient; its own value is subtracted again.
        linear = (parameter * (shares[0] * a + shares[1] * b)).sum()
        value = value + linear - linear.detach()
    return value


def _compute_shares(first: Sequence[Tensor], second: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the share of each gradient in the merged one: half, or more if they conflict."""
    product = _multiply(first, second).clamp_max(0)
    # Without a conflict the product is 0, so any divisor will do.
    smallest = torch.finfo(product.dtype).tiny
    of_second = product / _multiply(second, second).clamp_min(smallest)
    of_first = product / _multiply(first, first).clamp_min(smallest)
    return (1 - of_first) / 2, (1 - of_second) / 2


def _multiply(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum()
