"""Compares the start-up of every command with the import of numpy."""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.results import format_table, publish, ratio
from docs.make_reference import ROOT, list_commands

NUMPY = [sys.executable, "-c", "import numpy"]
MAX_HELP, MAX_STATUS = 6, 8
"""Ratios that must not be exceeded: of `--help`, and of `jobs/status.py` on the demo's store."""


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", type=Path, default=Path("runs/demo"), help="the demo's store")
    options = parser.parse_args()
    if not options.store.is_dir():
        parser.error(f"--store {options.store}: no such folder; `make demo` makes one")
    lines = [f"{command.program} --help" for command in list_commands()]
    on_store = [
        f"python jobs/status.py --store {options.store}",
        f"python -m logit_store ls --store {options.store}",
    ]
    times_s = {line: [] for line in ["numpy", *lines, *on_store]}
    for _ in range(options.rounds):
        for line, measured_s in times_s.items():
            words = NUMPY if line == "numpy" else [sys.executable, *shlex.split(line)[1:]]
            measured_s.append(_measure_s(words))
    rows = [
        [f"`{line}`", f"{statistics.median(times_s[line]):.2f}", _format_ratio(times_s, line)]
        for line in [*lines, *on_store]
    ]
    body = (
        format_table(["command", "s", "ratio to `import numpy`"], rows)
        + f"\n\nMedians of {options.rounds} rounds in which all took turns, by the wall clock, each in a "
        f"process of its own. Limits: {MAX_HELP} for `--help`, {MAX_STATUS} for `jobs/status.py` on the "
        "demo's store."
    )
    publish("start_up.py", "Start-up of commands", torch.device("cpu"), body)


def _measure_s(words: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _format_ratio(times_s: dict[str, list[float]], line: str) -> str:
    return f"{ratio(times_s[line], times_s['numpy']):.1f}"


if __name__ == "__main__":
    main()
