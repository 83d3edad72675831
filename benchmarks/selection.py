"""Compares the speed of the selection of an ensemble with a naive, a published and other methods.

M members, N clips, K classes.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.clips import make_clips
from benchmarks.results import format_table, publish, ratio, take_turns
from benchmarks.selection_rivals import (
    CANDIDATES_AT_ONCE,
    Floats,
    Integers,
    compute_chunk_losses,
    compute_naive_losses,
    compute_published_losses,
    select_as_autogluon,
    select_as_phem,
    select_as_tabrepo,
    select_greedily,
)
from ensemble import select, select_in_bags
from logit_store import LogitKey, LogitStore

CLASSES = 10
SIZES = ((22, 29_680), (110, 29_680), (500, 29_680), (2000, 29_680), (22, 230_350))
NAIVE_UP_TO, CHUNKS_UP_TO = 110, 500
"""Largest numbers of members for which these methods are measured; beyond, they take minutes."""
STEPS_OF_PROBABILITIES = 40
BAGS = 20
CLIPS_OF_A_RECORDING = 10
ROOT = Path(__file__).resolve().parent.parent
FIRST = """
import time
import numpy as np
from ensemble import select
logits_MNK = np.random.default_rng(0).normal(size=(8, 600, 10)).astype(np.float16)
select(logits_MNK, np.arange(600) % 10)
print(time.process_time())
"""
CPU = torch.device("cpu")

Sides = dict[str, Callable[[], object]]


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--memory", nargs=2, metavar=("MEMBERS", "TYPE"), help="only print the growth of memory"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        print(_measure_growth(int(options.memory[0]), np.dtype(options.memory[1])))
        return
    rounds = options.rounds
    logits = [_measure_mean_logits(n_members, n, rounds) for n_members, n in SIZES]
    likelihoods = [_measure_mean_probabilities(n_members, n, rounds) for n_members, n in SIZES[:3]]
    bags = [_measure_bags(n_members, n, rounds) for n_members, n in SIZES[:2]]
    memory = [
        [f"{m} {kind}", _measure_growth_of_process(m, kind)]
        for m in (110, 500)
        for kind in ("float16", "float32")
    ]
    parts = [
        format_table(
            [
                "mean logits, members x clips",
                "steps",
                "ms",
                "ratio to the floor",
                "naive numpy, ratio to ours",
                "published method, ratio to ours",
                "torch, ratio to ours",
            ],
            logits,
        ),
        format_table(
            [
                "mean probabilities",
                "ms",
                "TabRepo's method, ratio to ours",
                "AutoGluon's and TabArena's, ratio to ours",
                "phem's, ratio to ours",
            ],
            likelihoods,
        ),
        format_table([f"{BAGS} bags", "ms", "ratio to one selection"], bags),
        format_table(["selection", "s"], _measure_first()),
        format_table(
            ["110 members on disk", "ms", "ratio to store.read"], _measure_from_disk(rounds)
        ),
        format_table(["memory including the input", "ratio to float32 logits"], memory),
        NOTES,
    ]
    publish("selection.py", "Selection (cpu)", CPU, "\n\n".join(parts))


NOTES = (
    f"Synthetic logits of {CLASSES} classes. The members share mistakes, and each is right for 45 "
    "to 65 % of the clips. select gets float16 logits, as the store returns them; the others get "
    "float32 in the layout that suits them. The loss is log loss. Mean logits: without "
    "replacement, until the loss no longer improves. Mean probabilities: with replacement, "
    f"{STEPS_OF_PROBABILITIES} steps. All methods take as many steps as select. Floor: reading all "
    "logits once per step as float32, at the bandwidth of a sum over an array. Naive numpy: a "
    "running sum, and log-softmax of every candidate. Published method: each candidate loads "
    f"every member's .pt file. Torch: logsumexp of {CANDIDATES_AT_ONCE} candidates at a time. "
    "TabRepo's method: the labels' probabilities, then a running sum and the mean logarithm of "
    "every candidate's mean. AutoGluon's, which TabArena calls, and phem's, which is auto-sklearn's: a "
    "running mean or sum of all probabilities, from what they publish, with the log loss in numpy. All "
    f"start from the logits. Bags: halves of the recordings, of {CLIPS_OF_A_RECORDING} clips each. First: "
    "processor time of a new process from its start to the end of a small selection, without and with "
    "compiled kernels on disk. Memory: largest growth of the "
    "resident set, including the logits. Milliseconds of processor time on one thread, medians."
)


def draw_pool(n_members: int, n: int, dtype: np.dtype) -> tuple[Floats, Integers]:
    """Return logits of members that share mistakes, in the layout of the store, and the labels.

    A member's logits are the sum of the truth, the mistakes of all members, those of its family (of
    five families), and its own noise.
    """
    randomness = np.random.default_rng(0)
    labels_N = randomness.integers(0, CLASSES, n)
    true_KN = np.zeros((CLASSES, n), np.float32)
    true_KN[labels_N, np.arange(n)] = 1
    shared_KN = 1.4 * _draw_noise(randomness, n)
    families = [0.8 * _draw_noise(randomness, n) + shared_KN for _ in range(5)]
    logits_MKN = np.empty((n_members, CLASSES, n), dtype)
    for m in range(n_members):
        own_KN = randomness.uniform(0.6, 1.2) * _draw_noise(randomness, n)
        clean_KN = randomness.uniform(2.6, 3.4) * true_KN + families[m % 5]
        logits_MKN[m] = (clean_KN + own_KN) * randomness.uniform(0.8, 1.3)
    return logits_MKN.transpose(0, 2, 1), labels_N


def _draw_noise(randomness: np.random.Generator, n: int) -> NDArray[np.float32]:
    return randomness.standard_normal((CLASSES, n), dtype=np.float32)


def _measure_mean_logits(n_members: int, n: int, rounds: int) -> list[str]:
    """Return one row of the table of mean logits."""
    logits_MNK, labels_N = draw_pool(n_members, n, np.dtype(np.float16))
    n_steps = len(select(logits_MNK, labels_N).members)
    sides: Sides = {"ours": lambda: select(logits_MNK, labels_N)}
    with tempfile.TemporaryDirectory() as folder:
        if n_members <= CHUNKS_UP_TO:
            sides |= _make_other_sides(logits_MNK, labels_N, n_steps, Path(folder))
        seconds = take_turns(sides, rounds=rounds, device=CPU)
    floor_s = n_steps * 4 * logits_MNK.size / _measure_bytes_per_s()
    return [
        f"{n_members} x {n:,}",
        str(n_steps),
        f"{1e3 * statistics.median(seconds['ours']):.1f}",
        f"{statistics.median(seconds['ours']) / floor_s:.2f}",
        *(_format_ratio(seconds, side) for side in ("naive", "published", "torch")),
    ]


def _make_other_sides(logits_MNK: Floats, labels_N: Integers, n_steps: int, folder: Path) -> Sides:
    """Return the other methods that select the same members, as far as this size allows."""
    single_MNK, labels = np.ascontiguousarray(logits_MNK, np.float32), torch.from_numpy(labels_N)
    n_members, n, _ = single_MNK.shape
    ways = {"torch": partial(compute_chunk_losses, torch.from_numpy(single_MNK), labels)}
    if n_members <= NAIVE_UP_TO:
        ways["naive"] = partial(compute_naive_losses, single_MNK, labels_N)
    if (n_members, n) == SIZES[0]:
        files = [folder / f"{m}.pt" for m in range(n_members)]
        for file, logits_NK in zip(files, single_MNK, strict=True):
            torch.save(torch.from_numpy(logits_NK.copy()), file)
        ways["published"] = partial(compute_published_losses, files, labels)
    return {name: partial(select_greedily, n_members, n_steps, way) for name, way in ways.items()}


def _measure_mean_probabilities(n_members: int, n: int, rounds: int) -> list[str]:
    """Return one row of the table of mean probabilities."""
    logits_MNK, labels_N = draw_pool(n_members, n, np.dtype(np.float16))
    ours = partial(
        select,
        logits_MNK,
        labels_N,
        space="probabilities",
        with_replacement=True,
        max_members=STEPS_OF_PROBABILITIES,
        patience=STEPS_OF_PROBABILITIES,
    )
    single_MNK = np.ascontiguousarray(logits_MNK, np.float32)
    others = {"tabrepo": select_as_tabrepo}
    if n_members <= NAIVE_UP_TO:
        others |= {"autogluon": select_as_autogluon, "phem": select_as_phem}
    sides: Sides = {"ours": ours}
    for name, method in others.items():
        sides[name] = partial(method, single_MNK, labels_N, STEPS_OF_PROBABILITIES)
    seconds = take_turns(sides, rounds=rounds, device=CPU)
    milliseconds = 1e3 * statistics.median(seconds["ours"])
    size = f"{n_members} x {n:,}"
    ratios = [_format_ratio(seconds, side) for side in ("tabrepo", "autogluon", "phem")]
    return [size, f"{milliseconds:.1f}", *ratios]


def _measure_bags(n_members: int, n: int, rounds: int) -> list[str]:
    """Return one row of the table of bags."""
    logits_MNK, labels_N = draw_pool(n_members, n, np.dtype(np.float16))
    recordings_N = np.arange(n) // CLIPS_OF_A_RECORDING
    sides: Sides = {
        "one": lambda: select(logits_MNK, labels_N),
        "bags": lambda: select_in_bags(logits_MNK, labels_N, recordings_N, n_bags=BAGS),
    }
    seconds = take_turns(sides, rounds=rounds, device=CPU)
    milliseconds = 1e3 * statistics.median(seconds["bags"])
    return [f"{n_members} x {n:,}", f"{milliseconds:.1f}", _format_ratio(seconds, "bags", "one")]


def _measure_first() -> list[list[str]]:
    """Return the rows of the table of new processes, without and with compiled kernels."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {**os.environ, "NUMBA_CACHE_DIR": folder}
        command = [sys.executable, "-c", FIRST]
        runs = [
            subprocess.run(
                command, check=True, capture_output=True, text=True, env=variables, cwd=ROOT
            )
            for _ in range(2)
        ]
    names = ("the first on a machine", "the first in a process")
    return [[name, f"{float(run.stdout):.2f}"] for name, run in zip(names, runs, strict=True)]


def _format_ratio(seconds: dict[str, list[float]], side: str, below: str = "ours") -> str:
    return f"{ratio(seconds[side], seconds[below]):.1f}" if side in seconds else ""


def _measure_bytes_per_s() -> float:
    """Return the bandwidth of a sum over an array that is larger than any cache."""
    numbers = np.ones(1 << 26, np.float32)
    seconds = take_turns({"sum": numbers.sum}, rounds=5, device=CPU)["sum"]
    return numbers.nbytes / min(seconds)


def _measure_from_disk(rounds: int) -> list[list[str]]:
    """Return the rows of the table of methods that start from files in the page cache."""
    n_members, n = SIZES[1]
    logits_MNK, labels_N = draw_pool(n_members, n, np.dtype(np.float16))
    keys = [LogitKey("tau", 100, f"m{m}-{m:012x}") for m in range(n_members)]
    with tempfile.TemporaryDirectory() as folder:
        store = LogitStore(folder)
        store.write_clips("tau", make_clips(n))
        for key, logits_NK in zip(keys, logits_MNK, strict=True):
            store.write(key, logits_NK, {"kind": "teacher", "recipe": "noise"})
        files = sorted(Path(folder).rglob("logits.parquet"))
        sides: Sides = {
            "the files' bytes": lambda: [file.read_bytes() for file in files],
            "store.read": lambda: store.read(keys, dtype=np.float16),
            "store.read and select": lambda: select(store.read(keys, dtype=np.float16), labels_N),
        }
        seconds = take_turns(sides, rounds=3 * rounds, device=CPU)
    reading = seconds["store.read"]
    return [
        [name, f"{1e3 * statistics.median(times):.1f}", f"{ratio(times, reading):.1f}"]
        for name, times in seconds.items()
    ]


def _measure_growth_of_process(n_members: int, kind: str) -> str:
    """Return the growth of a new process, because a peak never falls."""
    command = [sys.executable, __file__, "--memory", str(n_members), kind]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return f"{float(done.stdout):.2f}"


def _measure_growth(n_members: int, dtype: np.dtype) -> float:
    """Return the growth of the peak of the resident set, divided by the bytes of float32 logits."""
    small_MNK, labels_N = draw_pool(3, 100, dtype)
    select(small_MNK, labels_N)
    before = _read_peak_bytes()
    logits_MNK, labels_N = draw_pool(n_members, SIZES[0][1], dtype)
    select(logits_MNK, labels_N)
    return (_read_peak_bytes() - before) / (4 * logits_MNK.size)


def _read_peak_bytes() -> int:
    """Return the peak of this process; that of getrusage would include its parent process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
