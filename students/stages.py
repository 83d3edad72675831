"""What a student's weights start from, and the stages after its training, as plain values.

Nothing here is a part of a student's recipe, so students without such stages keep their names.
"""

from dataclasses import dataclass, replace
from typing import Literal

from logit_store import LogitKey
from students.recipe import (
    MOVING_SHARE,
    Distillation,
    StudentRecipe,
    drop_features,
    drop_modulation,
)
from training import RampHoldLinear, TrainingRecipe

StartKind = Literal["pool", "corpus", "pruned"]
"""`pool`: the same network, which learnt from soft labels alone; `corpus`: the same network with other
classes, which learnt another corpus; `pruned`: a wider network of the same corpus, of which the channels
that matter most are kept."""


@dataclass(frozen=True, slots=True)
class Start:
    """The member whose weights a student starts from, and how it takes them over."""

    key: LogitKey
    kind: StartKind

    @property
    def suffix(self) -> str:
        """What the name of the student gets; a pruned one has it in the name of its recipe."""
        names = {"pool": "_after_first", "corpus": f"_after_{self.key.corpus}", "pruned": ""}
        return names[self.kind]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceStage:
    """How a copy of a student is fine-tuned on the clips of one recording device.

    Source: the two stages of the DCASE 2025 task 1 baseline (Schmid et al. 2025, arXiv:2505.01747). OURS:
    all numbers; the general student as the teacher of its copies; clips keep the sound of their device, so
    none gets the impulse response of another one.

    Raises:
        ValueError: a value out of range.
    """

    epochs: int = 20
    rate_factor: float = 0.1
    """Its peak learning rate as a share of the one that the student was trained with."""
    hard_label_weight: float = 0.5
    """Share of the loss given to the true labels: the soft labels are what the copy says already."""
    max_steps: int | None = None
    """Each copy takes at most this many steps; None sets no limit."""

    def __post_init__(self) -> None:
        check_tuning(self.epochs, self.rate_factor, self.max_steps)
        if not 0 < self.hard_label_weight < 1:
            raise ValueError(
                f"hard_label_weight={self.hard_label_weight!r}, expected a share between 0 and 1"
            )

    def make_recipe(self, recipe: StudentRecipe) -> StudentRecipe:
        """Return the recipe of the copies of a student that was trained with a recipe."""
        way = drop_features(recipe.distillation or Distillation())
        training = make_tuning(recipe.training, self.epochs, self.rate_factor)
        return replace(
            recipe,
            name=f"{recipe.name}_per_device",
            training=replace(training, max_steps=self.max_steps, clips_per_epoch=None),
            distillation=replace(way, hard_label_weight=self.hard_label_weight, n_views=None),
            augmentation=replace(
                drop_modulation(recipe.augmentation), impulse_response_probability=0.0
            ),
            device_loss_weight=0.0,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneStage:
    """How a student is pruned: a few channels at a time, with soft labels between.

    Source: Han et al. 2015, arXiv:1506.02626, prune and retrain in turn; whole channels by their
    weights as in Li et al. 2017, arXiv:1608.08710. OURS: all numbers.

    Raises:
        ValueError: a value out of range.
    """

    step_share: float = 0.125
    """At most this share of the width is removed at a time."""
    step_epochs_share: float = 0.1
    """Epochs after each removal but the last, as a share of those of the student's training."""
    last_epochs_share: float = 0.5
    """Epochs after the last removal."""
    rate_factor: float = 0.2
    """The peak learning rate as a share of the one that the student was trained with."""

    def __post_init__(self) -> None:
        check_tuning(1, self.rate_factor, None)
        for name in ("step_share", "step_epochs_share", "last_epochs_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r}, expected a share, 0...1")

    def make_training(self, training: TrainingRecipe, *, is_last: bool) -> TrainingRecipe:
        """Return the loop's settings after a removal."""
        share = self.last_epochs_share if is_last else self.step_epochs_share
        epochs = max(1, round(share * training.max_epochs))
        return make_tuning(training, epochs, self.rate_factor)


def make_tuning(training: TrainingRecipe, epochs: int, rate_factor: float) -> TrainingRecipe:
    """Return settings that train a student further: a lower rate that falls to a tenth, and no warm-up."""
    return replace(
        training,
        max_epochs=epochs,
        peak_learning_rate=rate_factor * training.peak_learning_rate,
        head_learning_rate=None,
        schedule=RampHoldLinear(
            ramp_epochs=0,
            hold_until_epoch=1,
            line_epochs=max(1, round(MOVING_SHARE * epochs)),
            last_factor=0.1,
        ),
        patience=None,
        keep="last",
    )


def check_tuning(epochs: int, rate_factor: float, max_steps: int | None) -> None:
    """Make sure that a stage can be trained with these numbers.

    Raises:
        ValueError: it cannot; names the first that is out of range.
    """
    if epochs < 1:
        raise ValueError(f"epochs={epochs!r}, expected 1 or more")
    if not 0 < rate_factor <= 1:
        raise ValueError(f"rate_factor={rate_factor!r}, expected a share of the first rate, 0...1")
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"max_steps={max_steps!r}, expected 1 or more, or None")
