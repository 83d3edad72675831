"""Measures how much memory the workers of a node need for the same audio."""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import torch

from audio import waveforms
from audio.corpora import demo
from benchmarks.results import format_table, publish
from benchmarks.steps import open_feed
from teachers.recipes import RECIPES

RECIPE = RECIPES["mn10_as_dir_fms"]
MAP_NAME = "waveforms.int16"
MIB = 1024**2
PATIENCE_S = 300.0


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=8)
    n_workers = parser.parse_args().workers
    corpus = demo.read()
    audio_mib = (
        waveforms.load_waveforms(corpus, RECIPE.front_end.sample_rate).samples_NS.nbytes / MIB
    )
    spawn = multiprocessing.get_context("spawn")
    ready, done = spawn.Barrier(n_workers + 1), spawn.Barrier(n_workers + 1)
    workers = [spawn.Process(target=_run_worker, args=(ready, done)) for _ in range(n_workers)]
    for worker in workers:
        worker.start()
    ready.wait(PATIENCE_S)
    found = [_read_mapped_mib(worker.pid) for worker in workers]
    done.wait(PATIENCE_S)
    for worker in workers:
        worker.join()
    resident, proportional = (sum(figures) for figures in zip(*found, strict=True))
    rows = [
        ["one copy of the audio", f"{audio_mib:.1f}"],
        [f"{n_workers} workers, shared pages counted for each (RSS)", f"{resident:.1f}"],
        [f"{n_workers} workers, shared pages divided among them (PSS)", f"{proportional:.1f}"],
        ["PSS, ratio to one copy", f"{proportional / audio_mib:.2f}"],
    ]
    notes = (
        f"Each worker is a process whose feed has read all {len(corpus)} clips of the demo corpus. "
        "MiB of the decoded map in /proc/PID/smaps while all workers are alive."
    )
    device = torch.device("cpu")
    table = format_table(["decoded audio in memory", "MiB"], rows)
    publish("memory.py", "Memory of the workers of a node (cpu)", device, f"{table}\n\n{notes}")


def _run_worker(ready: Barrier, done: Barrier) -> None:
    torch.set_num_threads(1)
    feed = open_feed(RECIPE, torch.device("cpu"))
    for _ in feed.iterate_batches(np.arange(len(feed.corpus)), view=1):
        pass
    ready.wait(PATIENCE_S)
    done.wait(PATIENCE_S)


def _read_mapped_mib(pid: int | None) -> tuple[float, float]:
    """Return RSS and PSS of the decoded map in a process, in MiB."""
    found = {"Rss": 0, "Pss": 0}
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        field, _, value = line.partition(":")
        if " " in field:  # the first line of a mapping: addresses, rights, file
            inside = line.endswith(MAP_NAME)
        elif inside and field in found:
            found[field] += int(value.split()[0])
    return found["Rss"] / 1024, found["Pss"] / 1024


if __name__ == "__main__":
    main()
