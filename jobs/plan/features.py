"""The embeddings that students' features are to predict: found and checked before any work."""

import shlex
from collections.abc import Sequence

from audio.clips import Corpus
from audio.pools import Pool
from jobs.plan.options import LearningOptions
from jobs.plan.pools import PlannedPool
from jobs.plan.several import refuse_several
from jobs.worker.teacher_embeddings import find_teaching_embeddings, list_needed_embeddings
from logit_store import EmbeddingKey, LogitStore, strip_fingerprint
from students import FeatureDistillation, StudentRecipe
from terminal.console import UserError, console


def plan_embeddings(
    options: LearningOptions,
    corpus: Corpus,
    store: LogitStore,
    recipe: StudentRecipe,
    split: int,
    taught_by: str | None,
    pools: Sequence[PlannedPool | None],
) -> tuple[str, ...]:
    """Return the names of the embeddings that a recipe learns from, and say which; none if it has no way to.

    Args:
        options: of the command.
        corpus: the corpus that the student is trained on.
        store: has the embeddings.
        recipe: the student's recipe.
        split: 5, 10, 25, 50 or 100.
        taught_by: `NAME@HASH` of an ensemble, or a member's name.
        pools: those of all its stages; None where a stage has none.

    Raises:
        UserError: the teachers have no embeddings in the store, which has none where clips have several labels, or lack those of a view or of a pool.
        LogitStoreError: the teacher is not in the store, or has changed.
    """
    way = recipe.distillation
    if not isinstance(way, FeatureDistillation) or taught_by is None:
        return ()
    names = find_teaching_embeddings(store, corpus.name, split, taught_by)
    if not names:
        why = "embeddings come into the store with probes, which choose one of the classes: leave the way out"
        refuse_several(corpus, "--ways features", why)
        raise UserError(
            f"--ways features: behind {taught_by} there is no embedding of corpus {corpus.name} in the store: "
            "let a probe teach, or an ensemble with one (python jobs/teachers.py --recipes probe:aisfx), or put "
            "a fine-tuned teacher's embeddings there by a probe on it (--recipes probe:MEMBER)"
        )
    opened = [pool for planned in pools if planned is not None for pool in planned.pool.pools]
    needed = list_needed_embeddings(
        names, corpus.name, way.n_views, opened, options.find_responses()
    )
    lacking = [key for key in dict.fromkeys(needed) if key not in store.embeddings]
    if lacking:
        raise UserError(_describe_lacking(lacking, taught_by, corpus.name, way.n_views, opened))
    console.print(
        f"{recipe.name}, split {split}: features learn to predict {', '.join(map(strip_fingerprint, names))}",
        markup=False,
    )
    return names


def _describe_lacking(
    lacking: Sequence[EmbeddingKey],
    taught_by: str,
    corpus: str,
    n_views: int | None,
    pools: Sequence[Pool],
) -> str:
    first, more = lacking[0], len(lacking) - 1
    label = strip_fingerprint(first.backbone)
    command = ["python", "jobs/teachers.py", "--recipes", f"probe:{label}"]
    command += ["--views", str(n_views)] if n_views else []
    foreign = any(pool.corpus is not None for pool in pools) and first.corpus != corpus
    return (
        f"--ways features: {taught_by} has the embeddings of {label}, but the store lacks those of corpus "
        f"{first.corpus}, view {first.view}"
        + (f", and {more} more" if more else "")
        + ": make them, with the "
        f"options that made the others: {shlex.join(command)}{' --pool CORPUS:ROOT' if foreign else ''}"
    )
