"""May these members teach this student? Answered from the footers of their logits, before it learns."""

from collections.abc import Sequence
from pathlib import Path

from audio.clips import Corpus
from logit_store import LogitKey, LogitStore
from students.recipes import StudentRecipe
from students.soft import UnfitSoftLabels
from students.views import check_views


def check_teachers(
    recipe: StudentRecipe,
    corpus: Corpus,
    split: int,
    members: Sequence[LogitKey],
    store: LogitStore,
    responses: Path | None,
) -> None:
    """Make sure that members have what a student learns from; reads no logits.

    Args:
        recipe: of the student; one that learns from labels alone has no teachers to check.
        corpus: whose clips it learns.
        split: that it learns: 5, 10, 25, 50 or 100.
        members: view 0 of those who teach it.
        store: where their logits are.
        responses: the student's folder of impulse responses; None is the synthetic set.

    Raises:
        UnfitSoftLabels: nobody teaches, or a member is of another corpus, split or of other
            classes, or heard other views than the student would.
        MissingLogits: a member has no logits, or none of a view; names all that are absent.
        UnreadableFile: logits of other clips than the store's, or damaged.
    """
    if recipe.distillation is None:
        return
    if not members:
        raise UnfitSoftLabels(
            f"student recipe {recipe.name} learns from soft labels, but no member teaches it: name "
            "an ensemble or a member, or teach it alone"
        )
    for key in members:
        _check_place(key, corpus.name, split, recipe.name)
    for key, footer in store.footers(members).items():
        _check_classes(key, footer.classes, corpus, recipe.name)
    check_views(recipe, members, store, responses)


def _check_place(key: LogitKey, corpus: str, split: int, student: str) -> None:
    if (key.corpus, key.split) != (corpus, split):
        raise UnfitSoftLabels(
            f"{key} learnt split {key.split} of corpus {key.corpus}, student {student} learns split "
            f"{split} of {corpus}: its soft labels would tell of clips that the student may not "
            "know; name members of that split"
        )


def _check_classes(key: LogitKey, classes: Sequence[str], corpus: Corpus, student: str) -> None:
    if tuple(classes) != corpus.scenes:
        raise UnfitSoftLabels(
            f"{key} tells the classes {', '.join(classes)} apart, expected {', '.join(corpus.scenes)} "
            f"as student {student} does: use members that were taught corpus {corpus.name} as it is"
        )
