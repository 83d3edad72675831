"""Checks that members can teach a student, from the footers of their logits and before any training."""

from collections.abc import Sequence
from pathlib import Path

from audio.clips import Corpus
from logit_store import LogitKey, LogitStore
from students.errors import UnfitSoftLabels
from students.recipe import StudentRecipe
from students.views import check_views


def check_teachers(
    recipe: StudentRecipe,
    corpus: Corpus,
    split: int,
    members: Sequence[LogitKey],
    store: LogitStore,
    responses: Path | None,
) -> None:
    """Check that members have the soft labels that a student needs; reads no logits.

    Args:
        recipe: the student's recipe; one that learns from labels alone has no teachers to check.
        corpus: the corpus that it is trained on.
        split: the split that it is trained on: 5, 10, 25, 50 or 100.
        members: view 0 of its teachers.
        store: the store with their logits.
        responses: the student's folder of impulse responses; None is the synthetic set.

    Raises:
        UnfitSoftLabels: there are no members, or a member has another corpus, split or other classes,
            or its views have another sound than the student's.
        MissingLogits: a member has no logits, or none of a view; names all that are absent.
        UnreadableFile: a file is damaged, or its logits belong to other clips than the store's.
    """
    if recipe.distillation is None:
        return
    if not members:
        raise UnfitSoftLabels(
            f"student recipe {recipe.name} learns from soft labels, but no member teaches it: name "
            "an ensemble or a member, or train it without teachers"
        )
    for key in members:
        _check_place(key, corpus.name, split, recipe.name)
    for key, footer in store.read_footers(members).items():
        _check_classes(key, footer.classes, corpus, recipe.name)
    check_views(recipe, members, store, responses)


def _check_place(key: LogitKey, corpus: str, split: int, student: str) -> None:
    if (key.corpus, key.split) != (corpus, split):
        raise UnfitSoftLabels(
            f"{key} was trained on split {key.split} of corpus {key.corpus}, student {student} on split "
            f"{split} of {corpus}: its soft labels would show clips that the student must not see; "
            "name members of that split"
        )


def _check_classes(key: LogitKey, classes: Sequence[str], corpus: Corpus, student: str) -> None:
    if tuple(classes) != corpus.scenes:
        raise UnfitSoftLabels(
            f"{key} has the classes {', '.join(classes)}, expected {', '.join(corpus.scenes)} as student "
            f"{student}: use members that were trained on corpus {corpus.name} as it is"
        )
