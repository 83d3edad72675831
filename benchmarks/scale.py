"""Measures commands on a store of ten thousand members, and on one of a tenth of that."""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.large_store import make_large_store
from benchmarks.results import format_table, publish, ratio
from docs.make_reference import ROOT
from logit_store import LogitStore
from logit_store.paths import catalogue_path

START = "python jobs/status.py --help"
"""The baseline: the start-up of a command."""
COMMANDS = (
    "python -m logit_store ls --store {store}",
    "python -m logit_store show {member} --store {store}",
    'python -m logit_store sql "select count(*) from members" --store {store}',
    'python -m logit_store sql "select count(*) from runs" --store {store}',
    'python -m logit_store sql "select avg(log_loss) from predictions" --store {store}',
    "python -m logit_store gc --dry-run --store {store}",
    "python -m logit_store verify --store {store}",
    "python jobs/status.py --store {store}",
    "python jobs/ensemble.py --dry-run --store {store}",
    "python jobs/teachers.py --dry-run --recipes demo_mn --store {store}",
    "python jobs/students.py --dry-run --recipes demo_isotropic --store {store}",
    "python jobs/track.py --tensorboard {folder} --store {store}",
    "python jobs/report.py --to {folder}/report.html --store {store}",
    "python jobs/report.py --most 100 --to {folder}/report.html --store {store}",
    "python jobs/report.py --most 200 --to {folder}/report.html --store {store}",
)
MAX_DRY_RUN_S, MAX_STATUS_S, MAX_STATUS_MB = 5, 2, 200
"""Limits on a quiet machine: of a dry run of a selection, and of the status of jobs."""

_RUN = """
import json, os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, use = os.wait4(child.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), use.ru_utime + use.ru_stime, use.ru_maxrss]))
"""
"""Runs a command from a small process: a peak of memory includes that of the process that starts it."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a command took."""

    seconds: float
    """Of processor time."""
    peak_mb: float


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=10_000)
    parser.add_argument("--units", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        whole = make_large_store(
            Path(folder) / "whole", n_members=options.members, n_units=options.units
        )
        tenth = make_large_store(
            Path(folder) / "tenth", n_members=options.members // 10, n_units=options.units // 10
        )
        rows = _measure(tenth, whole, options.rounds)
    header = ["command", "s, a tenth", "s", "s, cold", "ratio to `--help`", "peak, MB"]
    notes = (
        f"{options.members:,} members of the demo's clips, half of them teachers, and a job of "
        f"{options.units:,} tasks with logs as long as the store keeps; a tenth: of both. Seconds of "
        f"processor time, each command in a process of its own; medians of {options.rounds} rounds in "
        "which all took turns, on files in the page cache. Cold: the first use, without the catalogue "
        f"(one round). The ratio is to `{START}`. Limits on a quiet machine: {MAX_DRY_RUN_S} s for the "
        f"dry run of a selection, {MAX_STATUS_S} s and {MAX_STATUS_MB} MB for the status."
    )
    body = f"{format_table(header, rows)}\n\n{notes}"
    publish("scale.py", "A store of ten thousand members (cpu)", torch.device("cpu"), body)


def _measure(tenth: LogitStore, whole: LogitStore, rounds: int) -> list[list[str]]:
    """Return one row per command."""
    cold = {command: _use_cold(command, whole) for command in COMMANDS}
    _use(COMMANDS[0], tenth)
    small: dict[str, list[Use]] = {command: [] for command in COMMANDS}
    large: dict[str, list[Use]] = {command: [] for command in COMMANDS}
    start: list[Use] = []
    for _ in range(rounds):
        start.append(_use(START, whole))
        for command in COMMANDS:
            small[command].append(_use(command, tenth))
            large[command].append(_use(command, whole))
    return [
        [
            f"`{_shorten(command)}`",
            f"{_find_median_s(small[command]):.2f}",
            f"{_find_median_s(large[command]):.2f}",
            f"{cold[command].seconds:.2f}",
            f"{ratio(_list_seconds(large[command]), _list_seconds(start)):.1f}",
            f"{max(use.peak_mb for use in large[command]):.0f}",
        ]
        for command in COMMANDS
    ]


def _shorten(command: str) -> str:
    """Return what distinguishes a command from the others."""
    asked, _, _ = command.partition(" --store")
    return asked.replace(" --to {folder}/report.html", "").format(folder="FOLDER", member="MEMBER")


def _use_cold(command: str, store: LogitStore) -> Use:
    store.files.delete(catalogue_path("demo"))
    return _use(command, store)


def _use(command: str, store: LogitStore) -> Use:
    member = next(path.name for path in sorted(Path(store.address).glob("teachers/v1/*")))
    with tempfile.TemporaryDirectory() as folder:
        return use(command.format(store=store.address, folder=folder, member=member))


def use(line: str) -> Use:
    """Run a command that begins with `python`, in a process of its own, and return what it took.

    Raises:
        RuntimeError: it failed.
    """
    words = [sys.executable, "-c", _RUN, sys.executable, *shlex.split(line)[1:]]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, env=environment)
    code, seconds, peak_kib = json.loads(done.stdout)
    if code:
        raise RuntimeError(f"{line}: exit code {code}")
    return Use(seconds, peak_kib * 1024 / 1e6)


def _list_seconds(uses: Sequence[Use]) -> list[float]:
    return [use.seconds for use in uses]


def _find_median_s(uses: Sequence[Use]) -> float:
    return statistics.median(_list_seconds(uses))


if __name__ == "__main__":
    main()
