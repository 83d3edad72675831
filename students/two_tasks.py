"""Two tasks of one student: scenes, and the groups that they belong to.

Dimensions: B clips in a batch, K scenes, G groups.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

GROUPS = ("indoor", "outdoor", "transport")
GROUP_OF_SCENE = {
    "airport": "indoor",
    "bus": "transport",
    "metro": "transport",
    "metro_station": "indoor",
    "park": "outdoor",
    "public_square": "outdoor",
    "shopping_mall": "indoor",
    "street_pedestrian": "outdoor",
    "street_traffic": "outdoor",
    "tram": "transport",
}
"""Source: DSMN (Wangkkklll/DSMN_dcase2023)."""


def group_matrix(scenes: Sequence[str]) -> Tensor:
    """Which group each scene is in: [K, G], a 1 in every row. Scene labels times it are groups'.

    Raises:
        ValueError: a scene that is in no group.
    """
    strange = [scene for scene in scenes if scene not in GROUP_OF_SCENE]
    if strange:
        raise ValueError(
            f"scenes {', '.join(strange)} are in no group of GROUP_OF_SCENE: a student of two tasks "
            f"learns {', '.join(GROUP_OF_SCENE)} only"
        )
    groups = torch.tensor([GROUPS.index(GROUP_OF_SCENE[scene]) for scene in scenes])
    return nn.functional.one_hot(groups, len(GROUPS)).float()


def merged(first: Tensor, second: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Two losses as one whose gradient is theirs without what either does to the other.

    Where the gradients of both losses point against each other, each loses its part along the
    other, and then they are averaged: PCGrad (Yu et al. 2020, arXiv:2001.06782, algorithm 1).

    Args:
        first: a scalar.
        second: another one of the same graph, which stays for further losses.
        parameters: all that both are to be minimised by.

    Returns:
        A scalar, the mean of both. Only its first derivatives mean something.
    """
    gradients = [
        torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        for loss in (first, second)
    ]
    shares = _shares(*gradients)
    value = (first.detach() + second.detach()) / 2
    for parameter, a, b in zip(parameters, *gradients, strict=True):
        # What is linear in the parameter has this gradient; its own value is taken out again.
        linear = (parameter * (shares[0] * a + shares[1] * b)).sum()
        value = value + linear - linear.detach()
    return value


def _shares(first: Sequence[Tensor], second: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """How much of each gradient is in the merged one: half, or more where they conflict."""
    product = _dot(first, second).clamp_max(0)
    # Without a conflict the product is 0, whatever it is divided by.
    smallest = torch.finfo(product.dtype).tiny
    of_second = product / _dot(second, second).clamp_min(smallest)
    of_first = product / _dot(first, first).clamp_min(smallest)
    return (1 - of_first) / 2, (1 - of_second) / 2


def _dot(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum()
