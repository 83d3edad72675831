"""Measures the overhead of a job: planning tasks, finding stored tasks, running tasks."""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch

from audio.clips import SPLITS, Corpus
from audio.corpora import demo
from benchmarks.results import format_table, publish
from jobs.plan.teacher_options import TeachersOptions
from jobs.plan.teachers import TeacherPlan, plan_teachers
from jobs.schedule.carry_out import find_stored
from jobs.schedule.cluster import connect
from jobs.schedule.fanout import FanOut
from jobs.schedule.job_log import JobLog
from jobs.schedule.task import Needs, Task
from logit_store import LogitStore
from teachers.recipes import RECIPES

N_SLEEPING, N_PLANNED, N_FINISHED = 40, 10_000, 2_000
MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Sleep:
    """Work that takes a known time."""

    seconds: float

    def run(self) -> None:
        """Sleep."""
        time.sleep(self.seconds)


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long a task sleeps")
    parser.add_argument("--at-once", type=int, default=2, help="number of tasks that run at once")
    asked = parser.parse_args()
    corpus = demo.read()
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            *_measure_planning(LogitStore(Path(folder) / "planned"), corpus),
            *_measure_finding_done(LogitStore(Path(folder) / "finished"), corpus),
            *_measure_overhead(LogitStore(Path(folder) / "slept"), asked.seconds, asked.at_once),
        ]
    notes = (
        "Planning: from options to tasks with names, keys and states, and the plan in the job's "
        "log, in a store on disk. Finding: the same if the logits of all tasks are in the store. "
        "Overhead: the time of all slots beyond the time that the tasks took, as a share of the "
        "time that the tasks took. The last row includes the start and the end of the job's own "
        "cluster."
    )
    table = format_table(["", "result"], rows)
    publish("fan_out.py", "Fan-out", torch.device("cpu"), f"{table}\n\n{notes}")


def _plan_tasks(store: LogitStore, corpus: Corpus, n_tasks: int) -> TeacherPlan:
    names = tuple(name for name, recipe in RECIPES.items() if recipe.first_stage is None)
    n_seeds = -(-n_tasks // (len(names) * len(SPLITS)))
    options = TeachersOptions(
        store=store.address, recipes=names, splits=("all",), seeds=tuple(range(n_seeds))
    )
    return plan_teachers(options, corpus, store)


def _measure_planning(store: LogitStore, corpus: Corpus) -> list[list[str]]:
    process = psutil.Process()
    before = process.memory_info().rss
    began = time.perf_counter()
    planned = _plan_tasks(store, corpus, N_PLANNED)
    tasks = planned.list_tasks()
    states = find_stored(tasks, store)
    with JobLog(store) as log:
        log.plan(tasks, states)
        took_s = time.perf_counter() - began
    grown = (process.memory_info().rss - before) / MIB
    return [
        [f"planning {len(tasks):,} tasks", f"{took_s:.2f} s"],
        ["memory of these tasks in the driver", f"{grown:.0f} MiB"],
    ]


def _measure_finding_done(store: LogitStore, corpus: Corpus) -> list[list[str]]:
    store.write_clips(corpus.name, corpus.clips_table())
    rng = np.random.default_rng(0)
    logits_NK = rng.normal(size=(len(corpus), len(corpus.scenes)))
    tasks = _plan_tasks(store, corpus, N_FINISHED).list_tasks()
    for task in tasks:
        store.write(task.keys[0], logits_NK, {"kind": "teacher"})
    began = time.perf_counter()
    left = _plan_tasks(LogitStore(store.address), corpus, N_FINISHED).find_missing()
    took_s = time.perf_counter() - began
    if left:
        raise RuntimeError(f"{len(left)} of {len(tasks)} tasks were not found in the store")
    return [[f"finding {len(tasks):,} stored tasks", f"{took_s:.2f} s"]]


def _measure_overhead(store: LogitStore, seconds: float, at_once: int) -> list[list[str]]:
    # Ray must be imported after `jobs`, which sets variables that Ray reads at its import.
    import ray

    tasks = [Task(f"sleep {i}", Sleep(seconds)) for i in range(N_SLEEPING)]
    began = time.perf_counter()
    with connect() as workers, JobLog(store) as log:
        started = time.perf_counter()
        # The share of this machine's cores that a task reserves decides how many run at once.
        needs = Needs(cpus=ray.cluster_resources()["CPU"] / at_once)
        fan_out: FanOut[Sleep] = FanOut(workers, needs, log=log)
        log.plan(tasks, [False] * len(tasks))
        fan_out.add(tasks)
        own_s = sum(outcome.took_s for outcome in fan_out)
        ended = time.perf_counter()
    whole_s = time.perf_counter() - began
    return [
        [
            f"overhead of {N_SLEEPING} tasks of {seconds:g} s, {at_once} at a time",
            f"{100 * (at_once * (ended - started) / own_s - 1):.2f} %",
        ],
        [
            "the same, including the cluster's start and end",
            f"{100 * (at_once * whole_s / own_s - 1):.2f} %",
        ],
    ]


if __name__ == "__main__":
    main()
