"""Averages of a run's weights: over its steps, or over the ends of its last epochs.

Nothing is remembered but the average itself: how much a step's weights count follows from the
step's number, so a run that is interrupted goes on to the same average.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True, kw_only=True, slots=True)
class Ema:
    """An exponential moving average of the weights after every step.

    Source: Tarvainen and Valpola 2017, arXiv:1703.01780. The first steps count more, so that it
    forgets where the run began: at step t the average keeps min(decay, (1 + t) / (10 + t)).

    Raises:
        ValueError: a decay outside of 0...1.
    """

    decay: float = 0.999
    """How much of the average remains at a step."""

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise ValueError(f"Ema: decay={self.decay!r}, expected a number between 0 and 1")

    def share(self, step: int, steps_per_epoch: int, total_steps: int) -> float:
        """How much the weights after a step, counted from 0, count in the average from then on."""
        return 1 - min(self.decay, (1 + step) / (10 + step))


@dataclass(frozen=True, kw_only=True, slots=True)
class Soup:
    """The uniform average of the weights after each of the last epochs.

    Source: Izmailov et al. 2018, arXiv:1803.05407; Wortsman et al. 2022, arXiv:2203.05482.

    Raises:
        ValueError: less than two epochs.
    """

    epochs: int = 10
    """How many of the last epochs; all of a run that is shorter."""

    def __post_init__(self) -> None:
        if self.epochs < 2:
            raise ValueError(f"Soup: epochs={self.epochs!r}, expected at least 2 to average")

    def share(self, step: int, steps_per_epoch: int, total_steps: int) -> float:
        """How much the weights after a step count; 0 within an epoch and before the last ones."""
        done = step + 1
        if done % steps_per_epoch and done != total_steps:
            return 0.0
        epochs, planned = -(-done // steps_per_epoch), -(-total_steps // steps_per_epoch)
        inside = epochs - max(0, planned - self.epochs)
        return 1 / inside if inside > 0 else 0.0


@torch.no_grad()
def fold_in(average: dict[str, Tensor], module: nn.Module, share: float) -> None:
    """Move an average of parameters towards those of the module, in place.

    Args:
        average: by parameter's name; an empty one becomes a copy.
        module: what learns.
        share: how much its present parameters count, 0...1; 0 does nothing.
    """
    if share == 0:
        return
    parameters = {name: parameter.detach() for name, parameter in module.named_parameters()}
    if not average:
        average |= {name: parameter.clone() for name, parameter in parameters.items()}
        return
    torch._foreach_lerp_(list(average.values()), list(parameters.values()), share)


@torch.no_grad()
def retake_statistics(
    module: nn.Module, forward: Callable[[Tensor], Tensor], inputs: Iterable[Tensor]
) -> None:
    """Take the running statistics of all batch normalisations anew: each batch counts the same.

    Statistics of single steps' weights are not those of averaged weights, and neither is their
    average (Izmailov et al. 2018, arXiv:1803.05407, section 3.2).

    Args:
        module: is left in training mode; one without such layers sees no batch.
        forward: through the module.
        inputs: batches of what it takes, without what is drawn between clips.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    module.train()
    for seen, batch in enumerate(inputs, start=1):
        # The first batch replaces all that was there.
        for norm in norms:
            norm.momentum = 1 / seen
        forward(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
