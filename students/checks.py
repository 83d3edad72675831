"""Checks that members can teach a student, from the footers of their logits and before any training."""

from collections.abc import Sequence
from pathlib import Path

from audio.clips import Corpus
from logit_store import LogitKey, LogitStore
from students.errors import UnfitLabels, UnfitPool, UnfitSoftLabels
from students.recipe import Decoupled, FeatureDistillation, StudentRecipe
from students.views import check_views


def refuse_pool(recipe: StudentRecipe) -> None:
    """Refuse a recipe that cannot learn from clips without a label.

    Raises:
        UnfitPool: it needs the true class of each clip, or has no teachers; says which.
    """
    way = recipe.distillation
    if way is None:
        raise UnfitPool(
            f"student recipe {recipe.name} learns from labels alone, and the clips of a pool have none: "
            "they teach by soft labels; leave out the pool, or give the student teachers"
        )
    needs_class = {
        "decoupled (Decoupled)": isinstance(way.loss, Decoupled),
        "rsc (Challenge)": recipe.challenge is not None,
        "two tasks": recipe.two_tasks,
    }
    for what, is_so in needs_class.items():
        if is_so:
            raise UnfitPool(
                f"student recipe {recipe.name}: {what} needs the true class of each clip, and the clips "
                "of a pool have no label; leave out the pool, or this"
            )


def check_embeddings(recipe: StudentRecipe, names: Sequence[str]) -> None:
    """Make sure that a recipe has embeddings to learn from if it learns from them, and else none.

    Args:
        recipe: the student's recipe.
        names: the names of the embeddings that are at hand.

    Raises:
        UnfitSoftLabels: it does not have what it needs, or has what it does not use; a ValueError.
    """
    if isinstance(recipe.distillation, FeatureDistillation) == bool(names):
        return
    if names:
        raise UnfitSoftLabels(
            f"student recipe {recipe.name} does not learn from embeddings, and is given {', '.join(names)}: "
            "add the way features, or leave them out"
        )
    raise UnfitSoftLabels(
        f"student recipe {recipe.name}: its features are to predict embeddings of its teachers "
        f"({recipe.distillation}), and it is given none: name teachers whose embeddings are in the store, or "
        "leave out the way features"
    )


def refuse_several(recipe: StudentRecipe, corpus: Corpus) -> None:
    """Refuse a recipe that cannot learn from clips with several labels, or none.

    Raises:
        UnfitLabels: the clips are such, and it needs their one true class, or compares classes with each
            other; says which.
    """
    if not corpus.has_several_labels:
        return
    way = recipe.distillation
    unfit = {
        "rsc (Challenge) needs the true class of each clip": recipe.challenge is not None,
        "two tasks need the group of the true class": recipe.two_tasks,
    }
    if way is not None:
        unfit |= {
            f"the loss {way.loss} compares classes with each other": way.loss != "divergence",
            "standardised logits lose how sure each class is": way.standardized,
            "confidence is that of a choice among classes": way.confident,
            "element_mean is for sums over classes, and here is their mean": (
                way.reduction == "element_mean"
            ),
        }
    for what, is_so in unfit.items():
        if is_so:
            raise UnfitLabels(
                f"student recipe {recipe.name}: {what}, and clips of corpus {corpus.name} have several "
                "labels or none; leave it out"
            )


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
        check_classes(key, footer.classes, corpus, recipe.name)
    check_views(recipe, members, store, responses)


def _check_place(key: LogitKey, corpus: str, split: int, student: str) -> None:
    if (key.corpus, key.split) != (corpus, split):
        raise UnfitSoftLabels(
            f"{key} was trained on split {key.split} of corpus {key.corpus}, student {student} on split "
            f"{split} of {corpus}: its soft labels would show clips that the student must not see; "
            "name members of that split"
        )


def check_classes(key: LogitKey, classes: Sequence[str], corpus: Corpus, student: str) -> None:
    """Check that a member's classes are those of a student, in their order.

    Raises:
        UnfitSoftLabels: they are others.
    """
    if tuple(classes) != corpus.scenes:
        raise UnfitSoftLabels(
            f"{key} has the classes {', '.join(classes)}, expected {', '.join(corpus.scenes)} as student "
            f"{student}: use members that were trained on corpus {corpus.name} as it is"
        )
