"""How long, how fast and with what a module learns, and which of its weights remain."""

from dataclasses import dataclass, field
from typing import Literal

from audio.clips import Fold
from logit_store.keys import Protocol
from training.schedule import Schedule, WarmupCosine


@dataclass(frozen=True, kw_only=True, slots=True)
class Ema:
    """An exponential moving average of the weights after every step.

    Source: Tarvainen and Valpola 2017, arXiv:1703.01780. The first steps count more, so that the
    average forgets where the run began: at step t it keeps min(decay, (1 + t) / (10 + t)).

    Raises:
        ValueError: a decay outside of 0...1.
    """

    decay: float = 0.999
    """How much of the average remains at a step."""

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise ValueError(f"Ema: decay={self.decay!r}, expected a number between 0 and 1")

    def share(self, step: int, steps_per_epoch: int, total_steps: int) -> float:
        """Return the share of the average that the weights after a step (from 0) get."""
        return 1 - min(self.decay, (1 + step) / (10 + step))


@dataclass(frozen=True, kw_only=True, slots=True)
class Soup:
    """The uniform average of the weights after each of the last epochs.

    Source: Izmailov et al. 2018, arXiv:1803.05407; Wortsman et al. 2022, arXiv:2203.05482.

    Raises:
        ValueError: fewer than two epochs.
    """

    epochs: int = 10
    """How many of the last epochs; all epochs of a run that is shorter."""

    def __post_init__(self) -> None:
        if self.epochs < 2:
            raise ValueError(f"Soup: epochs={self.epochs!r}, expected at least 2 to average")

    def share(self, step: int, steps_per_epoch: int, total_steps: int) -> float:
        """Return the share as for `Ema`: 0 within an epoch and before the last epochs."""
        done = step + 1
        if done % steps_per_epoch and done != total_steps:
            return 0.0
        epochs, planned = -(-done // steps_per_epoch), -(-total_steps // steps_per_epoch)
        inside = epochs - max(0, planned - self.epochs)
        return 1 / inside if inside > 0 else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecipe:
    """Everything that decides how a module learns.

    Raises:
        ValueError: a soup in a run that may stop early.
    """

    max_epochs: int
    batch_size: int
    peak_learning_rate: float
    head_learning_rate: float | None = None
    """The peak for the layers of the fresh head; None uses `peak_learning_rate` for them too."""
    schedule: Schedule = field(default_factory=WarmupCosine)
    """How both learning rates change over the run."""
    optimizer: Literal["adamw", "adam"] = "adamw"
    weight_decay: float = 1e-3
    """Applies to every parameter, norms and biases included, as published."""
    max_steps: int | None = None
    """The run ends after this many steps at the latest; None sets no such limit."""
    clips_per_epoch: int | None = None
    """An epoch has this many clips, however many the split holds: a part of them, a different one
    each time, or all of them several times. None takes each clip once."""
    norm_momentum: float | None = None
    """The momentum of all batch normalisations; None leaves the architecture's (0.01 in MobileNets,
    which is too slow for runs of a few hundred steps)."""
    patience: int | None = None
    """Stop after this many epochs without a lower log loss on the judging clips; None never does."""
    keep: Literal["best", "last"] | Ema | Soup = "last"
    """Which weights remain: those of the epoch with the lowest log loss on the judging clips, the
    last ones, or an average, for which the statistics of the batch normalisations are computed
    again. An epoch's metrics, and patience, are always about the weights that the steps change."""

    def __post_init__(self) -> None:
        if isinstance(self.keep, Soup) and self.patience is not None:
            raise ValueError(
                f"patience={self.patience} and keep={self.keep}: a soup must know which epochs are "
                "the last ones before they begin; use patience=None, or keep=Ema()"
            )


def find_learning_folds(protocol: Protocol) -> tuple[Fold, ...]:
    """Return the folds whose clips a run learns from."""
    return ("fit",) if protocol == "honest" else ("fit", "select")


def find_judging_fold(protocol: Protocol) -> Fold:
    """Return the fold that decides when to stop and which weights to keep."""
    return "select" if protocol == "honest" else "test"
