"""Compares the time for soft labels of a new ensemble with a copy of the same logits.

M members, N clips, K classes.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import statistics
import tempfile
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.clips import SCENES, make_clips
from benchmarks.results import format_table, publish, ratio, take_turns
from ensemble import soft_labels
from logit_store import LogitKey, LogitStore

N_CLIPS = 139_620
"""Training clips of TAU's split 100."""
N_MEMBERS = 6
TEMPERATURE = 2.0


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = LogitStore(folder)
        sides = _make_sides(store, _write_members(store))
        seconds = take_turns(sides, rounds=rounds, device=torch.device("cpu"), calls=5)
    rows = [
        [name, f"{1e3 * statistics.median(times):.2f}", f"{ratio(times, seconds['memcpy']):.1f}"]
        for name, times in seconds.items()
    ]
    notes = (
        f"{N_MEMBERS} members, {N_CLIPS:,} clips, {len(SCENES)} classes, from Parquet files on a "
        f"disk that are in the page cache; soft labels at temperature {TEMPERATURE:g} in float32. "
        "memcpy: one copy of the same float16 logits into memory that is already allocated. "
        "Milliseconds of processor time, medians."
    )
    table = format_table(["", "ms", "ratio to memcpy"], rows)
    publish("soft_labels.py", "Soft labels (cpu)", torch.device("cpu"), f"{table}\n\n{notes}")


def _write_members(store: LogitStore) -> list[LogitKey]:
    generator = np.random.default_rng(0)
    store.write_clips("tau", make_clips(N_CLIPS))
    keys = [LogitKey("tau", 100, f"m{m}-{m:012x}") for m in range(N_MEMBERS)]
    for key in keys:
        logits_NK = generator.normal(0, 4, (N_CLIPS, len(SCENES)))
        store.write(key, logits_NK, {"kind": "teacher", "recipe": "noise"})
    return keys


def _make_sides(store: LogitStore, keys: list[LogitKey]) -> dict[str, Callable[[], object]]:
    weights_M = np.full(N_MEMBERS, 1 / N_MEMBERS)
    logits_MNK = store.read(keys, dtype=np.float16)
    copy_MNK = np.empty_like(logits_MNK)
    return {
        "memcpy": lambda: np.copyto(copy_MNK, logits_MNK),
        "read": lambda: store.read(keys, dtype=np.float16),
        "soft labels": lambda: soft_labels(logits_MNK, weights_M, TEMPERATURE),
        "read and soft labels": lambda: soft_labels(
            store.read(keys, dtype=np.float16), weights_M, TEMPERATURE
        ),
    }


if __name__ == "__main__":
    main()
