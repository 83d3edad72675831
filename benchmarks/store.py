"""Compares the time for listing, querying, writing and reading with plain numpy files.

M members, N clips, K classes.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import hashlib
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
import safetensors.torch
import torch

from benchmarks.clips import SCENES, make_clips
from benchmarks.readers import READERS_NOTE, make_rivals
from benchmarks.results import format_table, publish, ratio, take_turns
from logit_store import LogitKey, LogitStore
from logit_store.paths import catalogue_path, clips_path, logits_path
from training import fetch_weights

CPU = torch.device("cpu")
N_LISTED, N_ASKED, N_READ = 2_000, (22, 110), 6
N_FEW, N_TRAINING, N_ALL = 29_680, 139_620, 230_350
"""Numbers of TAU's test clips, training clips, and all clips."""
RECORD = {
    "kind": "teacher",
    "recipe": {"name": "mn10"} | {f"setting_{i}": i / 7 for i in range(60)},
    "versions": {f"library_{i}": "1.2.3" for i in range(30)},
}
"""A record as long as that of a teacher."""

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
        rows += _measure(_make_listing_sides(root / "listed"), rounds)
        for n_members in N_ASKED:
            rows += _measure(_make_query_sides(root / f"asked-{n_members}", n_members), rounds)
        rows += _measure(_make_whole_sides(root / "whole"), rounds)
        rows += _measure(_make_clips_sides(root / "clips"), rounds)
        rows += _measure(_make_weights_sides(root / "weights"), rounds)
        for n_clips in (N_FEW, N_TRAINING):
            rows += _measure(_make_writing_sides(root / f"written-{n_clips}", n_clips), rounds)
            rows += _measure(_make_reading_sides(root / f"read-{n_clips}", n_clips), rounds)
    notes = (
        f"{len(SCENES)} classes, files on a disk that are in the page cache; milliseconds of "
        "processor time on one thread, medians. The baseline of a listing is rebuilding the "
        "catalogue from all footers; that of a query is `LogitStore.read` of the files that it "
        "reads; that of a write (including scores, hash and footer) is np.save of the same "
        "float16 logits with fsync; that of a read is np.load of as many such files. All reads but "
        f"the baselines compare checksums. {READERS_NOTE}"
    )
    table = format_table(["", "ms", "ratio to the baseline"], rows)
    publish("store.py", "Logit store (cpu)", CPU, f"{table}\n\n{notes}")


def _measure(sides: Sides, rounds: int) -> list[list[str]]:
    """Return one row per side; the first side is the baseline of the others."""
    seconds = take_turns(sides, rounds=rounds, device=CPU)
    baseline, *others = seconds
    return [
        [baseline, f"{1e3 * statistics.median(seconds[baseline]):.1f}", ""],
        *(
            [
                name,
                f"{1e3 * statistics.median(seconds[name]):.1f}",
                f"{ratio(seconds[name], seconds[baseline]):.2f}",
            ]
            for name in others
        ),
    ]


def _make_listing_sides(root: Path) -> Sides:
    store, (first, *others) = _create_store(root, 200), _make_keys(N_LISTED)
    store.write(first, _draw_logits(200), RECORD)
    # The files are copied, because thousands of fsyncs would take most of the time.
    for key in others:
        (root / logits_path(key)).parent.mkdir(parents=True)
        shutil.copy(root / logits_path(first), root / logits_path(key))
    files = [root / logits_path(key) for key in (first, *others)]

    def rebuild() -> pa.Table:
        (root / catalogue_path("tau")).unlink(missing_ok=True)
        return store.members()

    return {
        f"rebuilding the catalogue of {N_LISTED:,} members": rebuild,
        f"listing {N_LISTED:,} members": store.members,
        f"SQL over {N_LISTED:,} members": lambda: store.sql("select count(*) from members"),
        f"reading the bytes of {N_LISTED:,} footers": lambda: [_read_end(file) for file in files],
    }


def _read_end(file: Path) -> bytes:
    """Read a Parquet file's footer; its length stands before the mark at its end."""
    with file.open("rb") as opened:
        size = opened.seek(-8, os.SEEK_END) + 8
        n_bytes = int.from_bytes(opened.read(4), "little") + 8
        opened.seek(size - n_bytes)
        return opened.read(n_bytes)


def _make_query_sides(root: Path, n_members: int) -> Sides:
    store, keys = _create_store(root, N_ALL), _make_keys(n_members)
    logits_NK = _draw_logits(N_ALL)
    for key in keys:
        store.write(key, logits_NK, RECORD)
    by_scene = (
        "select member, scene, avg(correct::int) from predictions "
        "where recording_device = 's3' and split = 25 group by all"
    )
    return {
        f"reading {n_members} members x {N_ALL:,} clips": lambda: _read_one_by_one(store, keys),
        f"SQL: accuracy by member and scene for one recording device, {n_members} members": (
            lambda: store.sql(by_scene)
        ),
        f"SQL: the same with log loss, {n_members} members": lambda: store.sql(
            by_scene.replace("avg(correct::int)", "avg(correct::int), avg(log_loss)")
        ),
    }


def _read_one_by_one(store: LogitStore, keys: Sequence[LogitKey]) -> None:
    for key in keys:
        store.read([key], dtype=np.float16)


def _make_writing_sides(root: Path, n_clips: int) -> Sides:
    store, (key,) = _create_store(root, n_clips), _make_keys(1)
    logits_NK = _draw_logits(n_clips)
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


def _make_reading_sides(root: Path, n_clips: int) -> Sides:
    store, keys = _create_store(root, n_clips), _make_keys(N_READ)
    logits_NK = _draw_logits(n_clips)
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
        **make_rivals(
            root, [store.files.fetch(logits_path(key)) for key in keys], logits_NK, SCENES
        ),
    }


def _make_whole_sides(root: Path) -> Sides:
    """Compare reads, which compare all checksums, with reading the bytes of the same files."""
    store, keys = _create_store(root, N_FEW), _make_keys(N_ASKED[-1])
    logits_NK = _draw_logits(N_FEW)
    for key in keys:
        store.write(key, logits_NK, RECORD)
    arrays = [root / f"{key.member}.npy" for key in keys]
    for array in arrays:
        np.save(array, logits_NK.astype(np.float16))
    return {
        f"np.load of {len(keys)} x {N_FEW:,} clips": lambda: [np.load(array) for array in arrays],
        f"reading {len(keys)} x {N_FEW:,} clips with their checksums, float16": lambda: store.read(
            keys, dtype=np.float16
        ),
    }


def _make_clips_sides(root: Path) -> Sides:
    """Compare reading the table of clips, which compares all checksums, with pyarrow alone."""
    store = _create_store(root, N_ALL)
    clips = root / clips_path("tau")
    return {
        f"pyarrow's table of {N_ALL:,} clips": lambda: pq.read_table(clips, use_threads=False),
        f"the table of {N_ALL:,} clips with its checksums": lambda: store.read_clips("tau"),
    }


def _make_weights_sides(root: Path) -> Sides:
    """Compare weights of 48,000 parameters and their hash with loading them alone."""
    store, (key,) = _create_store(root, 200), _make_keys(1)
    weights = safetensors.numpy.save({"layer": np.ones(48_000, np.float32)})
    sha256 = hashlib.sha256(weights).hexdigest()
    store.write(key, _draw_logits(200), RECORD | {"weights_sha256": sha256})
    store.objects.write(f"students/v1/{key.member}/weights.safetensors", weights)
    file = store.objects.fetch(f"students/v1/{key.member}/weights.safetensors")
    return {
        "loading a student's weights": lambda: safetensors.torch.load_file(file),
        "loading them, compared with their hash": lambda: safetensors.torch.load_file(
            fetch_weights(store, "student", key.member)
        ),
    }


def _create_store(root: Path, n_clips: int) -> LogitStore:
    """Create a store with a corpus of `n_clips` clips."""
    store = LogitStore(root)
    store.write_clips("tau", make_clips(n_clips))
    return store


def _make_keys(n: int) -> list[LogitKey]:
    return [LogitKey("tau", 25, f"m{m}-{m:012x}") for m in range(n)]


def _draw_logits(n_clips: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.normal(0, 4, (n_clips, len(SCENES))).astype(np.float32)


if __name__ == "__main__":
    main()
