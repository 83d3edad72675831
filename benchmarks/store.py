"""How long do listing, asking, writing and reading take, beside plain numpy files?

M members, N clips, K classes.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from benchmarks.clips import SCENES, clips
from benchmarks.results import markdown, publish, ratio, take_turns
from logit_store import LogitKey, LogitStore
from logit_store.layout import catalogue_path, logits_path

CPU = torch.device("cpu")
N_LISTED, N_ASKED, N_READ = 2_000, 110, 6
N_FEW, N_TRAINING, N_ALL = 29_680, 139_620, 230_350
"""TAU's test clips, its training clips, and all."""
RECORD = {
    "kind": "teacher",
    "recipe": {"name": "mn10"} | {f"setting_{i}": i / 7 for i in range(60)},
    "versions": {f"library_{i}": "1.2.3" for i in range(30)},
}
"""As long as that of a teacher."""

Sides = Mapping[str, Callable[[], object]]


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows += _measured(_listing(root / "listed"), rounds)
        rows += _measured(_asking(root / "asked"), rounds)
        for n_clips in (N_FEW, N_TRAINING):
            rows += _measured(_writing(root / f"written-{n_clips}", n_clips), rounds)
            rows += _measured(_reading(root / f"read-{n_clips}", n_clips), rounds)
    notes = (
        f"{len(SCENES)} classes, files on a disk, warm; milliseconds of processor time on one "
        "thread, medians. A listing is beside the catalogue made anew from all footers; a query "
        "beside `LogitStore.read` of the files that it reads; a write (figures, hash and footer "
        "included) beside np.save of the same float16 logits with fsync; a read beside np.load of "
        "as many such files."
    )
    table = markdown(["", "ms", "over what stands beside it"], rows)
    publish("store.py", "Logit store (cpu)", CPU, f"{table}\n\n{notes}")


def _measured(sides: Sides, rounds: int) -> list[list[str]]:
    """A row a side; the first one is what the others stand beside."""
    seconds = take_turns(sides, rounds=rounds, device=CPU)
    beside, *others = seconds
    return [
        [beside, f"{1e3 * statistics.median(seconds[beside]):.1f}", ""],
        *(
            [
                name,
                f"{1e3 * statistics.median(seconds[name]):.1f}",
                f"{ratio(seconds[name], seconds[beside]):.2f}",
            ]
            for name in others
        ),
    ]


def _listing(root: Path) -> Sides:
    store, (first, *others) = _new(root, 200), _keys(N_LISTED)
    store.write(first, _logits(200), RECORD)
    # Thousands of fsyncs would be the longest part of this benchmark.
    for key in others:
        (root / logits_path(key)).parent.mkdir(parents=True)
        shutil.copy(root / logits_path(first), root / logits_path(key))

    def anew() -> pa.Table:
        (root / catalogue_path("tau")).unlink(missing_ok=True)
        return store.members()

    return {
        f"catalogue of {N_LISTED:,} members anew": anew,
        f"listing of {N_LISTED:,} members": store.members,
        f"SQL over {N_LISTED:,} members": lambda: store.sql("select count(*) from members"),
    }


def _asking(root: Path) -> Sides:
    store, keys = _new(root, N_ALL), _keys(N_ASKED)
    logits_NK = _logits(N_ALL)
    for key in keys:
        store.write(key, logits_NK, RECORD)
    by_scene = (
        "set threads = 1; select member, scene, avg(correct::int) from predictions "
        "where recording_device = 's3' and split = 25 group by all"
    )
    return {
        f"reading {N_ASKED} members x {N_ALL:,} clips": lambda: _read_one_by_one(store, keys),
        "SQL: accuracy by member and scene for one recording device": lambda: store.sql(by_scene),
        "SQL: the same with log loss": lambda: store.sql(
            by_scene.replace("avg(correct::int)", "avg(correct::int), avg(log_loss)")
        ),
    }


def _read_one_by_one(store: LogitStore, keys: Sequence[LogitKey]) -> None:
    for key in keys:
        store.read([key], dtype=np.float16)


def _writing(root: Path, n_clips: int) -> Sides:
    store, (key,) = _new(root, n_clips), _keys(1)
    logits_NK = _logits(n_clips)
    half_NK = logits_NK.astype(np.float16)

    def save() -> None:
        with (root / "logits.npy").open("wb") as file:
            np.save(file, half_NK)
            file.flush()
            os.fsync(file.fileno())

    return {
        f"np.save of {n_clips:,} clips": save,
        f"writing {n_clips:,} clips": lambda: store.write(key, logits_NK, RECORD),
    }


def _reading(root: Path, n_clips: int) -> Sides:
    store, keys = _new(root, n_clips), _keys(N_READ)
    logits_NK = _logits(n_clips)
    files = [root / f"{key.member}.npy" for key in keys]
    for key, file in zip(keys, files, strict=True):
        store.write(key, logits_NK, RECORD)
        np.save(file, logits_NK.astype(np.float16))
    return {
        f"np.load of {N_READ} x {n_clips:,} clips": lambda: [np.load(file) for file in files],
        f"reading {N_READ} x {n_clips:,} clips, float16": lambda: store.read(
            keys, dtype=np.float16
        ),
        f"reading {N_READ} x {n_clips:,} clips, float32": lambda: store.read(keys),
    }


def _new(root: Path, n_clips: int) -> LogitStore:
    """A store that knows so many clips."""
    store = LogitStore(root)
    store.write_clips("tau", clips(n_clips))
    return store


def _keys(n: int) -> list[LogitKey]:
    return [LogitKey("tau", 25, f"m{m}-{m:012x}") for m in range(n)]


def _logits(n_clips: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.normal(0, 4, (n_clips, len(SCENES))).astype(np.float32)


if __name__ == "__main__":
    main()
