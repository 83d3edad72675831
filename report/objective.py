"""How a student learns, in the words of `students.ways`."""

from students import StudentRecipe
from students.challenge import Challenge
from students.losses import Decoupled, Dist
from students.mixup import Mixup
from students.recipes import Distillation
from students.ways import ADVERSARIAL_WEIGHT
from training.averaging import Ema, Soup


def objective(recipe: StudentRecipe) -> str:
    """Words of `students.ways.WAYS` joined by +; a number where it is not the word's own."""
    words = ["alone"] if recipe.distillation is None else _soft_labels(recipe.distillation)
    if recipe.mixup:
        words.append(_word("mixup", recipe.mixup.alpha, Mixup().alpha))
    if recipe.device_loss_weight:
        words.append(_word("adversarial", recipe.device_loss_weight, ADVERSARIAL_WEIGHT))
    if recipe.challenge:
        words.append(_word("rsc", recipe.challenge.drop_clips, Challenge().drop_clips))
    match recipe.training.keep:
        case Ema(decay=decay):
            words.append(_word("ema", decay, Ema().decay))
        case Soup(epochs=epochs):
            words.append(_word("soup", epochs, Soup().epochs))
    return "+".join(words)


def _soft_labels(distillation: Distillation) -> list[str]:
    plain = Distillation()
    match distillation.loss:
        case Decoupled():
            first = ["decoupled"]
        case Dist():
            first = ["dist"]
        case _:
            first = ["distilled"]
    if distillation.reduction != plain.reduction:
        first.append("published")
    first += [name for name in ("standardized", "confident") if getattr(distillation, name)]
    if distillation.temperature != plain.temperature:
        first.append(f"temperature={distillation.temperature:g}")
    if distillation.hard_label_weight != plain.hard_label_weight:
        first.append(f"labels={distillation.hard_label_weight:g}")
    if distillation.n_views is not None:
        first.append(f"views={distillation.n_views}")
    return first


def _word(name: str, number: float, usual: float) -> str:
    return name if number == usual else f"{name}={number:g}"
