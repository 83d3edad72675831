"""Checks that view v of a clip is the same sound for a student and for its teachers.

The sound of a view depends on (corpus, row, view) and on the settings that change the waveform: the
longest roll, the impulse responses and how often they are applied, and random windows. These must
agree. Masks are drawn on a model's own spectrogram, and Freq-MixStyle mixes clips of a batch: these
belong to the model that is trained, and may differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from audio import impulse_responses
from logit_store import LogitKey, LogitStore
from students.errors import UnfitSoftLabels
from students.recipe import StudentRecipe
from training import list_view_keys


def check_views(
    recipe: StudentRecipe,
    members: Sequence[LogitKey],
    store: LogitStore,
    responses: Path | None,
) -> None:
    """Check that all members have the views that a student sees, with the same sound.

    Args:
        recipe: the student's recipe; one without stored views always passes.
        members: view 0 of its teachers.
        store: the store with their logits and records.
        responses: the student's folder of impulse responses; None is the synthetic set.

    Raises:
        MissingLogits: a member has no logits of a view; names all that are absent.
        UnfitSoftLabels: no members are named, or one was given another sound; says which.
    """
    n_views = recipe.distillation.n_views if recipe.distillation else None
    if n_views is None:
        return
    if not members:
        raise UnfitSoftLabels(
            f"student recipe {recipe.name} learns from {n_views} stored views, but no members "
            "are named: name them"
        )
    own = _describe_sound(
        asdict(recipe.augmentation),
        recipe.front_end.sample_rate,
        crops=False,
        responses=impulse_responses.identify_responses(responses),
    )
    keys = [key for member in members for key in list_view_keys(member, n_views)]
    for key, footer in store.read_footers(keys).items():
        if key.view:
            _check_sound(key, footer.record, recipe.name, own)


def _check_sound(
    key: LogitKey, record: Mapping[str, Any], student: str, own: Mapping[str, object]
) -> None:
    try:
        sounds = _list_sounds(record)
    except (KeyError, TypeError) as error:
        raise UnfitSoftLabels(
            f"{key}: its record does not say how the clips were changed (view_augmentation, responses, "
            "recipe.front_end.sample_rate and recipe.length.how), so it is unknown whether student "
            f"{student} would hear the same: write these views again as docs/own-teacher.md does"
        ) from error
    for sound in sounds:
        differing = [name for name in own if sound[name] != own[name]]
        if differing:
            difference = "; ".join(
                f"{name} {sound[name]}, the student {own[name]}" for name in differing
            )
            raise UnfitSoftLabels(
                f"{key} heard another sound than student {student} would: {difference}; use members, or a "
                "student, that hear the same, or distil without views"
            )


def _list_sounds(record: Mapping[str, Any]) -> list[dict[str, object]]:
    """Return what a member heard; of a probe, what each of its frozen networks heard."""
    # The embeddings of view 0 serve probes with all impulse responses, so theirs say nothing.
    responses = record["responses"]
    if "backbones" in record:
        return [
            _describe_sound(
                each["view_augmentation"],
                each["sample_rate"],
                crops=each["length"]["how"] == "crop",
                responses=responses,
            )
            for each in record["backbones"]
        ]
    recipe = record["recipe"]
    return [
        _describe_sound(
            record["view_augmentation"],
            recipe["front_end"]["sample_rate"],
            # A student takes whole clips, and its recipe says nothing about their length.
            crops=record["kind"] != "student" and recipe["length"]["how"] == "crop",
            responses=responses,
        )
    ]


def _describe_sound(
    augmentation: Mapping[str, Any], sample_rate: int, *, crops: bool, responses: str
) -> dict[str, object]:
    """Return all settings that the sound of a view depends on, besides corpus, row and view."""
    probability = augmentation["impulse_response_probability"]
    return {
        "rolls by at most s": augmentation["max_roll_samples"] / sample_rate,
        "share with an impulse response": probability,
        "impulse responses": responses if probability else "none",
        "random windows": crops,
    }
