"""Ways of learning by name, put together with `+`: decoupled+mixup=0.4+soup."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from audio.views import stored_views
from students.challenge import Challenge
from students.losses import Decoupled, Dist
from students.mixup import Mixup
from students.recipes import Distillation, StudentRecipe
from training.averaging import Ema, Soup

AS_NAMED = "as_named"
"""The way of the recipe itself."""
ADVERSARIAL_WEIGHT = 0.025
"""Of the device loss beside soft labels, as ASCDomain has it."""

Way = Callable[..., StudentRecipe]


def _distilling(recipe: StudentRecipe, **changes: Any) -> StudentRecipe:
    if recipe.distillation is None:
        raise ValueError(f"{recipe.name} learns from labels alone: put distilled before it")
    return replace(recipe, distillation=replace(recipe.distillation, **changes))


def _averaged(recipe: StudentRecipe, keep: Ema | Soup) -> StudentRecipe:
    return replace(recipe, training=replace(recipe.training, keep=keep))


def _adversarial(recipe: StudentRecipe, weight: float = ADVERSARIAL_WEIGHT) -> StudentRecipe:
    return replace(recipe, device_loss_weight=weight)


def _mixup(recipe: StudentRecipe, alpha: float = Mixup().alpha) -> StudentRecipe:
    return replace(recipe, mixup=Mixup(alpha=alpha))


def _rsc(recipe: StudentRecipe, drop: float = 0.05) -> StudentRecipe:
    return replace(recipe, challenge=Challenge(drop_features=drop, drop_clips=drop))


def _ema(recipe: StudentRecipe, decay: float = Ema().decay) -> StudentRecipe:
    return _averaged(recipe, Ema(decay=decay))


def _soup(recipe: StudentRecipe, epochs: int = Soup().epochs) -> StudentRecipe:
    return _averaged(recipe, Soup(epochs=epochs))


def _views(recipe: StudentRecipe, n_views: int) -> StudentRecipe:
    heard = stored_views(recipe.front_end.sample_rate)
    augmentation = replace(
        recipe.augmentation,
        max_roll_samples=heard.max_roll_samples,
        impulse_response_probability=heard.impulse_response_probability,
    )
    return replace(_distilling(recipe, n_views=n_views), augmentation=augmentation)


def _temperature(recipe: StudentRecipe, temperature: float) -> StudentRecipe:
    return _distilling(recipe, temperature=temperature)


def _labels(recipe: StudentRecipe, weight: float) -> StudentRecipe:
    return _distilling(recipe, hard_label_weight=weight)


WAYS: Mapping[str, Way] = {
    AS_NAMED: lambda recipe: recipe,
    "alone": lambda recipe: replace(recipe, distillation=None),
    "distilled": lambda recipe: replace(recipe, distillation=Distillation()),
    "published": lambda recipe: _distilling(recipe, reduction="element_mean"),
    "standardized": lambda recipe: _distilling(recipe, standardized=True),
    "decoupled": lambda recipe: _distilling(recipe, loss=Decoupled()),
    "dist": lambda recipe: _distilling(recipe, loss=Dist()),
    "confident": lambda recipe: _distilling(recipe, confident=True),
    "temperature": _temperature,
    "labels": _labels,
    "views": _views,
    "mixup": _mixup,
    "adversarial": _adversarial,
    "plain": lambda recipe: replace(recipe, device_loss_weight=0.0),
    "rsc": _rsc,
    "ema": _ema,
    "soup": _soup,
}
"""What each word makes of a recipe, some with a number."""


def taught(recipe: StudentRecipe, way: str) -> StudentRecipe:
    """The recipe as it learns in this way, under a name that says so.

    Args:
        recipe: what is changed.
        way: words of `WAYS`, joined by +, each with its number where it takes one (temperature=4);
            applied from left to right.

    Raises:
        ValueError: an unknown word, a number too many, missing or out of range, or words that
            contradict each other or the recipe; says which.
    """
    if way == AS_NAMED:
        return recipe
    changed = recipe
    for word in way.split("+"):
        name, _, number = word.partition("=")
        try:
            changed = _way(name)(changed, *_numbers(name, number))
        except ValueError as error:
            raise ValueError(f"way {way!r}, {word!r}: {error}") from error
    return replace(changed, name=f"{recipe.name}_{way.replace('+', '_').replace('=', '')}")


def _way(name: str) -> Way:
    if name not in WAYS:
        near = get_close_matches(name, WAYS, n=3) or list(WAYS)
        raise ValueError(f"no such way to learn; there are: {', '.join(near)}")
    return WAYS[name]


def _numbers(name: str, text: str) -> list[float]:
    """The number behind a way's name, as the type that the way takes; none where none is given."""
    parameters = list(inspect.signature(_way(name)).parameters.values())[1:]
    if not text:
        if parameters and parameters[0].default is inspect.Parameter.empty:
            raise ValueError(f"expected a number: {name}=...")
        return []
    if not parameters:
        raise ValueError(f"{name} takes no number")
    kind = parameters[0].annotation
    try:
        return [kind(text)]
    except ValueError:
        raise ValueError(f"{text!r} is no {kind.__name__}") from None
