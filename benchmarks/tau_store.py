"""Measures a store of 110 members over TAU's 230,350 clips: its size, and the time of each use.

The list of clips is the real one, made from that of TAU 2020 Mobile, of which each recording is ten
clips of TAU 2022 Mobile. The logits are synthetic. M members, N clips, K classes.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import csv
import gzip
import tempfile
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
import torch

import ensemble
from audio.clips import SPLITS, Corpus
from audio.corpora import tau
from benchmarks.results import format_table, publish
from logit_store import LogitKey, LogitStore
from logit_store.paths import logits_path
from metrics import log_loss

Result = TypeVar("Result")

N_TEACHERS = 22
N_SOFT = 6
CUTS = 10
"""Number of clips of a recording."""


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "recordings", type=Path, help="TAU 2020 Mobile's meta.csv, plain or gzipped"
    )
    recordings = parser.parse_args().recordings
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_meta(recordings, root / "meta.csv")
        corpus, reading_s = _measure_time(lambda: tau.read(root))
        rows, n_bytes = _measure_uses(corpus, LogitStore(root / "store"))
    notes = (
        f"{len(corpus):,} clips, {N_TEACHERS} teachers x {len(SPLITS)} splits, "
        f"{n_bytes / 2**20:,.0f} MiB of logits files ({n_bytes / _count_plain_bytes(corpus):.3f} "
        f"times the float16 values alone). Reading the lists of the corpus took {reading_s:.1f} s. "
        "Wall time, one thread (DuckDB: two), files in the page cache."
    )
    table = format_table(["", "s", "ratio to reading the same files' bytes"], rows)
    publish(
        "tau_store.py LIST",
        "A store over all of TAU (cpu)",
        torch.device("cpu"),
        f"{table}\n\n{notes}",
    )


def write_meta(recordings: Path, file: Path) -> None:
    """Write TAU 2022 Mobile's meta.csv, from that of TAU 2020 Mobile."""
    opened = gzip.open if recordings.suffix == ".gz" else open
    with opened(recordings, "rt") as source, file.open("w") as target:
        reader = csv.DictReader(source, delimiter="\t")
        print(*tau.META_COLUMNS, sep="\t", file=target)
        for row in reader:
            name, _, device = PurePosixPath(row["filename"]).stem.rpartition("-")
            for cut in range(CUTS):
                row["filename"] = f"audio/{name}-{cut}-{device}.wav"
                print(*(row[column] for column in tau.META_COLUMNS), sep="\t", file=target)


def _measure_uses(corpus: Corpus, store: LogitStore) -> tuple[list[list[str]], int]:
    keys = [LogitKey("tau", s, f"t{m:02d}-{s:012x}") for s in SPLITS for m in range(N_TEACHERS)]
    writing_s = _write_members(corpus, store, keys)
    quarter = [key for key in keys if key.split == 25]
    files = {key: store.files.fetch(logits_path(key)) for key in keys}
    everything_s = _measure_time(lambda: [files[key].read_bytes() for key in keys])[1]
    quarter_s = _measure_time(lambda: [files[key].read_bytes() for key in quarter])[1]
    rows_25 = corpus.rows(25, "select")
    labels = corpus.labels()[rows_25]
    by_device = (
        "select member, avg(correct::int), avg(log_loss) from predictions "
        "where recording_device = 's3' and split = 25 and fold = 'select' group by member"
    )
    logits_MNK, gathering_s = _measure_time(lambda: store.read(quarter, rows_25, dtype=np.float16))
    ensemble.select(logits_MNK[:2], labels)  # compiles the kernels
    selection, selecting_s = _measure_time(lambda: ensemble.select(logits_MNK, labels))
    best = [quarter[m] for m in selection.members[:N_SOFT]]
    learnt = corpus.rows(100, "fit", "select")
    weights = [1 / len(best)] * len(best)
    soft_s = _measure_time(
        lambda: ensemble.soft_labels(store.read(best, learnt, dtype=np.float16), weights, 2.0)
    )[1]
    mean_NK = ensemble.mean_logits(logits_MNK, selection.weights)
    loss = log_loss(mean_NK, labels)
    if not np.isclose(loss, selection.losses[-1], atol=1e-6):
        raise AssertionError(
            f"the selection reports a loss of {selection.losses[-1]}, its members have {loss}"
        )
    measured = [
        (f"writing {len(keys)} members", writing_s, everything_s),
        (
            "listing them, before their footers are in the catalogue",
            _measure_time(store.members)[1],
            None,
        ),
        ("listing them again", _measure_time(store.members)[1], None),
        (
            f"SQL: {len(quarter)} members on one device and split",
            _measure_time(lambda: store.sql(by_device))[1],
            quarter_s,
        ),
        (f"reading {len(quarter)} members' {len(rows_25):,} select clips", gathering_s, quarter_s),
        (f"selecting {len(selection.members)} of them", selecting_s, quarter_s),
        (
            f"soft labels of {len(best)} members for {len(learnt):,} clips",
            soft_s,
            quarter_s * len(best) / len(quarter),
        ),
    ]
    rows = [
        [what, f"{took:.3f}", "" if base is None else f"{took / base:.1f}"]
        for what, took, base in measured
    ]
    return rows, sum(file.stat().st_size for file in files.values())


def _write_members(corpus: Corpus, store: LogitStore, keys: list[LogitKey]) -> float:
    """Write members that share mistakes, each about half right; return the seconds that it took."""
    generator = np.random.default_rng(0)
    store.write_clips("tau", corpus.clips_table())
    labels_N = corpus.labels()
    shape = (len(corpus), len(corpus.scenes))
    shared_NK = generator.normal(0, 1.2, shape).astype(np.float32)
    shared_NK[np.arange(len(labels_N)), labels_N] += 1.5
    took_s = 0.0
    for m, key in enumerate(keys):
        own_NK = generator.standard_normal(shape, np.float32) * (1 + 0.05 * (m % N_TEACHERS))
        record = {"kind": "teacher", "recipe": key.member[:3]}
        began = time.perf_counter()
        store.write(key, shared_NK + own_NK, record)
        took_s += time.perf_counter() - began
    return took_s


def _count_plain_bytes(corpus: Corpus) -> int:
    return N_TEACHERS * len(SPLITS) * len(corpus) * len(corpus.scenes) * 2


def _measure_time(action: Callable[[], Result]) -> tuple[Result, float]:
    began = time.perf_counter()
    result = action()
    return result, time.perf_counter() - began


if __name__ == "__main__":
    main()
