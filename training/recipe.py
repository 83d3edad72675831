"""How long, how fast and with what a module learns."""

from dataclasses import dataclass, field
from typing import Literal

from torch import nn, optim

from audio.clips import Fold
from training.averaging import Ema, Soup
from training.schedule import Schedule, WarmupCosine

Protocol = Literal["honest", "published"]
"""Who decides about a run. `honest`: the `fit` clips are learnt from, `select` clips judge.
`published`: all training clips are learnt from and the test clips judge, as in the publications;
its results are for comparison with theirs only, and are marked everywhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecipe:
    """All that decides how a module learns.

    Raises:
        ValueError: a soup of a run that may end early.
    """

    max_epochs: int
    batch_size: int
    peak_learning_rate: float
    head_learning_rate: float | None = None
    """Peak of the fresh head's layers; None is that of all others."""
    schedule: Schedule = field(default_factory=WarmupCosine)
    """How both learning rates go over the run."""
    optimizer: Literal["adamw", "adam"] = "adamw"
    weight_decay: float = 1e-3
    """On every parameter, norms and biases included, as published."""
    max_steps: int | None = None
    """The run ends after so many steps at the latest; None is no such end."""
    clips_per_epoch: int | None = None
    """An epoch is so many clips, whatever the split holds: a part of them, another each time, or
    all of them several times. None is each clip once."""
    norm_momentum: float | None = None
    """Of all batch normalisations; None leaves the architecture's (0.01 in MobileNets: too slow
    for runs of a few hundred steps)."""
    patience: int | None = None
    """Stop after so many epochs without a lower log loss on the judging clips; None never does."""
    keep: Literal["best", "last"] | Ema | Soup = "last"
    """Which weights remain: those of the epoch with the lowest log loss on the judging clips, the
    last, or an average of them, with batch normalisations' statistics taken anew for it. The
    figures of an epoch, and patience, are always those of the weights that learn."""

    def __post_init__(self) -> None:
        if isinstance(self.keep, Soup) and self.patience is not None:
            raise ValueError(
                f"patience={self.patience} and keep={self.keep}: which epochs are the last ones must "
                "be known before they are; use patience=None, or keep=Ema()"
            )


def learning_folds(protocol: Protocol) -> tuple[Fold, ...]:
    """The folds whose clips are learnt from."""
    return ("fit",) if protocol == "honest" else ("fit", "select")


def judging_fold(protocol: Protocol) -> Fold:
    """The fold that decides when to stop and what to keep."""
    return "select" if protocol == "honest" else "test"


def make_optimizer(
    recipe: TrainingRecipe, module: nn.Module, head: tuple[str, ...]
) -> optim.Optimizer:
    """The recipe's optimiser of all the module's parameters; each group knows its `peak`.

    Args:
        recipe: says which, and the learning rates.
        module: what learns.
        head: names of the layers that `head_learning_rate` is for.
    """
    rest, fresh = [], []
    prefixes = tuple(f"{layer}." for layer in head)
    for name, parameter in module.named_parameters():
        (fresh if prefixes and name.startswith(prefixes) else rest).append(parameter)
    if recipe.head_learning_rate is None:
        groups = [{"params": rest + fresh, "peak": recipe.peak_learning_rate}]
    else:
        groups = [
            {"params": rest, "peak": recipe.peak_learning_rate},
            {"params": fresh, "peak": recipe.head_learning_rate},
        ]
    kind = optim.AdamW if recipe.optimizer == "adamw" else optim.Adam
    # One kernel for all parameters where the device has it.
    fused = all(parameter.is_cuda for parameter in rest + fresh)
    return kind(
        groups, lr=recipe.peak_learning_rate, weight_decay=recipe.weight_decay, fused=fused or None
    )
