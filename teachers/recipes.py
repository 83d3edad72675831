"""The teacher recipes by name.

The numbers are those of ASCDomain's training scripts (hubtru/ASCDomain 91996e4). Which arguments
each published run was started with is not stated anywhere; these are the scripts' defaults, but
for early stopping, which there looked at the test split and here looks at `select`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from audio.log_mel import ASCDOMAIN_CNN, ASCDOMAIN_PASST, FrontEnd
from audio.views import ASCDOMAIN, Augmentation
from training import TrainingRecipe

DEMO_FRONT_END = replace(ASCDOMAIN_CNN, mel_bands=128, hop_samples=1000)
"""A quarter of the published front-end's bands x frames, so a quarter of a CNN's work."""


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
        augmentation=ASCDOMAIN,
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
        augmentation=replace(ASCDOMAIN, max_masked_frames=20, mixstyle_alpha=0.4),
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
    """A narrow MobileNet on a coarse spectrogram, from scratch."""
    base = replace(mn10_as_dir_fms(), name="demo_mn", arguments={"width": 0.3})
    return _demo(base, DEMO_FRONT_END, peak_learning_rate=3e-3)


def demo_dymn() -> TeacherRecipe:
    """A narrow Dynamic MobileNet on a coarse spectrogram, from scratch.

    The temperature is that at which training from scratch begins; the slow normalisation keeps
    rare, quiet clips in the running statistics, without which their logits explode.
    """
    arguments = {"width": 0.2, "temperature": 30.0}
    base = replace(dymn10_as_dir_fms(), name="demo_dymn", arguments=arguments)
    return _demo(base, DEMO_FRONT_END, peak_learning_rate=2e-3, norm_momentum=0.03)


def demo_passt() -> TeacherRecipe:
    """A PaSST of a quarter of the width and a third of the depth, from scratch."""
    arguments = {"embed_dim": 192, "depth": 4, "heads": 3}
    base = replace(passt_dir_fms(), name="demo_passt", arguments=arguments)
    return _demo(base, base.front_end, max_epochs=24, clips_per_epoch=128, peak_learning_rate=5e-4)


def demo_cpr() -> TeacherRecipe:
    """The full CP-ResNet on a coarse spectrogram."""
    base = replace(cpr_128_dir_fms(), name="demo_cpr")
    return _demo(base, DEMO_FRONT_END, peak_learning_rate=3e-3)


def _demo(
    base: TeacherRecipe,
    front_end: FrontEnd,
    *,
    peak_learning_rate: float,
    max_epochs: int = 40,
    clips_per_epoch: int = 256,
    norm_momentum: float = 0.1,
) -> TeacherRecipe:
    """`base` for a few hundred clips and two cores: a minute on any corpus and split."""
    return replace(
        base,
        weights=None,
        front_end=front_end,
        training=TrainingRecipe(
            max_epochs=max_epochs,
            batch_size=16,
            peak_learning_rate=peak_learning_rate,
            warmup_steps=30,
            clips_per_epoch=clips_per_epoch,
            norm_momentum=norm_momentum,
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
