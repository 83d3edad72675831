"""Do a student and its teachers mean the same by view v of a clip?

What is heard of a view follows from (corpus, row, view) and from what may happen to a clip at all:
from the longest roll, from how often and by which impulse responses clips are coloured, and from
random windows. These must agree. Masks lie on a model's own spectrogram, and Freq-MixStyle between
the clips of a batch: they belong to who learns, and may differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from audio import impulse_responses
from logit_store import LogitKey, LogitStore
from students.recipes import StudentRecipe
from students.soft import UnfitSoftLabels
from training import view_keys


def check_views(
    recipe: StudentRecipe,
    members: Sequence[LogitKey],
    store: LogitStore,
    responses: Path | None,
) -> None:
    """Make sure that all members have the views that a student sees, and heard what it hears.

    Args:
        recipe: of the student; one that learns from no stored views is always fine.
        members: view 0 of those who teach it.
        store: where their logits and records are.
        responses: the student's folder of impulse responses; None is the synthetic set.

    Raises:
        MissingLogits: a member has no logits of a view; names all that are absent.
        UnfitSoftLabels: no members are named, or one heard something else; says what.
    """
    n_views = recipe.distillation.n_views if recipe.distillation else None
    if n_views is None:
        return
    if not members:
        raise UnfitSoftLabels(
            f"student recipe {recipe.name} learns from {n_views} stored views, but nobody says "
            "whose: name the members"
        )
    own = _heard(
        asdict(recipe.augmentation),
        recipe.front_end.sample_rate,
        crops=False,
        responses=impulse_responses.identity(responses),
    )
    keys = [key for member in members for key in view_keys(member, n_views)]
    for key, footer in store.footers(keys).items():
        if key.view:
            _check_heard(key, footer.record, recipe.name, own)


def _check_heard(
    key: LogitKey, record: Mapping[str, Any], student: str, own: Mapping[str, object]
) -> None:
    try:
        recipe = record["recipe"]
        heard = _heard(
            record["view_augmentation"],
            recipe["front_end"]["sample_rate"],
            # A student takes whole clips, and its recipe says nothing of their length.
            crops=record["kind"] != "student" and recipe["length"]["how"] == "crop",
            responses=record["responses"],
        )
    except (KeyError, TypeError) as error:
        raise UnfitSoftLabels(
            f"{key}: its record does not say what was done to the clips ({error!r}), so nobody "
            f"knows whether student {student} would hear the same: predict these views again"
        ) from error
    differing = [name for name in own if heard[name] != own[name]]
    if differing:
        told = "; ".join(f"{name} {heard[name]}, the student {own[name]}" for name in differing)
        raise UnfitSoftLabels(
            f"{key} heard other clips than student {student} would: {told}; use members, or a "
            "student, that hear the same, or distil without views"
        )


def _heard(
    augmentation: Mapping[str, Any], sample_rate: int, *, crops: bool, responses: str
) -> dict[str, object]:
    """All that what is heard of a view follows from, beside corpus, row and view."""
    probability = augmentation["impulse_response_probability"]
    return {
        "rolls by at most s": augmentation["max_roll_samples"] / sample_rate,
        "share with an impulse response": probability,
        "impulse responses": responses if probability else "none",
        "random windows": crops,
    }
