"""How long a proof will take on this machine, by records of its runs or else by a few steps."""

import os
import time
from dataclasses import dataclass, replace
from functools import partial

from audio.clips import Corpus
from benchmarks.proof_commands import DISCRIMINATORS, LESSONS, Proof
from jobs.plan.estimates import Estimate, estimate_runs, find_workloads, measure_steps_here
from jobs.plan.probe_estimates import estimate_probes
from jobs.plan.records import Machine
from jobs.schedule.carry_out import find_stored
from jobs.schedule.task import Needs, Task
from jobs.worker.train import TrainingWork
from logit_store import LogitStore, MissingClips, MissingStore
from terminal.tables import format_count, format_duration

THREADS = 1
"""Cores of one run, as the jobs reserve them."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What is left to do."""

    n_runs: int = 0
    core_s: float = 0.0
    """Seconds that the runs take one after the other, each on one core, as fast as this machine is now."""
    alone_s: float = 0.0
    """The same, if nobody else used the machine."""

    def __add__(self, other: "Expected") -> "Expected":
        return Expected(
            self.n_runs + other.n_runs, self.core_s + other.core_s, self.alone_s + other.alone_s
        )

    def __str__(self) -> str:
        n_cores = os.cpu_count() or 1
        now, alone = (format_duration(each / n_cores) for each in (self.core_s, self.alone_s))
        return (
            f"{format_count(self.n_runs, 'run')} to do: about {now} on the {format_count(n_cores, 'core')} of "
            f"this machine as busy as it is now, {alone} if nobody else used it"
        )


def estimate_proof(proof: Proof, corpus: Corpus, store: LogitStore) -> Expected:
    """Estimate what is not in the store yet; selecting ensembles takes seconds and is left out."""
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    estimates = _estimate_runs(proof, corpus, store)
    # Next to all of it is computing on one core: what share of a core it got is known by the clocks.
    share = (time.process_time() - began_cpu_s) / (time.monotonic() - began_s)
    alone_s = [
        each.seconds * (min(1.0, share) if each.source == "step" else 1.0) for each in estimates
    ]
    return Expected(len(estimates), sum(each.seconds for each in estimates), sum(alone_s))


def _estimate_runs(proof: Proof, corpus: Corpus, store: LogitStore) -> list[Estimate]:
    planned = proof.plan_teachers(corpus, store)
    tasks = [*planned.list_tasks(), *_list_students(proof, corpus, store)]
    states = find_stored(tasks, store)
    to_do = [task for task, is_stored in zip(tasks, states, strict=True) if not is_stored]
    machine, needs = Machine.here(THREADS), Needs(cpus=THREADS)
    estimates = estimate_runs(
        find_workloads(to_do, store, lambda task: corpus),
        {task.name: needs for task in to_do},
        store,
        machine,
        partial(measure_steps_here, threads=THREADS),
    )
    _, of_probes = estimate_probes(planned.probes, store, machine, needs)
    return [*estimates.values(), *of_probes.values()]


def _list_students(proof: Proof, corpus: Corpus, store: LogitStore) -> list[Task[TrainingWork]]:
    """Return the runs of all lessons and of the later students, each under a name of its own."""
    is_taught = _has_ensembles(proof, corpus.name, store)
    plan = proof.plan_lesson if is_taught else proof.expect_lesson
    later = (
        proof.plan_later(corpus, store).list_tasks()
        if is_taught
        else proof.expect_later(corpus, store)
    )
    lessons = [
        replace(task, name=f"{task.name}, {lesson.name}{ending}")
        for lesson in LESSONS
        for word, ending in DISCRIMINATORS.items()
        for task in plan(lesson, word, corpus, store)
    ]
    return [*lessons, *later]


def _has_ensembles(proof: Proof, corpus: str, store: LogitStore) -> bool:
    try:
        return all(store.ensembles.find_sound(corpus, split) for split in proof.splits)
    except (MissingStore, MissingClips):
        return False
