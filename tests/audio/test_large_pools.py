"""Pools of many clips are planned by their names alone."""

import builtins
import io
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from audio.clips import Corpus, build_clips_table
from audio.pools import (
    find_pools,
    make_learning_corpus,
    make_pool_corpus,
    refuse_leaks,
)

CLIPS_PER_FILE = 1_000
BYTES_PER_CLIP = 600
"""Two tables of twelve columns, of which four hold names, and what numpy and Python hold meanwhile."""


def make_own(root):
    """Return 100 labelled clips, in all folds of split 25."""
    names = [f"own/{number:03}" for number in range(100)]
    scenes, folds = ["cat", "dog"] * 50, ["fit"] * 60 + ["select"] * 20 + ["test"] * 20
    table = build_clips_table(names, names, scenes, names, {25: folds, 100: folds})
    return Corpus(name="folder", root=root, table=table)


def make_recordings(root, n_clips):
    """Return clips of long recordings, whose files are there and empty."""
    files = [f"day-{number // CLIPS_PER_FILE:05}.wav" for number in range(n_clips)]
    for file in set(files):
        (root / file).touch()
    starts_s = pa.array(np.arange(n_clips) % CLIPS_PER_FILE, pa.float64())
    ids = [f"{file}@{start}" for file, start in zip(files, starts_s.to_numpy(), strict=True)]
    table = build_clips_table(files, ids, [""] * n_clips, files, {})
    return Corpus(name="folder", root=root, table=table.append_column("start_s", starts_s))


def plan(own, recordings):
    """Do what a command does with a pool before its first task."""
    pools = find_pools(own, 25, ["folder:/day"], lambda word: make_pool_corpus(recordings))
    refuse_leaks(own, 25, pools)
    pools[0].corpus.compute_identity()
    return pools, make_learning_corpus(own, 25, pools)


@pytest.mark.parametrize(
    "n_clips", [50_000, pytest.param(1_000_000, marks=pytest.mark.slow)], ids="{:,} clips".format
)
def test_a_pool_is_planned_without_its_audio_and_in_bounded_memory(tmp_path, monkeypatch, n_clips):
    own, recordings = make_own(tmp_path), make_recordings(tmp_path, n_clips)

    def refuse(*arguments, **settings):
        raise AssertionError(f"opened {arguments[0]}")

    for module in (builtins, io):
        monkeypatch.setattr(module, "open", refuse)
    tracemalloc.start()
    try:
        (pool,), learning = plan(own, recordings)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes + pool.corpus.table.nbytes + learning.table.nbytes < BYTES_PER_CLIP * n_clips
    assert pool.describe()["clips"] == n_clips
    assert learning.rows(25, "pool").tolist() == [*range(100, 100 + n_clips)]
