"""Named students, and the ways in which they learn.

Sources: ASCDomain (hubtru/ASCDomain and its technical report) for architecture, schedule,
temperature and weights of the losses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from audio.log_mel import ASCDOMAIN_CNN, FrontEnd
from audio.views import ASCDOMAIN, Augmentation
from students.losses import Reduction
from training import TrainingRecipe, WarmupCosine


@dataclass(frozen=True, kw_only=True, slots=True)
class Distillation:
    """How much, and how soft, a student listens to its teachers."""

    temperature: float = 2.0
    """Softens teachers and student alike; 1 leaves the logits as they are."""
    hard_label_weight: float = 0.02
    """Share of the loss given to the true labels: 0 is soft labels only."""
    reduction: Reduction = "batch_mean"
    """`element_mean`, as published, makes the soft labels' part K times smaller."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentRecipe:
    """All that decides what a student becomes, but for corpus, split, seed and soft labels."""

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


def alone(recipe: StudentRecipe) -> StudentRecipe:
    """The baseline: the same student, taught in the same way, but without teachers."""
    return replace(recipe, name=f"{recipe.name}_alone", distillation=None)


RECIPES = {recipe.name: recipe for recipe in (isotropic_ascdomain(), isotropic(), demo_isotropic())}
