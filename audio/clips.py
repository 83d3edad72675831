"""Which clips there are, what they are labelled, and who may learn from them.

Dimensions: N clips of a corpus.
"""

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Fold = Literal["fit", "select", "test"]
SPLITS = (5, 10, 25, 50, 100)
SELECT_SHARE = 0.15
"""Share of a training split's recordings that is set apart for choosing between models."""
UNKNOWN = "unknown"
"""City and recording device of clips whose corpus does not tell."""


class CorpusError(ValueError):
    """A corpus's files contradict each other; the message names file, row, value and way out."""


@dataclass(frozen=True, eq=False, slots=True)
class Corpus:
    """A labelled collection of clips, in its own order.

    `table` has a row a clip: row (int32), clip_id, file (relative to `root`), scene, recording,
    city, recording_device, and per split a nullable column `fold_5` ... `fold_100` that says
    "fit", "select", "test" or null. A corpus whose files last differently has `start_s` as well
    (float64): where in its file a clip begins, null for a file that is a clip as it is.
    """

    name: str
    root: Path
    table: pa.Table
    clip_duration_s: float = 1.0
    reference_device: str | None = "a"
    """The recording device whose clips may be given another device's impulse response."""

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def scenes(self) -> tuple[str, ...]:
        """Class order: the scenes in alphabetical order; a label is an index into it."""
        return tuple(sorted(pc.unique(self.table["scene"]).to_pylist()))

    def labels(self) -> np.ndarray:
        """Class index of every clip, int64 [N]."""
        return indices(self.table["scene"], self.scenes)

    def column(self, name: str) -> np.ndarray:
        """A column of the table as numpy strings or numbers, [N]."""
        return self.table[name].to_numpy()

    def rows(self, split: int, *folds: Fold) -> np.ndarray:
        """Rows of the clips of a split that lie in one of the folds, ascending, int64.

        Raises:
            CorpusError: the corpus has no clip there.
        """
        rows = self._inside(split, folds)
        if len(rows) == 0:
            filled = ", ".join(str(each) for each in SPLITS if len(self._inside(each, folds)))
            raise CorpusError(
                f"corpus {self.name} in {self.root}: no clip in fold {'/'.join(folds)} of split "
                f"{split}; splits with such clips: {filled or 'none'}"
            )
        return rows

    def _inside(self, split: int, folds: tuple[Fold, ...]) -> np.ndarray:
        if split not in SPLITS:
            return np.empty(0, dtype=np.int64)
        inside = pc.fill_null(pc.is_in(self.table[f"fold_{split}"], pa.array(folds)), False)
        return np.flatnonzero(inside.to_numpy())

    def clips_table(self) -> pa.Table:
        """The table as the logit store keeps it: what a clip is, not where it lies."""
        where = [name for name in ("file", "start_s") if name in self.table.column_names]
        return self.table.drop_columns(where)

    def starts_s(self) -> list[float | None]:
        """Where in its file each clip begins, in seconds; None for a file that is a clip as it is."""
        if "start_s" not in self.table.column_names:
            return [None] * len(self)
        return self.table["start_s"].to_pylist()

    @property
    def is_cut(self) -> bool:
        """Whether some clips are parts of their files, or repetitions of them."""
        has_starts = "start_s" in self.table.column_names
        return has_starts and self.table["start_s"].null_count < len(self)

    def identity(self) -> str:
        """Hex digest of everything but the audio: clips, their order, labels and folds."""
        return _identity(self)

    def keep(self, clip_ids: Iterable[str]) -> "Corpus":
        """The corpus with only these clips, in the corpus's order, rows numbered anew."""
        kept = self.table.filter(pc.is_in(self.table["clip_id"], pa.array(clip_ids, pa.string())))
        rows = pa.array(np.arange(kept.num_rows, dtype=np.int32))
        return replace(self, table=kept.set_column(0, "row", rows))


def plain_table(
    files: Sequence[str],
    clip_ids: Sequence[str],
    scenes: Sequence[str],
    recordings: Sequence[str],
    folds: Mapping[int, Sequence[str | None]],
) -> pa.Table:
    """The table of a corpus that tells no cities and no recording devices.

    Args:
        files: relative to the corpus's root, [N]; as all that follow.
        clip_ids: what each clip is called.
        scenes: its label.
        recordings: what it was cut from.
        folds: its fold in each split that the corpus has; it is in no fold of the others.
    """
    n = len(files)
    columns = {
        "row": pa.array(np.arange(n, dtype=np.int32)),
        "clip_id": pa.array(clip_ids, pa.string()),
        "file": pa.array(files, pa.string()),
        "scene": pa.array(scenes, pa.string()),
        "recording": pa.array(recordings, pa.string()),
        "city": pa.repeat(UNKNOWN, n),
        "recording_device": pa.repeat(UNKNOWN, n),
    }
    for split in SPLITS:
        columns[f"fold_{split}"] = pa.array(folds.get(split, [None] * n), pa.string())
    return pa.table(columns)


@functools.lru_cache(maxsize=8)
def _identity(corpus: Corpus) -> str:
    # Asked for by every run of a plan, and a second of work for the 230,350 clips of TAU.
    digest = hashlib.sha256()
    for column in corpus.clips_table().column_names:
        values = pc.fill_null(pc.cast(corpus.table[column], pa.string()), "").to_pylist()
        digest.update("\n".join([column, *values]).encode())
    if corpus.is_cut:
        # Files that come or go may change the length that the others are cut to.
        digest.update(f"\nclips of {corpus.clip_duration_s} s".encode())
    return digest.hexdigest()


def indices(values: pa.ChunkedArray, order: tuple[str, ...]) -> np.ndarray:
    """Position of each value in `order`, int64; -1 where it is not in it."""
    return pc.fill_null(pc.index_in(values, pa.array(order)), -1).to_numpy().astype(np.int64)


def assign_folds(
    scenes: np.ndarray, recordings: np.ndarray, in_split: np.ndarray, in_test: np.ndarray
) -> list[str | None]:
    """Fold of every clip in one split: about 15 % of its recordings are `select`.

    A recording is `select` or `fit` as a whole, since its clips are nearly the same clip. In each
    scene the recordings with the smallest hash of their name are taken: one at least where there
    are two, on every machine the same, and mostly the same in a split and in the next larger one.

    Args:
        scenes: scene of each clip, [N].
        recordings: recording of each clip, [N].
        in_split: whether the clip is a training clip of the split, bool [N].
        in_test: whether the clip is a test clip, bool [N].
    """
    selected: set[str] = set()
    for scene in np.unique(scenes[in_split]):
        names = np.unique(recordings[in_split & (scenes == scene)])
        by_hash = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
        count = max(1, round(SELECT_SHARE * len(names))) if len(names) > 1 else 0
        selected.update(by_hash[:count])
    chosen = np.isin(recordings, list(selected))
    folds = np.full(len(scenes), None, dtype=object)
    folds[in_split & ~chosen] = "fit"
    folds[in_split & chosen] = "select"
    folds[in_test] = "test"
    return folds.tolist()
