"""The objective of a student, in the words of `students.ways`."""

from typing import assert_never

from audio.views import SpectrumModulation
from students import StudentRecipe
from students.recipe import (
    Challenge,
    Decoupled,
    Dist,
    Distillation,
    FeatureDistillation,
    Mixup,
)
from students.ways import ADVERSARIAL_WEIGHT
from training.recipe import Ema, Soup


def describe_objective(recipe: StudentRecipe) -> str:
    """Join words of `students.ways.WAYS` by +; unusual numbers are added to their words."""
    words = (
        ["alone"] if recipe.distillation is None else _describe_distillation(recipe.distillation)
    )
    if recipe.mixup:
        words.append(_add_number("mixup", recipe.mixup.alpha, Mixup().alpha))
    if isinstance(recipe.augmentation, SpectrumModulation):
        usual = SpectrumModulation().modulation_probability
        words.append(_add_number("modulated", recipe.augmentation.modulation_probability, usual))
    if recipe.device_loss_weight:
        words.append(_add_number("adversarial", recipe.device_loss_weight, ADVERSARIAL_WEIGHT))
    if recipe.challenge:
        words += _describe_challenge(recipe.challenge)
    match recipe.training.keep:
        case Ema(decay=decay):
            words.append(_add_number("ema", decay, Ema().decay))
        case Soup(epochs=epochs):
            words.append(_add_number("soup", epochs, Soup().epochs))
    return "+".join(words)


def _describe_challenge(challenge: Challenge) -> list[str]:
    features, clips = challenge.drop_features, challenge.drop_clips
    if features == clips:
        return [_add_number("rsc", clips, Challenge().drop_clips)]
    return [f"rsc_features={features:g}", f"rsc_clips={clips:g}"]


def _describe_distillation(distillation: Distillation) -> list[str]:
    plain = Distillation()
    match distillation.loss:
        case Decoupled():
            first = ["decoupled"]
        case Dist():
            first = ["dist"]
        case "divergence":
            first = ["distilled"]
        case unknown:
            assert_never(unknown)
    if distillation.reduction != plain.reduction:
        first.append("published")
    first += [name for name in ("standardized", "confident") if getattr(distillation, name)]
    if isinstance(distillation, FeatureDistillation):
        usual = FeatureDistillation().feature_weight
        first.append(_add_number("features", distillation.feature_weight, usual))
    if distillation.temperature != plain.temperature:
        first.append(f"temperature={distillation.temperature:g}")
    if distillation.hard_label_weight != plain.hard_label_weight:
        first.append(f"labels={distillation.hard_label_weight:g}")
    if distillation.n_views is not None:
        first.append(f"views={distillation.n_views}")
    return first


def _add_number(name: str, number: float, usual: float) -> str:
    return name if number == usual else f"{name}={number:g}"
