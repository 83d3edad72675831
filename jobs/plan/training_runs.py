"""Carries out runs that train on one corpus."""

from collections.abc import Sequence

from audio.clips import Corpus
from jobs.plan.estimates import plan_spending
from jobs.plan.options import LearningOptions
from jobs.plan.pools import prepare_pools
from jobs.plan.stages import FirstRuns, as_pool
from jobs.schedule.carry_out import carry_out, print_if_all_stored
from jobs.schedule.cluster import connect
from jobs.schedule.task import Task
from jobs.worker.train import TrainingWork
from jobs.worker.where import check_audio_of_pools, prepare
from logit_store import LogitStore


def carry_out_runs(
    options: LearningOptions,
    tasks: Sequence[Task[TrainingWork]],
    corpus: Corpus,
    store: LogitStore,
    sample_rates: set[int],
    first: FirstRuns | None = None,
) -> bool:
    """Carry out the runs that are not in the store, and return whether all succeeded.

    Args:
        options: options of the command.
        tasks: the runs.
        corpus: the corpus that they train on.
        store: the store that they use.
        sample_rates: sample rates of their clips, in Hz.
        first: trainings on another corpus that some of the runs wait for.

    Raises:
        BrokenAudio: some clips cannot be read.
        CorpusError: a pool has the audio of a clip that judges.
        UserError: the options do not fit the workers.
    """
    first = first or FirstRuns(corpus)
    if print_if_all_stored([*first.tasks, *tasks], store):
        return True
    options.check_fit_here()
    prepare(corpus, store, sample_rates)
    if first.other is not None:
        prepare(first.other, store, sample_rates)
        splits = sorted({key.split for task in tasks for key in task.keys})
        check_audio_of_pools(corpus, splits, [as_pool(first.other)], min(sample_rates))
    prepare_pools(tasks, corpus, store, sample_rates)
    with connect() as workers:
        timeout_s, needs = options.find_timeout_s(workers), options.find_needs(workers)
        everything = [*first.tasks, *tasks]
        spending = plan_spending(options, everything, store, first.find_corpus, workers, needs)
        return carry_out(
            first.find_ready(tasks),
            store,
            workers,
            needs,
            then=lambda outcome: first.follow(tasks, outcome),
            spending=spending,
            timeout_s=timeout_s,
        )
