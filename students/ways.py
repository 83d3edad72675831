"""Ways of learning by name, joined with `+`: dist+mixup=0.4+soup."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Annotated, Any, get_args

from audio.views import Augmentation, SpectrumModulation, stored_views
from students.recipe import (
    Challenge,
    Decoupled,
    Dist,
    Distillation,
    FeatureDistillation,
    Mixup,
    StudentRecipe,
)
from students.recipes import RECIPES
from terminal.values import above, expect, whole
from training import Ema, Soup

AS_NAMED = "as_named"
"""The way of the recipe itself."""
ADVERSARIAL_WEIGHT = 0.025
"""Weight of the device loss beside soft labels, as in ASCDomain."""

_MODULATION = SpectrumModulation().modulation_probability
_CHANGES = tuple(each.name for each in fields(Augmentation))
_MIXUP, _EMA, _FEATURES = Mixup(), Ema(), FeatureDistillation()

Way = Callable[..., StudentRecipe]

Positive = Annotated[float, above(0, to=1_000)]
Weight = Annotated[float, expect("a number from 0 to 1,000", lambda value: 0 <= value <= 1_000)]
Share = Annotated[float, expect("a share from 0 to 1", lambda value: 0 <= value <= 1)]
"""Each recipe says which of the two ends it takes."""


def _change_distillation(recipe: StudentRecipe, **changes: Any) -> StudentRecipe:
    if recipe.distillation is None:
        raise ValueError(f"{recipe.name} learns from labels alone: put distilled before it")
    return replace(recipe, distillation=replace(recipe.distillation, **changes))


def _average_weights(recipe: StudentRecipe, keep: Ema | Soup) -> StudentRecipe:
    return replace(recipe, training=replace(recipe.training, keep=keep))


def _set_adversary(recipe: StudentRecipe, weight: Weight = ADVERSARIAL_WEIGHT) -> StudentRecipe:
    return replace(recipe, device_loss_weight=weight)


def _set_mixup(recipe: StudentRecipe, alpha: Positive = _MIXUP.alpha) -> StudentRecipe:
    return replace(recipe, mixup=Mixup(alpha=alpha))


def _set_challenge(recipe: StudentRecipe, drop: Share = 0.05) -> StudentRecipe:
    return replace(recipe, challenge=Challenge(drop_features=drop, drop_clips=drop))


def _set_challenged_features(recipe: StudentRecipe, drop: Share) -> StudentRecipe:
    challenge = recipe.challenge or Challenge()
    return replace(recipe, challenge=replace(challenge, drop_features=drop))


def _set_challenged_clips(recipe: StudentRecipe, drop: Share) -> StudentRecipe:
    challenge = recipe.challenge or Challenge()
    return replace(recipe, challenge=replace(challenge, drop_clips=drop))


def _set_modulation(recipe: StudentRecipe, probability: Share = _MODULATION) -> StudentRecipe:
    settings = {name: getattr(recipe.augmentation, name) for name in _CHANGES}
    modulated = SpectrumModulation(**settings, modulation_probability=probability)
    return replace(recipe, augmentation=modulated)


def _set_ema(recipe: StudentRecipe, decay: Share = _EMA.decay) -> StudentRecipe:
    return _average_weights(recipe, Ema(decay=decay))


def _set_soup(
    recipe: StudentRecipe, epochs: Annotated[int, whole(2, 1_000_000)] = Soup().epochs
) -> StudentRecipe:
    return _average_weights(recipe, Soup(epochs=epochs))


def _set_views(recipe: StudentRecipe, n_views: Annotated[int, whole(1, 1_000)]) -> StudentRecipe:
    stored = stored_views(recipe.front_end.sample_rate)
    augmentation = replace(
        recipe.augmentation,
        max_roll_samples=stored.max_roll_samples,
        impulse_response_probability=stored.impulse_response_probability,
    )
    return replace(_change_distillation(recipe, n_views=n_views), augmentation=augmentation)


def _set_temperature(recipe: StudentRecipe, temperature: Positive) -> StudentRecipe:
    return _change_distillation(recipe, temperature=temperature)


def _set_features(
    recipe: StudentRecipe, weight: Positive = _FEATURES.feature_weight
) -> StudentRecipe:
    way = _change_distillation(recipe).distillation
    settings = {each.name: getattr(way, each.name) for each in fields(Distillation)}
    return replace(recipe, distillation=FeatureDistillation(**settings, feature_weight=weight))


def _set_label_weight(recipe: StudentRecipe, weight: Share) -> StudentRecipe:
    return _change_distillation(recipe, hard_label_weight=weight)


WAYS: Mapping[str, Way] = {
    AS_NAMED: lambda recipe: recipe,
    "alone": lambda recipe: replace(recipe, distillation=None),
    "distilled": lambda recipe: replace(recipe, distillation=Distillation()),
    "published": lambda recipe: _change_distillation(recipe, reduction="element_mean"),
    "standardized": lambda recipe: _change_distillation(recipe, standardized=True),
    "decoupled": lambda recipe: _change_distillation(recipe, loss=Decoupled()),
    "dist": lambda recipe: _change_distillation(recipe, loss=Dist()),
    "confident": lambda recipe: _change_distillation(recipe, confident=True),
    "features": _set_features,
    "temperature": _set_temperature,
    "labels": _set_label_weight,
    "views": _set_views,
    "mixup": _set_mixup,
    "modulated": _set_modulation,
    "adversarial": _set_adversary,
    "plain": lambda recipe: replace(recipe, device_loss_weight=0.0),
    "rsc": _set_challenge,
    "rsc_features": _set_challenged_features,
    "rsc_clips": _set_challenged_clips,
    "ema": _set_ema,
    "soup": _set_soup,
}
"""What each word changes in a recipe; some take a number."""

_SCHOOL = replace(RECIPES["isotropic"], distillation=Distillation())
"""A recipe to which each word alone can be applied."""


def apply_way(recipe: StudentRecipe, way: str) -> StudentRecipe:
    """Return the recipe changed by a way, under a name that contains the way.

    Args:
        recipe: what is changed.
        way: words of `WAYS`, joined by +, each with its number if it takes one (temperature=4);
            applied from left to right.

    Raises:
        ValueError: an unknown word, a superfluous or missing number or one out of range, or words
            that contradict each other or the recipe; says which.
    """
    if way == AS_NAMED:
        return recipe
    words = way.split("+")
    changed = _apply_words(recipe, words, way)
    if changed.distillation is None and (taught := find_taught_word(way)):
        raise ValueError(
            f"way {way!r}: {taught} is how soft labels teach, and alone leaves them out; leave out one of the two"
        )
    for place, word in enumerate(words):
        if _is_undone(recipe, words, place, changed):
            raise ValueError(
                f"way {way!r}: {word!r} changes nothing, because the words after it set the same; leave one out"
            )
    return replace(changed, name=f"{recipe.name}_{way.replace('+', '_').replace('=', '')}")


def _apply_words(recipe: StudentRecipe, words: Sequence[str], way: str) -> StudentRecipe:
    for word in words:
        name, _, number = word.partition("=")
        try:
            recipe = _find_way(name)(recipe, *_parse_numbers(name, number))
        except ValueError as error:
            raise ValueError(f"way {way!r}, {word!r}: {error}") from error
    return recipe


def _is_undone(
    recipe: StudentRecipe, words: Sequence[str], place: int, changed: StudentRecipe
) -> bool:
    """Return whether a word changes something, of which the words after it leave nothing."""
    before, after, way = words[:place], words[place + 1 :], "+".join(words)
    # rsc_features changes a part of what rsc says, and the rest stays as it is without the word.
    refined = any(each.startswith(f"{words[place]}_") for each in after)
    if (
        not after
        or refined
        or _apply_words(recipe, before, way) == _apply_words(recipe, [*before, words[place]], way)
    ):
        return False
    try:
        return _apply_words(recipe, [*before, *after], way) == changed
    except ValueError:
        # The words after it are possible only with it.
        return False


def check_way(way: str) -> None:
    """Make sure that a way consists of known words, each with the number that it takes, in its range.

    Raises:
        ValueError: it does not; says which word.
    """
    for word in way.split("+"):
        name, _, number = word.partition("=")
        try:
            _find_way(name)(_SCHOOL, *_parse_numbers(name, number))
        except ValueError as error:
            raise ValueError(f"{word!r}: {error}") from error


def find_taught_word(way: str) -> str | None:
    """Return the first word of a way that says how soft labels teach; None if there is none.

    Raises:
        ValueError: an unknown word, or a superfluous or missing number or one out of range.
    """
    for word in way.split("+"):
        name, _, number = word.partition("=")
        taught = _find_way(name)(_SCHOOL, *_parse_numbers(name, number)).distillation
        if taught is not None and taught is not _SCHOOL.distillation:
            return word
    return None


def _find_way(name: str) -> Way:
    if name not in WAYS:
        near = get_close_matches(name, WAYS, n=3) or list(WAYS)
        raise ValueError(f"no such way to learn; there are: {', '.join(near)}")
    return WAYS[name]


def _parse_numbers(name: str, text: str) -> list[float]:
    """Return the number after a way's name, in the type that the way takes; an empty list if none."""
    parameters = list(inspect.signature(_find_way(name)).parameters.values())[1:]
    if not text:
        if parameters and parameters[0].default is inspect.Parameter.empty:
            raise ValueError(f"expected a number: {name}=...")
        return []
    if not parameters:
        raise ValueError(f"{name} takes no number")
    kind, check = get_args(parameters[0].annotation)
    try:
        number = kind(text)
    except ValueError:
        raise ValueError(f"{text!r} is no {kind.__name__}") from None
    if (fault := check.find_fault(number)) is not None:
        raise ValueError(f"{text}: {fault}")
    return [number]
