"""An average of a run's weights, kept while it trains.

Only the average itself is stored: how much a step's weights count follows from the step's number,
so an interrupted run continues to the same average.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def update_average(average: dict[str, Tensor], module: nn.Module, share: float) -> None:
    """Move an average of parameters towards those of the module, in place.

    Args:
        average: by the parameter's name; an empty one becomes a copy.
        module: what learns.
        share: how much its present parameters count, 0...1; 0 changes nothing.
    """
    if share == 0:
        return
    parameters = {name: parameter.detach() for name, parameter in module.named_parameters()}
    if not average:
        average |= {name: parameter.clone() for name, parameter in parameters.items()}
        return
    torch._foreach_lerp_(list(average.values()), list(parameters.values()), share)


@torch.no_grad()
def recompute_statistics(
    module: nn.Module, forward: Callable[[Tensor], Tensor], inputs: Iterable[Tensor]
) -> None:
    """Replace the running statistics of all batch normalisations; each batch counts the same.

    The statistics of single steps' weights are not those of averaged weights, and neither is their
    average (Izmailov et al. 2018, arXiv:1803.05407, section 3.2).

    Args:
        module: is left in training mode; if it has no such layers, it sees no batch.
        forward: the pass through the module.
        inputs: batches of what it takes, without augmentations between clips.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    module.train()
    for n_batches, batch in enumerate(inputs, start=1):
        # The first batch replaces the old statistics completely.
        for norm in norms:
            norm.momentum = 1 / n_batches
        forward(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
