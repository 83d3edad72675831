"""The teacher recipes by name.

The numbers are those of ASCDomain's training scripts (hubtru/ASCDomain 91996e4). Which arguments
each published run was started with is not stated anywhere; these are the scripts' defaults, but
for early stopping, which there looked at the test split and here looks at `select`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from audio.log_mel import ASCDOMAIN_CNN, ASCDOMAIN_PASST, FrontEnd
from audio.views import Augmentation
from training import TrainingRecipe

DEMO_CLIPS_PER_EPOCH = 128
"""Makes a demo run take the same time on any corpus and split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherRecipe:
    """All that decides what a teacher becomes, but for corpus, split and seed."""

    name: str
    model: str
    """Name in `teachers.catalogue`."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of the model's arguments."""
    weights: str | None
    """What it starts from: "audioset", or None for random weights."""
    front_end: FrontEnd
    augmentation: Augmentation
    training: TrainingRecipe


def mn10_as_dir_fms() -> TeacherRecipe:
    """MobileNet of width 1.0, from AudioSet."""
    return TeacherRecipe(
        name="mn10_as_dir_fms",
        model="mn10_as",
        weights="audioset",
        front_end=ASCDOMAIN_CNN,
        augmentation=Augmentation(
            max_roll_samples=3200,
            impulse_response_probability=0.6,
            max_masked_bands=48,
            mixstyle_probability=0.4,
            mixstyle_alpha=0.3,
        ),
        training=TrainingRecipe(
            max_epochs=150, batch_size=256, peak_learning_rate=2e-4, patience=5, keep="best"
        ),
    )


def dymn10_as_dir_fms() -> TeacherRecipe:
    """Dynamic MobileNet of width 1.0, from AudioSet.

    The published logits are those of the last epoch, ten after the best; here, of the best.
    """
    base = mn10_as_dir_fms()
    return replace(
        base,
        name="dymn10_as_dir_fms",
        model="dymn10_as",
        training=replace(base.training, patience=10),
    )


def passt_dir_fms() -> TeacherRecipe:
    """PaSST-S with structured patchout, from AudioSet."""
    return TeacherRecipe(
        name="passt_dir_fms",
        model="passt",
        weights="audioset",
        front_end=ASCDOMAIN_PASST,
        augmentation=Augmentation(
            max_roll_samples=3200,
            impulse_response_probability=0.6,
            max_masked_bands=48,
            max_masked_frames=20,
            mixstyle_probability=0.4,
            mixstyle_alpha=0.4,
        ),
        training=TrainingRecipe(max_epochs=25, batch_size=80, peak_learning_rate=5e-5),
    )


def cpr_128_dir_fms() -> TeacherRecipe:
    """CP-ResNet of 128 K parameters, from scratch."""
    base = mn10_as_dir_fms()
    return replace(
        base,
        name="cpr_128_dir_fms",
        model="cpr_128",
        weights=None,
        augmentation=replace(
            base.augmentation,
            impulse_response_probability=0.4,
            mixstyle_probability=0.8,
            mixstyle_alpha=0.4,
        ),
        training=TrainingRecipe(max_epochs=150, batch_size=256, peak_learning_rate=5e-3),
    )


def demo_mn() -> TeacherRecipe:
    """A MobileNet that two cores teach from scratch in a minute."""
    return _demo(mn10_as_dir_fms(), "demo_mn", {"width": 0.3}, 24, 2e-3)


def demo_dymn() -> TeacherRecipe:
    """A Dynamic MobileNet that two cores teach from scratch in a minute."""
    return _demo(dymn10_as_dir_fms(), "demo_dymn", {"width": 0.2}, 24, 1e-3)


def demo_passt() -> TeacherRecipe:
    """A PaSST of a quarter of the width and a third of the depth."""
    arguments = {"embed_dim": 192, "depth": 4, "heads": 3}
    return _demo(passt_dir_fms(), "demo_passt", arguments, 24, 1e-3)


def demo_cpr() -> TeacherRecipe:
    """The full CP-ResNet: it is small enough as it is."""
    return _demo(cpr_128_dir_fms(), "demo_cpr", {}, 24, 3e-3)


def _demo(
    base: TeacherRecipe,
    name: str,
    arguments: Mapping[str, Any],
    epochs: int,
    peak_learning_rate: float,
) -> TeacherRecipe:
    """`base` for a few hundred clips, from scratch: small batches, a short warm-up."""
    return replace(
        base,
        name=name,
        arguments=arguments,
        weights=None,
        training=TrainingRecipe(
            max_epochs=epochs,
            batch_size=16,
            peak_learning_rate=peak_learning_rate,
            warmup_steps=30,
            clips_per_epoch=DEMO_CLIPS_PER_EPOCH,
            norm_momentum=0.1,
            keep="best",
        ),
    )


RECIPES = {
    recipe.name: recipe
    for recipe in (
        mn10_as_dir_fms(),
        dymn10_as_dir_fms(),
        passt_dir_fms(),
        cpr_128_dir_fms(),
        demo_mn(),
        demo_dymn(),
        demo_passt(),
        demo_cpr(),
    )
}
PUBLISHED = tuple(name for name in RECIPES if not name.startswith("demo_"))
DEMO = tuple(name for name in RECIPES if name.startswith("demo_"))
