"""How long do soft labels of a new ensemble take, beside a copy of the bytes they are made of?

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

from benchmarks.clips import SCENES, clips
from benchmarks.results import markdown, publish, ratio, take_turns
from ensemble import soft_labels
from logit_store import LogitKey, LogitStore

N_CLIPS = 139_620
"""TAU's training clips of the full split."""
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
        sides = _sides(store, _stored(store))
        seconds = take_turns(sides, rounds=rounds, device=torch.device("cpu"), calls=5)
    rows = [
        [name, f"{1e3 * statistics.median(times):.2f}", f"{ratio(times, seconds['memcpy']):.1f}"]
        for name, times in seconds.items()
    ]
    notes = (
        f"{N_MEMBERS} members, {N_CLIPS:,} clips, {len(SCENES)} classes, from warm Parquet files "
        f"on a disk; soft labels at temperature {TEMPERATURE:g} in float32. memcpy: one copy of "
        "the same float16 logits from memory to memory that is there. Milliseconds of processor "
        "time, medians."
    )
    table = markdown(["", "ms", "over memcpy"], rows)
    publish("soft_labels.py", "Soft labels (cpu)", torch.device("cpu"), f"{table}\n\n{notes}")


def _stored(store: LogitStore) -> list[LogitKey]:
    generator = np.random.default_rng(0)
    store.write_clips("tau", clips(N_CLIPS))
    keys = [LogitKey("tau", 100, f"m{m}-{m:012x}") for m in range(N_MEMBERS)]
    for key in keys:
        logits_NK = generator.normal(0, 4, (N_CLIPS, len(SCENES)))
        store.write(key, logits_NK, {"kind": "teacher", "recipe": "noise"})
    return keys


def _sides(store: LogitStore, keys: list[LogitKey]) -> dict[str, Callable[[], object]]:
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
