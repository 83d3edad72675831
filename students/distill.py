"""Trains a student on a corpus, from an ensemble's logits or from the labels alone."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from audio.clips import Corpus
from audio.feed import Feed
from audio.micirp import describe_responses
from audio.views import stored_views
from logit_store import LogitKey, LogitStore
from students.catalogue import build
from students.complexity import (
    MAX_BYTES,
    MAX_MACS,
    Complexity,
    Precision,
    check_budget,
    check_ram,
    measure_complexity,
)
from students.keys import make_student_key
from students.objective import DistillationObjective
from students.pools import StudentPool
from students.recipe import StudentRecipe
from students.soft import TeacherLogits
from students.stages import Start
from students.starts import describe_start, take_over
from students.stored import load_student
from students.student import Student
from students.views import check_views
from training import OnEpoch, PoolUse, Run, list_view_keys, store_views, train_and_store


def measure_recipe(recipe: StudentRecipe, corpus: Corpus) -> Complexity:
    """Measure what the student of a recipe costs for a clip of a corpus.

    Raises:
        ValueError: arguments that the architecture does not have, or an input that it cannot take.
    """
    shape = recipe.front_end.compute_shape(
        round(corpus.clip_duration_s * recipe.front_end.sample_rate)
    )
    student = build(
        recipe.model, n_classes=len(corpus.scenes), input_shape=shape, **recipe.arguments
    )
    return measure_complexity(student, (1, *shape))


def check_recipe(
    recipe: StudentRecipe,
    corpus: Corpus,
    *,
    precision: Precision = "int8",
    max_macs: int = MAX_MACS,
    max_bytes: int = MAX_BYTES,
    max_ram: int | None = None,
) -> None:
    """Check that the student of a recipe can be built and is within the budget, before it is trained.

    Args:
        recipe: the recipe of the student.
        corpus: the corpus whose clips it takes.
        precision: precision of the parameters when the student is used.
        max_macs: largest number of multiply-accumulates for a clip.
        max_bytes: largest size of the parameters.
        max_ram: largest number of bytes of RAM in int8; None is no limit.

    Raises:
        OverBudget: it is over the budget; a ValueError.
        NoPlan: there is a limit of its RAM, and C has no form of it; a ValueError.
        ValueError: arguments that the architecture does not have, or an input that it cannot take.
    """
    check_budget(
        measure_recipe(recipe, corpus),
        student=recipe.name,
        precision=precision,
        max_macs=max_macs,
        max_bytes=max_bytes,
    )
    if max_ram is not None:
        # What converts takes a second to import, and seconds to convert.
        from students.ram import measure_recipe_ram

        check_ram(measure_recipe_ram(recipe, corpus), student=recipe.name, max_ram=max_ram)


def prepare_run(
    recipe: StudentRecipe,
    corpus: Corpus,
    split: int,
    seed: int,
    soft: TeacherLogits | None,
    *,
    responses: Path | None,
    device: torch.device,
) -> tuple[Run, Student]:
    """Return the run for `training.fit` that trains one student on one split, and the student.

    Args:
        recipe: which student, and how it is trained.
        corpus: the student learns from its `fit` clips.
        split: 5, 10, 25, 50 or 100.
        seed: seed of everything random.
        soft: the logits of an ensemble, or of any member, for example another student; None for a
            student without teachers.
        responses: folder of impulse responses for augmentation; None for the synthetic set.
        device: where to train.

    Raises:
        UnfitSoftLabels: soft labels of other clips, classes or views.
        ValueError: the recipe has two tasks, and a scene is in no group.
    """
    feed = Feed.open(corpus, recipe.front_end, recipe.augmentation, responses, device)
    return make_run(feed, recipe, split, seed, soft)


def make_run(
    feed: Feed,
    recipe: StudentRecipe,
    split: int,
    seed: int,
    soft: TeacherLogits | None,
    pool: PoolUse | None = None,
) -> tuple[Run, Student]:
    """Do the same as `prepare_run` with a feed that is open already, which may hold a pool."""
    feed.learn_colours(split)
    torch.manual_seed(seed)
    student = build(
        recipe.model,
        n_classes=len(feed.corpus.scenes),
        input_shape=feed.input_shape[1:],
        **recipe.arguments,
    )
    objective = DistillationObjective(recipe, student, feed, split, soft, pool).to(feed.device)
    # Half as many clips again per second as with channels first: benchmarks/student_step.py.
    objective.to(memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]
    n_views = recipe.distillation.n_views if recipe.distillation else None
    run = Run(
        objective,
        objective.compute_loss,
        student,
        feed,
        split,
        recipe.training,
        seed,
        n_views=n_views,
        pool=pool,
    )
    return run, student


def distill(
    recipe: StudentRecipe,
    corpus: Corpus,
    split: int,
    seed: int,
    store: LogitStore,
    soft: TeacherLogits | None,
    *,
    responses: Path | None,
    device: torch.device,
    n_views: int = 1,
    on_epoch: OnEpoch = lambda metrics: None,
    pool: StudentPool | None = None,
    start: Start | None = None,
    ram: int | None = None,
) -> LogitKey:
    """Train one student on one split and store its logits of all clips, unless they are stored.

    Args:
        recipe: which student, and how it is trained.
        corpus: the student learns from its `fit` clips.
        split: 5, 10, 25, 50 or 100.
        seed: seed of everything random.
        store: the store of checkpoints, weights, record and logits.
        soft: as for `prepare_run`; with a pool, the logits of `pool.make_corpus(corpus, split)`.
        responses: folder of impulse responses; None for the synthetic set.
        device: where to train.
        n_views: number of views whose logits are stored, for the next student.
        on_epoch: called after each epoch with its metrics.
        pool: the clips without labels that it learns from too.
        start: the member whose weights it starts from, the result of a stage before.
        ram: the bytes of RAM that it will take in int8, for its record; None is unknown.

    Raises:
        UnfitSoftLabels: soft labels of other clips, classes or views.
        MissingLogits: a teacher has no logits of a view, or there is no such start.
        ValueError: as for `make_student_key`.
    """
    ensemble = soft.name if soft else None
    embeddings = soft.embeddings.names if soft and soft.embeddings else ()
    key = make_student_key(
        recipe, corpus, split, seed, responses, ensemble, pool, start, embeddings=embeddings
    )
    if all(view in store for view in list_view_keys(key, n_views)):
        return key
    if soft is not None:
        check_views(recipe, soft.members, store, responses)
    learnt = corpus if pool is None else pool.make_corpus(corpus, split)
    feed = Feed.open(learnt, recipe.front_end, recipe.augmentation, responses, device)
    run, student = make_run(feed, recipe, split, seed, soft, None if pool is None else pool.use)
    if key in store:
        loaded = load_student(store, key, len(corpus.scenes)).student
        student.load_state_dict(loaded.state_dict())
    else:
        if start is not None:
            take_over(start, student, store)
        record = _make_record(recipe, seed, ensemble, responses, student, feed)
        record |= {} if pool is None else {"pool": pool.describe(corpus)}
        record |= {} if start is None else describe_start(start, store)
        record |= {"embeddings": list(embeddings)} if embeddings else {}
        record |= {} if ram is None else {"ram": ram}
        train_and_store(run, key, "student", student, record, store, on_epoch)
    if n_views > 1:
        augmentation = stored_views(recipe.front_end.sample_rate)
        feed = Feed.open(corpus, recipe.front_end, augmentation, responses, device)
        store_views(replace(run, feed=feed), key, n_views, store)
    return key


def _make_record(
    recipe: StudentRecipe,
    seed: int,
    ensemble: str | None,
    responses: Path | None,
    student: Student,
    feed: Feed,
) -> dict[str, Any]:
    complexity = measure_complexity(student, feed.input_shape)
    return {
        "recipe": asdict(recipe),
        "seed": seed,
        "ensemble": ensemble,
        **describe_responses(responses),
        "macs": complexity.macs,
        "params": complexity.params,
        **_describe_float32(complexity),
    }


def _describe_float32(complexity: Complexity) -> dict[str, int]:
    """Return what a record says of parameters that int8 leaves in float32, if there are any."""
    n_params = complexity.params_in_float32
    return {"params_in_float32": n_params} if n_params else {}
