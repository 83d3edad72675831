"""A student learns a corpus, from an ensemble's logits or from the labels alone."""

from dataclasses import asdict, replace
from pathlib import Path

import torch

from audio import impulse_responses
from audio.clips import Corpus
from audio.feed import Feed
from audio.views import stored_views
from logit_store import LogitKey, LogitStore
from students.catalogue import build
from students.complexity import (
    MAX_BYTES,
    MAX_MACS,
    Complexity,
    Precision,
    check_budget,
    measure,
)
from students.objective import Objective
from students.recipes import StudentRecipe
from students.soft import Soft
from students.stored import load
from students.student import Student
from students.two_tasks import group_matrix
from students.views import check_views
from training import OnEpoch, Run, learn_and_store, member_key, store_views, view_keys


def student_key(
    recipe: StudentRecipe,
    corpus: Corpus,
    split: int,
    seed: int,
    responses: Path | None,
    ensemble: str | None,
) -> LogitKey:
    """Where the logits of such a student are; `ensemble` names its teachers, None is none.

    Raises:
        ValueError: the recipe distils and there is no ensemble, or the reverse; or it learns groups
            of scenes, and the corpus has a scene without a group.
    """
    if (recipe.distillation is None) != (ensemble is None):
        raise ValueError(
            f"student recipe {recipe.name} with distillation {recipe.distillation} and ensemble "
            f"{ensemble}: a student that distils needs an ensemble, one alone takes none"
        )
    if recipe.two_tasks:
        group_matrix(corpus.scenes)
    identity = {"recipe": recipe, "ensemble": ensemble}
    return member_key(recipe.name, corpus, split, seed, responses, identity)


def cost(recipe: StudentRecipe, corpus: Corpus) -> Complexity:
    """What the student of a recipe costs for a clip of a corpus.

    Raises:
        ValueError: arguments that the architecture does not have, or an input it cannot take.
    """
    shape = recipe.front_end.shape(round(corpus.clip_duration_s * recipe.front_end.sample_rate))
    student = build(
        recipe.model, n_classes=len(corpus.scenes), input_shape=shape, **recipe.arguments
    )
    return measure(student, (1, *shape))


def check_recipe(
    recipe: StudentRecipe,
    corpus: Corpus,
    *,
    precision: Precision = "int8",
    max_macs: int = MAX_MACS,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Make sure that what a recipe teaches can be built and keeps the budget, before it learns.

    Args:
        recipe: whose student.
        corpus: whose clips it takes.
        precision: of the parameters when the student is used.
        max_macs: multiply-accumulates of a clip.
        max_bytes: of the parameters.

    Raises:
        OverBudget: it is over the budget; a ValueError.
        ValueError: arguments that the architecture does not have, or an input it cannot take.
    """
    check_budget(
        cost(recipe, corpus),
        student=recipe.name,
        precision=precision,
        max_macs=max_macs,
        max_bytes=max_bytes,
    )


def student_run(
    recipe: StudentRecipe,
    corpus: Corpus,
    split: int,
    seed: int,
    soft: Soft | None,
    *,
    responses: Path | None,
    device: torch.device,
) -> tuple[Run, Student]:
    """What `training.fit` takes to teach one student one split, and the student in it.

    Args:
        recipe: what learns, and how.
        corpus: its `fit` clips are learnt from.
        split: 5, 10, 25, 50 or 100.
        seed: of everything random.
        soft: the logits of an ensemble, or of any member, another student for example; None for a
            student alone.
        responses: folder of impulse responses for augmentation; None for the synthetic set.
        device: where to learn.

    Raises:
        UnfitSoftLabels: soft labels of other clips, classes or views.
        ValueError: two tasks, and a scene without a group.
    """
    feed = Feed.open(corpus, recipe.front_end, recipe.augmentation, responses, device)
    return run_over(feed, recipe, split, seed, soft)


def run_over(
    feed: Feed, recipe: StudentRecipe, split: int, seed: int, soft: Soft | None
) -> tuple[Run, Student]:
    """`student_run` over a feed that is open already; its arguments and errors."""
    torch.manual_seed(seed)
    student = build(
        recipe.model,
        n_classes=len(feed.corpus.scenes),
        input_shape=feed.input_shape[1:],
        **recipe.arguments,
    )
    objective = Objective(recipe, student, feed, split, soft).to(feed.device)
    # A half more clips a second than with channels first: benchmarks/student_step.py.
    objective.to(memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]
    n_views = recipe.distillation.n_views if recipe.distillation else None
    run = Run(
        objective, objective.loss, student, feed, split, recipe.training, seed, n_views=n_views
    )
    return run, student


def distill(
    recipe: StudentRecipe,
    corpus: Corpus,
    split: int,
    seed: int,
    store: LogitStore,
    soft: Soft | None,
    *,
    responses: Path | None,
    device: torch.device,
    n_views: int = 1,
    on_epoch: OnEpoch = lambda figures: None,
) -> LogitKey:
    """Teach one student one split and store its logits of all clips, unless they are there.

    Args:
        recipe: what learns, and how.
        corpus: its `fit` clips are learnt from.
        split: 5, 10, 25, 50 or 100.
        seed: of everything random.
        store: where checkpoints, weights, record and logits go.
        soft: as for `student_run`.
        responses: folder of impulse responses; None for the synthetic set.
        device: where to learn.
        n_views: logits of so many views are stored, from view 0, the untouched clips: what the next
            student may learn from.
        on_epoch: called after each epoch with its figures.

    Raises:
        UnfitSoftLabels: soft labels of other clips, classes or views.
        MissingLogits: a member that teaches has no logits of a view.
        ValueError: as for `student_key`.
    """
    ensemble = soft.name if soft else None
    key = student_key(recipe, corpus, split, seed, responses, ensemble)
    if all(view in store for view in view_keys(key, n_views)):
        return key
    if soft is not None:
        check_views(recipe, soft.members, store, responses)
    run, student = student_run(
        recipe, corpus, split, seed, soft, responses=responses, device=device
    )
    if key in store:
        taught = load(store, key, len(corpus.scenes)).student
        student.load_state_dict(taught.state_dict())
    else:
        complexity = measure(student, run.feed.input_shape)
        record = {
            "recipe": asdict(recipe),
            "seed": seed,
            "ensemble": ensemble,
            "responses": impulse_responses.identity(responses),
            "macs": complexity.macs,
            "params": complexity.params,
        }
        learn_and_store(run, key, "student", student, record, store, on_epoch)
    if n_views > 1:
        heard = stored_views(recipe.front_end.sample_rate)
        feed = Feed.open(corpus, recipe.front_end, heard, responses, device)
        store_views(replace(run, feed=feed), key, n_views, store)
    return key
