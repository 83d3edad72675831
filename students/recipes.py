"""Named students, and the ways in which they learn.

Sources: ASCDomain (hubtru/ASCDomain and its technical report) for architecture, schedule,
temperature and weights of the losses; CPJKU/dcase2024_task1_baseline and the BCBL students of NTU;
cpjku_dcase23 for CP-Mobile; DSMN_dcase2023. What differs from them is marked OURS.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from audio.log_mel import ASCDOMAIN_CNN, FrontEnd
from audio.views import ASCDOMAIN, Augmentation
from students.catalogue import ARCHITECTURES
from students.challenge import Challenge
from students.dsmn import DSMN
from students.losses import Decoupled, Dist, Reduction, check_temperature
from students.mixup import Mixup
from training import RampHoldLinear, TrainingRecipe, WarmupCosine


@dataclass(frozen=True, kw_only=True, slots=True)
class Distillation:
    """How a student listens to its teachers.

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
    """What the soft labels' part is; see `students.losses`."""
    standardized: bool = False
    """Whether the logits of teachers and student are standardised before they are softened."""
    confident: bool = False
    """Whether soft labels count the more, the surer the teachers are of a clip."""
    n_views: int | None = None
    """Epoch e, counted from 0, shows view e mod n_views of every clip, and the soft labels of just
    that view. None: every epoch shows another view, with the soft labels of the untouched clip."""

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not 0 <= self.hard_label_weight < 1:
            raise ValueError(
                f"hard_label_weight={self.hard_label_weight!r}, expected a share from 0 to below 1; "
                "a student that learns from true labels alone has distillation=None"
            )
        if self.reduction not in ("batch_mean", "element_mean"):
            raise ValueError(f"reduction={self.reduction!r}, expected batch_mean or element_mean")
        if self.loss != "divergence" and not isinstance(self.loss, Decoupled | Dist):
            raise ValueError(f"loss={self.loss!r}, expected divergence, Decoupled() or Dist()")
        if self.loss != "divergence" and self.reduction == "element_mean":
            raise ValueError(
                f"reduction='element_mean' with loss={self.loss}: it is a scale of the divergence's, "
                "its own weights are that of this loss; use batch_mean"
            )
        if isinstance(self.loss, Dist) and self.confident:
            raise ValueError(
                f"confident=True with loss={self.loss}: it compares clips with each other, so that "
                "no clip has a loss of its own to weigh"
            )
        if self.n_views is not None and self.n_views < 1:
            raise ValueError(f"n_views={self.n_views!r}, expected at least 1, or None")


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentRecipe:
    """All that decides what a student becomes, but for corpus, split, seed and soft labels.

    Raises:
        ValueError: ways of learning that contradict each other, or the model; says why.
    """

    name: str
    model: str
    """Name in `students.build`."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    front_end: FrontEnd
    augmentation: Augmentation
    training: TrainingRecipe
    distillation: Distillation | None
    """None: the student learns from the true labels alone."""
    device_loss_weight: float
    """Of the discriminator's cross-entropy, whose gradient reaches the student reversed; 0 is
    no discriminator."""
    mixup: Mixup | None = None
    """Mixes clips, their labels, soft labels and recording devices; None mixes nothing."""
    challenge: Challenge | None = None
    """Takes from the student what it leans on most (RSC); None takes nothing."""
    two_tasks: bool = False
    """Whether it also learns to tell indoors, outdoors and transport apart; for a DSMN."""

    def __post_init__(self) -> None:
        if not self.device_loss_weight >= 0:
            raise ValueError(
                f"student recipe {self.name}: device_loss_weight={self.device_loss_weight!r}, "
                "expected 0 or more"
            )
        for needs_true_class in (self.challenge, self.distillation and self.distillation.loss):
            if self.mixup and isinstance(needs_true_class, Challenge | Decoupled):
                raise ValueError(
                    f"student recipe {self.name}: {needs_true_class} asks for the true class of a "
                    f"clip, and with {self.mixup} it has two; leave one of them out"
                )
        if self.two_tasks and self.challenge:
            raise ValueError(
                f"student recipe {self.name}: {self.challenge} mutes what one classifier leans on, "
                "and two_tasks=True has two; leave one of them out"
            )
        with_groups = [name for name, entry in ARCHITECTURES.items() if entry.make is DSMN]
        if self.two_tasks and self.model not in with_groups:
            raise ValueError(
                f"student recipe {self.name}: two_tasks=True needs a model with a head for groups "
                f"({', '.join(with_groups)}), {self.model} has none"
            )


def isotropic_ascdomain() -> StudentRecipe:
    """Isotropic as published: the soft labels' loss averaged over batch and classes."""
    return StudentRecipe(
        name="isotropic_ascdomain",
        model="isotropic",
        front_end=ASCDOMAIN_CNN,
        augmentation=ASCDOMAIN,
        training=TrainingRecipe(
            max_epochs=150, batch_size=256, peak_learning_rate=5e-3, weight_decay=1e-4
        ),
        distillation=Distillation(reduction="element_mean"),
        device_loss_weight=0.025,
    )


def isotropic() -> StudentRecipe:
    """Isotropic as we teach it: the soft labels' loss averaged over the batch."""
    return replace(isotropic_ascdomain(), name="isotropic", distillation=Distillation())


def demo_isotropic() -> StudentRecipe:
    """The full-size student for a few hundred clips: small batches, a short warm-up."""
    base = isotropic()
    training = replace(
        base.training,
        max_epochs=28,
        batch_size=16,
        schedule=WarmupCosine(warmup_steps=30),
        clips_per_epoch=128,
    )
    return replace(base, name="demo_isotropic", training=training)


def small_isotropic() -> StudentRecipe:
    """For about a thousand clips: every clip in every epoch, and a warm-up that ends."""
    base = isotropic()
    training = replace(
        base.training, max_epochs=24, batch_size=32, schedule=WarmupCosine(warmup_steps=60)
    )
    return replace(base, name="small_isotropic", training=training)


def ascdomain_student(model: str) -> StudentRecipe:
    """Another student of the ASCDomain report, taught as `isotropic` is."""
    return replace(isotropic(), name=model, model=model)


def isotropic_rsc() -> StudentRecipe:
    """Isotropic alone with representation self-challenging, as published."""
    return replace(
        isotropic_ascdomain(),
        name="isotropic_rsc",
        distillation=None,
        device_loss_weight=0.0,
        challenge=Challenge(),
    )


def isotropic_adversarial() -> StudentRecipe:
    """Isotropic alone against the discriminator, without impulse responses, as published."""
    return replace(
        isotropic_ascdomain(),
        name="isotropic_adversarial",
        augmentation=replace(ASCDOMAIN, impulse_response_probability=0.0),
        distillation=None,
        device_loss_weight=1.0,
    )


def dcase24_baseline() -> StudentRecipe:
    """The baseline of DCASE 2024 task 1, as published: alone, and without impulse responses."""
    return replace(
        isotropic_ascdomain(),
        name="dcase24_baseline",
        model="dcase24_baseline",
        augmentation=replace(ASCDOMAIN, impulse_response_probability=0.0),
        distillation=None,
        device_loss_weight=0.0,
    )


def bcbl(base_channels: int) -> StudentRecipe:
    """The baseline's network of any width as NTU teaches it: never rolled, a short warm-up.

    OURS: the soft labels' loss averaged over the batch, and the last epoch's weights, where NTU
    keeps those that are best on the test clips.
    """
    base = isotropic()
    return replace(
        base,
        name=f"bcbl{base_channels}",
        model="dcase24_baseline",
        arguments={"base_channels": base_channels},
        augmentation=replace(ASCDOMAIN, max_roll_samples=0),
        training=replace(base.training, schedule=WarmupCosine(warmup_steps=100)),
        device_loss_weight=0.0,
    )


def bcbl24_44k() -> StudentRecipe:
    """NTU's entry to DCASE 2024: 24 base channels, clips as they were recorded."""
    model = "bcbl24_44k"
    front_end = ARCHITECTURES[model].front_end
    return replace(bcbl(24), name=model, model=model, arguments={}, front_end=front_end)


def cp_mobile_2023() -> StudentRecipe:
    """CP-Mobile of CP-JKU's DCASE 2023 entry, as published but for int8.

    OURS: bands are masked before the logarithm, and the filterbank is always the same.
    """
    return StudentRecipe(
        name="cp_mobile_2023",
        model="cp_mobile_2023",
        front_end=ARCHITECTURES["cp_mobile_2023"].front_end,
        augmentation=replace(ASCDOMAIN, max_roll_samples=4000),
        training=TrainingRecipe(
            max_epochs=150,
            batch_size=256,
            peak_learning_rate=9e-4,
            weight_decay=1e-4,
            optimizer="adam",
            schedule=RampHoldLinear(
                ramp_epochs=14, hold_until_epoch=50, line_epochs=84, last_factor=0.005
            ),
        ),
        distillation=Distillation(reduction="element_mean"),
        device_loss_weight=0.0,
    )


def dsmn(model: str) -> StudentRecipe:
    """A DSMN as published: both tasks, mixup, no teachers; the weights that judge best remain.

    OURS: Adam with a warm-up where RAdam rectifies its first steps itself, the cosine from and to
    0, one narrow mask an axis instead of two, and mixup to the end on the whole batch; no spectrum
    modulation, whose published code reads the wrong labels; no sixth block.
    """
    return StudentRecipe(
        name=model,
        model=model,
        arguments={"sixth_block": False},
        front_end=ARCHITECTURES[model].front_end,
        augmentation=Augmentation(max_masked_bands=2, max_masked_frames=2),
        training=TrainingRecipe(
            max_epochs=100,
            batch_size=32,
            peak_learning_rate=1e-3,
            weight_decay=0.0,
            optimizer="adam",
            # 5 epochs of 139,620 clips.
            schedule=WarmupCosine(warmup_steps=21_820),
            keep="best",
        ),
        distillation=None,
        device_loss_weight=0.0,
        mixup=Mixup(alpha=0.2),
        two_tasks=True,
    )


def alone(recipe: StudentRecipe) -> StudentRecipe:
    """The baseline: the same student, taught in the same way, but without teachers."""
    return replace(recipe, name=f"{recipe.name}_alone", distillation=None)


_ASCDOMAIN_MODELS = (
    "isotropic_v2",
    "isotropic_v3",
    "isotropic_noact",
    "isotropic_mix",
    "recursive",
    "recursive_2x2",
    "recursive_2x3",
    "recursive_3x2",
)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        isotropic_ascdomain(),
        isotropic(),
        demo_isotropic(),
        small_isotropic(),
        isotropic_rsc(),
        isotropic_adversarial(),
        *(ascdomain_student(model) for model in _ASCDOMAIN_MODELS),
        dcase24_baseline(),
        *(bcbl(base_channels) for base_channels in (8, 16, 24, 32)),
        bcbl24_44k(),
        cp_mobile_2023(),
        *(dsmn(f"dsmn_model{number}") for number in (1, 2, 3)),
    )
}
"""DSMN's model 4 has none: its 140,748 parameters are over the challenge's limit even in int8."""
