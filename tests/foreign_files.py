"""A corpus without audio in a store, and files of its logits in other projects' formats.

N clips, K classes.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from corpus_files import write_corpus

from audio.corpora import tau
from logit_store import LogitStore


@dataclass(frozen=True, eq=False)
class Case:
    """A store that knows a corpus, and logits that a good teacher could have."""

    store: LogitStore
    root: Path
    names: tuple[str, ...]
    scenes: tuple[str, ...]
    logits_NK: np.ndarray


def make_case(folder: Path) -> Case:
    """Return a case of three scenes and 57 clips, without their audio files."""
    root = write_corpus(folder / "tau", sample_rate=100)
    shutil.rmtree(root / "audio")
    corpus = tau.read(root)
    store = LogitStore(folder / "store")
    store.write_clips("tau", corpus.clips_table())
    noise_NK = np.random.default_rng(5).normal(0, 1, (len(corpus), len(corpus.scenes)))
    logits_NK = noise_NK + 6 * np.eye(len(corpus.scenes))[corpus.labels()]
    names = tuple(corpus.table["file"].to_pylist())
    # Other projects' files hold float32; the store holds float16.
    return Case(store, root, names, corpus.scenes, logits_NK.astype(np.float16).astype(np.float32))


def write_text_table(
    file: Path, names: Sequence[str], columns: dict[str, Sequence[object]], delimiter: str = "\t"
) -> Path:
    """Write `filename` and the columns as lines of text."""
    rows = [("filename", *columns), *zip(names, *columns.values(), strict=True)]
    file.write_text("".join(delimiter.join(map(str, row)) + "\n" for row in rows))
    return file
