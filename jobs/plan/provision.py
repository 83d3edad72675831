"""Prepares the fine-tuning of teachers: decodes, fetches weights, and measures needs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from audio.pools import list_foreign_pools
from jobs.plan.estimates import find_workloads, measure_memory_needs, measure_steps_on_workers
from jobs.plan.teacher_options import TeachersOptions
from jobs.plan.teachers import TeacherPlan
from jobs.schedule.fanout import IN_FLIGHT
from jobs.schedule.task import Needs, Task
from jobs.schedule.workers import Workers
from jobs.worker.train import FineTune
from jobs.worker.where import check_audio_of_pools, prepare, prepare_pool
from logit_store import LogitStore
from teachers import TeacherRun, build, fetch_weights
from teachers.backbones.sources import PublishedWeights
from teachers.catalogue import is_local_file
from terminal.console import UserError, progress_bar
from training.needs import DryStep


def prepare_teachers(planned: TeacherPlan, to_do: Sequence[Task[FineTune]]) -> None:
    """Decode the clips of the runs, and fetch and try the weights that they start from.

    Raises:
        BrokenAudio: some clips cannot be read.
        CorpusError: a pool has the audio of a clip that judges.
        WeightsError: some weights cannot be fetched, or do not fit their model.
    """
    for corpus in filter(None, (planned.corpus, planned.first_corpus)):
        rates = {
            task.work.teacher.recipe.front_end.sample_rate
            for task in planned.list_tasks()
            if planned.find_corpus(task) is corpus
        }
        if corpus is planned.corpus:
            rates |= planned.probes.list_sample_rates()
        prepare(corpus, planned.store, rates)
    _prepare_pools(planned)
    for run in _find_starting(to_do):
        _try_weights(run, len(planned.corpus.scenes), planned.store)
    _fetch_backbones(planned)


def _prepare_pools(planned: TeacherPlan) -> None:
    """Decode the pools, and make sure that no audio in them judges in a split that is learnt."""
    runs = [task.work.teacher for task in planned.tasks]
    rates = {run.recipe.front_end.sample_rate for run in runs}
    rates |= planned.probes.list_sample_rates()
    splits = {task.keys[0].split for task in planned.list_members()}
    for pool in planned.pools.values():
        prepare_pool(pool, planned.store, rates)
    if planned.pools:
        pools = list_foreign_pools(planned.pools.values())
        check_audio_of_pools(planned.corpus, splits, pools, min(rates))


def _fetch_backbones(planned: TeacherPlan) -> None:
    """Fetch the published weights of the networks that are to embed clips."""
    embeddings, _ = planned.probes.find_missing(planned.store)
    for source in {each.backbone.name: each.backbone.source for each in embeddings}.values():
        if isinstance(source, PublishedWeights):
            _fetch_weights(source.model, source.weights, planned.store)


def check_weights_files(to_do: Sequence[Task[FineTune]]) -> None:
    """Make sure that files of weights on this machine are there; nothing is fetched or loaded.

    Raises:
        WeightsError: one is not.
    """
    for run in _find_starting(to_do):
        if is_local_file(run.recipe.weights):
            fetch_weights(run.recipe.model, run.recipe.weights)


def _find_starting(to_do: Sequence[Task[FineTune]]) -> list[TeacherRun]:
    """Return one run for all weights that models of a kind start from."""
    runs = [task.work.teacher for task in to_do]
    starting = {
        (run.recipe.model, run.recipe.weights): run
        for run in runs
        if run.start is None and run.recipe.weights != "none"
    }
    return list(starting.values())


def _try_weights(run: TeacherRun, n_classes: int, store: LogitStore) -> None:
    """Fetch the weights that a run starts from, with a bar, and load them once."""
    recipe, private = run.recipe, run.private_weights
    weights = recipe.weights if private is None else private.fetch()
    _fetch_weights(recipe.model, weights, store)
    build(
        recipe.model,
        n_classes=n_classes,
        weights=weights,
        store=store,
        **recipe.arguments,
    )


def _fetch_weights(model: str, weights: str | Path, store: LogitStore) -> None:
    with progress_bar() as bar:
        shown = bar.add_task(f"weights of {model}", total=None)

        def show(done: int, total: int | None) -> None:
            bar.update(shown, completed=done, total=total)

        fetch_weights(model, weights, store, show)


def limit_in_flight(options: TeachersOptions, workers: Workers[Any]) -> int:
    """Return how many runs are submitted at the same time.

    Raises:
        UserError: the workers have fewer GPUs than one teacher needs.
    """
    if options.gpus_per_teacher == 1:
        return IN_FLIGHT
    n_gpus = workers.count_gpus()
    if options.gpus_per_run is None and options.gpus_per_teacher > n_gpus:
        raise UserError(
            f"--gpus-per-teacher {options.gpus_per_teacher}: the cluster has {n_gpus:g} GPUs; "
            "start it with more (cluster/), say --gpus-per-run 1 if more are to come, or leave the "
            "option out"
        )
    # A run that waits for its GPUs occupies processes meanwhile, so only one of them may wait.
    return int(min(IN_FLIGHT, 1 + n_gpus // options.gpus_per_teacher))


def measure_needs(
    planned: TeacherPlan, to_do: Sequence[Task[FineTune]], workers: Workers[Any], needs: Needs
) -> tuple[TeacherPlan, dict[str, DryStep]]:
    """Measure what each run needs of a machine, where the options and the plan do not say it.

    Returns:
        The plan with the needs, and the dry steps that were taken on GPUs, by the name of their pace.

    Raises:
        UserError: a dry step failed.
    """
    options = planned.options
    if options.gpus_per_teacher > 1 or (needs.gpus and options.gpus_per_run is not None):
        return planned, {}
    workloads = find_workloads(to_do, planned.store, planned.find_corpus)
    paces = {name: workload.pace for name, workload in workloads.items()}
    if not needs.gpus:
        return planned.with_needs(measure_memory_needs(paces, workers, needs)), {}
    by_name = {pace.name: pace for pace in paces.values()}
    steps = measure_steps_on_workers(by_name, workers, needs)
    shares = {name: steps[pace.name].gpu_share or needs.gpus for name, pace in paces.items()}
    needed = {name: replace(needs, gpus=share) for name, share in shares.items()}
    return planned.with_needs(needed), steps
