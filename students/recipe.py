"""What a student is and how it is trained, as plain values: read and compared without torch.

The names of these classes and of their fields are part of every fingerprint, so they stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from audio.front_ends import FrontEnd
from audio.views import Augmentation, SpectrumModulation
from students.catalogue import ARCHITECTURES
from training import RampHoldLinear, TrainingRecipe

Reduction = Literal["batch_mean", "element_mean"]
CALIBRATION_CLIPS = 512
"""At most this many clips set the ranges of the activations in int8."""
MOVING_SHARE = 0.8
"""Share of the epochs in which the learning rate falls and the ranges of int8 move: 16 of 20, as
published."""


def check_temperature(temperature: float) -> None:
    """Check that logits can be divided by a temperature.

    Raises:
        ValueError: it is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature!r}, expected a number above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoupled:
    """Weights of the two parts of decoupled distillation; the defaults are the paper's."""

    true_class_weight: float = 1.0
    """Weight of the binary part: the true class against all others (alpha)."""
    other_classes_weight: float = 8.0
    """Weight of the comparison among the other classes (beta)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dist:
    """Weights of the two parts of distillation by correlation; the defaults are the paper's."""

    between_classes_weight: float = 1.0
    """Weight of the correlation over the classes of each clip (beta)."""
    within_class_weight: float = 1.0
    """Weight of the correlation over the batch's clips in each class (gamma)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Distillation:
    """How a student learns from its teachers.

    Raises:
        ValueError: a value out of range, or two choices that contradict each other.
    """

    temperature: float = 2.0
    """Softens teachers and student alike; 1 leaves the logits as they are."""
    hard_label_weight: float = 0.02
    """Share of the loss given to the true labels: 0 is soft labels only."""
    reduction: Reduction = "batch_mean"
    """`element_mean`, as published, makes the soft labels' part K times smaller."""
    loss: Literal["divergence"] | Decoupled | Dist = "divergence"
    """The soft labels' part of the loss; see `students.losses`."""
    standardized: bool = False
    """Whether the logits of teachers and student are standardised before they are softened."""
    confident: bool = False
    """Whether a clip's soft labels count more if the teachers are surer of it."""
    n_views: int | None = None
    """Epoch e, counted from 0, shows view e mod n_views of every clip with the soft labels of that
    view. None: every epoch shows another view, with the soft labels of the untouched clip."""

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not 0 <= self.hard_label_weight < 1:
            raise ValueError(
                f"hard_label_weight={self.hard_label_weight!r}, expected a share from 0 to below 1; "
                "a student that learns from true labels alone has distillation=None"
            )
        if self.reduction not in ("batch_mean", "element_mean"):
            raise ValueError(f"reduction={self.reduction!r}, expected batch_mean or element_mean")
        if self.n_views is not None and self.n_views < 1:
            raise ValueError(f"n_views={self.n_views!r}, expected at least 1, or None")
        self._check_loss()

    def _check_loss(self) -> None:
        if self.loss != "divergence" and not isinstance(self.loss, Decoupled | Dist):
            raise ValueError(f"loss={self.loss!r}, expected divergence, Decoupled() or Dist()")
        if self.loss != "divergence" and self.reduction == "element_mean":
            raise ValueError(
                f"reduction='element_mean' with loss={self.loss}: only the divergence has this "
                "reduction, and this loss has weights of its own; use batch_mean"
            )
        if isinstance(self.loss, Dist) and self.confident:
            raise ValueError(
                f"confident=True with loss={self.loss}: this loss compares clips with each other, so "
                "no clip has a loss of its own to weigh"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureDistillation(Distillation):
    """Distillation in which the student's features also predict what a frozen network says of a clip.

    A class of its own, so that a student without it keeps the fingerprint that it had.

    Raises:
        ValueError: as for `Distillation`, or a weight that is not above 0.
    """

    feature_weight: float = 1.0
    """Weight of the features' loss, which is added to that of labels and soft labels. At 1 (OURS) a
    student whose features say nothing of the embeddings loses 1 by it."""

    def __post_init__(self) -> None:
        # With slots, the class that super() means would be the one before they were made.
        Distillation.__post_init__(self)
        if not self.feature_weight > 0:
            raise ValueError(
                f"feature_weight={self.feature_weight!r}, expected a number above 0; without features it "
                "is Distillation()"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixup:
    """How strongly clips are mixed, and whether a batch has one strength or every clip its own.

    Source: Zhang et al. 2018, arXiv:1710.09412.

    Raises:
        ValueError: an alpha that is not above 0, or an unknown choice.
    """

    alpha: float = 0.2
    """Both parameters of the Beta distribution that shares are drawn from."""
    one_share_per: Literal["batch", "clip"] = "batch"

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ValueError(f"Mixup: alpha={self.alpha!r}, expected a number above 0")
        if self.one_share_per not in ("batch", "clip"):
            raise ValueError(f"Mixup: one_share_per={self.one_share_per!r}, expected batch or clip")


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """How much is muted; both shares are 0.05 in the ASCDomain report and 0.33 in its code.

    Raises:
        ValueError: a share outside of 0...1.
    """

    drop_features: float = 0.05
    """Share of a clip's features that are muted: those that speak most for the true class."""
    drop_clips: float = 0.05
    """Share of the batch's clips that are challenged: those that lose most by it."""

    def __post_init__(self) -> None:
        for name in ("drop_features", "drop_clips"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ValueError(f"Challenge: {name}={value!r}, expected a share between 0 and 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentRecipe:
    """All that decides what a student becomes, except corpus, split, seed and soft labels.

    Raises:
        ValueError: settings that contradict each other or the model; says why.
    """

    name: str
    model: str
    """Name in `students.build`."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    front_end: FrontEnd
    augmentation: Augmentation | SpectrumModulation
    training: TrainingRecipe
    distillation: Distillation | FeatureDistillation | None
    """None: the student learns from the true labels alone."""
    device_loss_weight: float
    """Weight of the discriminator's cross-entropy, whose gradient reaches the student reversed; 0
    is no discriminator."""
    mixup: Mixup | None = None
    """Mixes clips, their labels, soft labels and recording devices; None mixes nothing."""
    challenge: Challenge | None = None
    """Mutes the features that the student relies on most (RSC); None mutes nothing."""
    two_tasks: bool = False
    """Whether it also learns to classify indoors, outdoors and transport; for a DSMN."""

    def __post_init__(self) -> None:
        if not self.device_loss_weight >= 0:
            raise ValueError(
                f"student recipe {self.name}: device_loss_weight={self.device_loss_weight!r}, "
                "expected 0 or more"
            )
        for needs_true_class in (self.challenge, self.distillation and self.distillation.loss):
            if self.mixup and isinstance(needs_true_class, Challenge | Decoupled):
                raise ValueError(
                    f"student recipe {self.name}: {needs_true_class} needs the true class of a "
                    f"clip, and with {self.mixup} a clip has two; leave one of them out"
                )
        if self.two_tasks:
            self._check_two_tasks()

    def _check_two_tasks(self) -> None:
        if self.challenge:
            raise ValueError(
                f"student recipe {self.name}: {self.challenge} mutes what one classifier relies on, "
                "and two_tasks=True has two; leave one of them out"
            )
        with_groups = [name for name, entry in ARCHITECTURES.items() if entry.has_groups]
        if self.model not in with_groups:
            raise ValueError(
                f"student recipe {self.name}: two_tasks=True needs a model with a head for groups "
                f"({', '.join(with_groups)}), {self.model} has none"
            )


def drop_features(way: Distillation) -> Distillation:
    """Return the same distillation without features, for a teacher that has no embeddings."""
    if not isinstance(way, FeatureDistillation):
        return way
    return Distillation(**{each.name: getattr(way, each.name) for each in fields(Distillation)})


def drop_modulation(augmentation: Augmentation) -> Augmentation:
    """Return the same changes of clips without the colours of other recording devices."""
    if not isinstance(augmentation, SpectrumModulation):
        return augmentation
    names = [each.name for each in fields(Augmentation)]
    return Augmentation(**{name: getattr(augmentation, name) for name in names})


def has_parts_beside(recipe: StudentRecipe) -> bool:
    """Return whether parts are trained beside the student and thrown away: discriminator, projection."""
    return recipe.device_loss_weight > 0 or isinstance(recipe.distillation, FeatureDistillation)


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8Recipe:
    """How a trained student is fine-tuned in int8; all other settings are those of its training.

    Source: cpjku_dcase23 (CP-Mobile): Adam with 5e-5, over 16 of 20 epochs linearly to a tenth, the
    last epoch's weights. OURS: untouched clips set the ranges before the first step; the ranges stop
    moving at a share of the epochs; norms that are not folded into a convolution are still trained.

    Raises:
        ValueError: a value out of range.
    """

    epochs: int = 20
    learning_rate: float = 5e-5
    """Peak learning rate."""
    max_steps: int | None = None
    """The run ends after this many steps at the latest; None sets no limit."""
    calibration_clips: int = CALIBRATION_CLIPS
    """At most this many clips of the fold fit set the ranges before the first step."""

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate={self.learning_rate!r}, expected a number above 0")
        for name in ("epochs", "max_steps", "calibration_clips"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value!r}, expected 1 or more")

    def make_training(self, recipe: StudentRecipe) -> TrainingRecipe:
        """Return the loop's settings for a student that was trained with a recipe."""
        base = recipe.training
        return replace(
            base,
            max_epochs=self.epochs,
            max_steps=self.max_steps,
            peak_learning_rate=self.learning_rate,
            # OURS: discriminator and projection were not kept. New ones learn as fast as the first did.
            head_learning_rate=base.peak_learning_rate if has_parts_beside(recipe) else None,
            schedule=RampHoldLinear(
                ramp_epochs=0,
                hold_until_epoch=1,
                line_epochs=max(1, round(MOVING_SHARE * self.epochs)),
                last_factor=0.1,
            ),
            patience=None,
            keep="last",
        )
