"""What does a job take beside its units' own work: to plan, to find out what is done, to run them?"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from audio.clips import SPLITS, Corpus
from audio.corpora import demo
from benchmarks.results import markdown, publish
from jobs.cluster import cluster, ray
from jobs.fanout import FanOut, Needs, Task
from jobs.job_log import JobLog
from jobs.learning import done_of
from jobs.teacher_runs import Plan, TeachersOptions, plan
from logit_store import LogitStore
from teachers.recipes import RECIPES

N_SLEEPING, N_PLANNED, N_FINISHED = 40, 10_000, 2_000
MIB = 1024**2


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="that a unit sleeps")
    parser.add_argument("--at-once", type=int, default=2, help="units")
    asked = parser.parse_args()
    corpus = demo.read()
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            *_planned(LogitStore(Path(folder) / "planned"), corpus),
            *_finished(LogitStore(Path(folder) / "finished"), corpus),
            *_slept(LogitStore(Path(folder) / "slept"), asked.seconds, asked.at_once),
        ]
    notes = (
        "Planning: from options to units with names, keys and states, and the plan in the log of the "
        "job, in a store on disk. Found done: the same where the logits of all are in the store. "
        "Overhead: what the units' own time leaves of the time that the slots were there, over the "
        "units' own time; with a cluster of the job's own, from before it starts until it has ended."
    )
    table = markdown(["", "got"], rows)
    publish("fan_out.py", "Fan-out", torch.device("cpu"), f"{table}\n\n{notes}")


def _units(store: LogitStore, corpus: Corpus, n_units: int) -> Plan:
    names = tuple(name for name, recipe in RECIPES.items() if recipe.first_stage is None)
    n_seeds = -(-n_units // (len(names) * len(SPLITS)))
    options = TeachersOptions(
        store=store.address, recipes=names, splits=("all",), seeds=tuple(range(n_seeds))
    )
    return plan(options, corpus, store)


def _planned(store: LogitStore, corpus: Corpus) -> list[list[str]]:
    process = psutil.Process()
    before = process.memory_info().rss
    began = time.perf_counter()
    planned = _units(store, corpus, N_PLANNED)
    tasks = planned.everything()
    states = done_of(tasks, store)
    with JobLog(store) as log:
        log.plan(tasks, states)
        took_s = time.perf_counter() - began
    grown = (process.memory_info().rss - before) / MIB
    return [
        [f"{len(tasks):,} units planned", f"{took_s:.2f} s"],
        ["memory that these take in the driver", f"{grown:.0f} MiB"],
    ]


def _finished(store: LogitStore, corpus: Corpus) -> list[list[str]]:
    store.write_clips(corpus.name, corpus.clips_table())
    rng = np.random.default_rng(0)
    logits_NK = rng.normal(size=(len(corpus), len(corpus.scenes)))
    tasks = _units(store, corpus, N_FINISHED).everything()
    for task in tasks:
        store.write(task.keys[0], logits_NK, {"kind": "teacher"})
    began = time.perf_counter()
    left = _units(LogitStore(store.address), corpus, N_FINISHED).to_do()
    took_s = time.perf_counter() - began
    if left:
        raise RuntimeError(f"{len(left)} of {len(tasks)} units are not found done")
    return [[f"{len(tasks):,} units found done", f"{took_s:.2f} s"]]


def _slept(store: LogitStore, seconds: float, at_once: int) -> list[list[str]]:
    tasks = [Task(f"sleep {i}", _sleep, {"seconds": seconds}) for i in range(N_SLEEPING)]
    began = time.perf_counter()
    with cluster(), JobLog(store) as log:
        started = time.perf_counter()
        # Slots by the share of this machine's cores that a unit reserves.
        work = FanOut(Needs(cpus=ray.cluster_resources()["CPU"] / at_once), log=log)
        log.plan(tasks, [False] * len(tasks))
        work.add(tasks)
        own_s = sum(outcome.took_s for outcome in work)
        ended = time.perf_counter()
    whole_s = time.perf_counter() - began
    return [
        [
            f"overhead of {N_SLEEPING} units of {seconds:g} s, {at_once} at a time",
            f"{100 * (at_once * (ended - started) / own_s - 1):.2f} %",
        ],
        [
            "the same, the cluster's start and end included",
            f"{100 * (at_once * whole_s / own_s - 1):.2f} %",
        ],
    ]


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


if __name__ == "__main__":
    main()
