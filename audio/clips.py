"""A corpus: its clips, their labels, and the splits and folds that they belong to.

Dimensions: N clips of a corpus.
"""

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audio.errors import CorpusError
from audio.several import are_several, find_classes, make_targets

Fold = Literal["fit", "select", "test", "pool"]
FOLDS: tuple[Fold, ...] = get_args(Fold)
LABELLED_FOLDS: tuple[Fold, ...] = ("fit", "select", "test")
"""All but `pool`, whose clips only teach, and need no label."""
POOL: Fold = "pool"
"""Fold of clips that only teach: nothing reads their labels, if they have some."""
SPLITS = (5, 10, 25, 50, 100)
SELECT_SHARE = 0.15
"""Share of a training split's recordings that is reserved for choosing between models."""
UNLABELLED = ""
"""The scene of clips that nobody labelled: they are in no fold but `pool`."""
UNKNOWN = "unknown"
"""City and recording device of clips whose corpus does not give them."""
DIGESTED_AT_A_TIME = 2**16
"""Clips whose values are in memory as Python objects while a corpus is digested."""


@dataclass(frozen=True, eq=False, slots=True)
class Corpus:
    """A labelled collection of clips, in its own order.

    `table` has one row per clip: row (int32), clip_id, file (relative to `root`), scene, recording,
    city, recording_device, and for each split a nullable column `fold_5` ... `fold_100` that holds
    "fit", "select", "test", "pool" or null. A corpus whose files have different durations also has
    `start_s` (float64): where in its file a clip begins, or null if the file is the clip. A corpus
    that has several recordings of one source (an event that many microphones recorded) may name it
    in a column `source`. Clips that may have several labels, or none, have a list of them as their
    scene: `audio.several`.
    """

    name: str
    root: Path
    table: pa.Table
    clip_duration_s: float = 1.0
    reference_device: str | None = "a"
    """The recording device whose clips may get the impulse response of another device."""

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def own(self) -> "Corpus":
        """The corpus whose rows come first: itself, without the pools that it is taught with."""
        return self

    @property
    def foreign(self) -> "tuple[tuple[Corpus, np.ndarray], ...]":
        """The corpora whose clips follow its own, and the rows of these clips in them: none."""
        return ()

    @property
    def scenes(self) -> tuple[str, ...]:
        """The scenes in alphabetical order; a label is an index into it."""
        return tuple(find_classes(pc.unique(self.table["scene"]).to_pylist()))

    @property
    def has_several_labels(self) -> bool:
        """Whether a clip may have several labels, or none of the classes."""
        return are_several(pc.unique(self.table["scene"]).to_pylist())

    def labels(self) -> np.ndarray:
        """Return the class index of every clip, int64 [N]; -1 for clips without a label.

        Raises:
            CorpusError: A clip may have several labels: what asks for one is not made for that.
        """
        if self.has_several_labels:
            raise CorpusError(
                f"corpus {self.name} in {self.root}: its clips have several labels or none, and this "
                "takes one label a clip"
            )
        return find_indices(self.table["scene"], self.scenes)

    def truth(self) -> np.ndarray:
        """Return what is true of every clip: `labels`, int64 [N], or of several labels int8 [N, K].

        Of several labels it is 1 for each class that the clip has, else 0; -1 for clips that nobody
        labelled.
        """
        if self.has_several_labels:
            return make_targets(self.table["scene"], self.scenes)
        return self.labels()

    def find_labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the row of each label, ascending, and the index of its class, both int64."""
        truth = self.truth()
        if truth.ndim == 2:
            rows, classes = np.nonzero(truth == 1)
            return rows, classes
        rows = np.flatnonzero(truth >= 0)
        return rows, truth[rows]

    def find_unlabelled(self) -> np.ndarray:
        """Return whether each clip is without a label, bool [N]."""
        return pc.equal(self.table["scene"], UNLABELLED).to_numpy()

    def column(self, name: str) -> np.ndarray:
        """Return a column of the table as numpy strings or numbers, [N]."""
        return self.table[name].to_numpy()

    def groups(self) -> np.ndarray:
        """Return what the clips were cut from, [N]: sources if the corpus names them, or recordings.

        Clips of one group are alike, and independent of those of others: intervals draw groups.
        """
        return self.column("source" if self.has_sources else "recording")

    @property
    def has_sources(self) -> bool:
        """Whether the corpus names what its recordings come from, in a column `source`."""
        return "source" in self.table.column_names

    def rows(self, split: int, *folds: Fold) -> np.ndarray:
        """Return the rows of a split's clips that are in one of the folds, ascending, int64.

        Raises:
            CorpusError: The corpus has no such clip.
        """
        rows = self._find_rows(split, folds)
        if len(rows) == 0:
            filled = ", ".join(str(each) for each in SPLITS if len(self._find_rows(each, folds)))
            raise CorpusError(
                f"corpus {self.name} in {self.root}: no clip in fold {'/'.join(folds)} of split "
                f"{split}; splits with such clips: {filled or 'none'}"
            )
        return rows

    def _find_rows(self, split: int, folds: tuple[Fold, ...]) -> np.ndarray:
        if split not in SPLITS:
            return np.empty(0, dtype=np.int64)
        inside = pc.fill_null(pc.is_in(self.table[f"fold_{split}"], pa.array(folds)), False)
        return np.flatnonzero(inside.to_numpy())

    def clips_table(self) -> pa.Table:
        """Return the table for the logit store: without files, where clips begin, and sources."""
        known = [name for name in ("file", "start_s", "source") if name in self.table.column_names]
        return self.table.drop_columns(known)

    def starts_s(self) -> list[float | None]:
        """Return where in its file each clip begins, in seconds; None if the file is the clip."""
        if "start_s" not in self.table.column_names:
            return [None] * len(self)
        return self.table["start_s"].to_pylist()

    @property
    def is_cut(self) -> bool:
        """Whether some clips are parts or repetitions of their files."""
        has_starts = "start_s" in self.table.column_names
        return has_starts and self.table["start_s"].null_count < len(self)

    def compute_identity(self) -> str:
        """Return a hex digest of everything except the audio: clips, order, labels and folds."""
        return _digest_table(self)

    def keep(self, clip_ids: Iterable[str]) -> "Corpus":
        """Return the corpus with only these clips, in its own order and with new row numbers."""
        kept = self.table.filter(pc.is_in(self.table["clip_id"], pa.array(clip_ids, pa.string())))
        rows = pa.array(np.arange(kept.num_rows, dtype=np.int32))
        return replace(self, table=kept.set_column(0, "row", rows))


def build_clips_table(
    files: Sequence[str],
    clip_ids: Sequence[str],
    scenes: Sequence[str],
    recordings: Sequence[str],
    folds: Mapping[int, Sequence[str | None]],
) -> pa.Table:
    """Return the table of a corpus without known cities and recording devices.

    Args:
        files: File of each clip, relative to the corpus's root, [N].
        clip_ids: Name of each clip, [N].
        scenes: Label of each clip, [N]; UNLABELLED for one without.
        recordings: Recording that each clip was cut from, [N].
        folds: Fold of each clip, [N], in each split that the corpus has.
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
def _digest_table(corpus: Corpus) -> str:
    # Every run of a plan needs it, and it takes a second for the 230,350 clips of TAU.
    digest = hashlib.sha256()
    for column in corpus.clips_table().column_names:
        digest.update(column.encode())
        values = pc.fill_null(pc.cast(corpus.table[column], pa.string()), "")
        # In parts, because a million texts as Python objects take 60 MB.
        for start in range(0, len(values), DIGESTED_AT_A_TIME):
            part = values.slice(start, DIGESTED_AT_A_TIME).to_pylist()
            digest.update("\n".join(["", *part]).encode())
    if corpus.is_cut:
        # New or removed files may change the length that the others are cut to.
        digest.update(f"\nclips of {corpus.clip_duration_s} s".encode())
    return digest.hexdigest()


def find_indices(values: pa.ChunkedArray, order: tuple[str, ...]) -> np.ndarray:
    """Return the position of each value in `order`, int64; -1 for values that are not in it."""
    return (
        pc.fill_null(pc.index_in(values, pa.array(order, values.type)), -1)
        .to_numpy()
        .astype(np.int64)
    )


def assign_folds(
    scenes: np.ndarray, recordings: np.ndarray, in_split: np.ndarray, in_test: np.ndarray
) -> list[str | None]:
    """Return the fold of every clip in one split; about 15 % of its recordings are `select`.

    All clips of a recording get the same fold, because they are nearly the same clip. In each scene
    the recordings whose names have the smallest hashes become `select`: at least one where there
    are two, the same on every machine, and mostly the same in a split and in the next larger one.

    Args:
        scenes: Scene of each clip, [N].
        recordings: Recording of each clip, [N].
        in_split: Whether the clip is a training clip of the split, bool [N].
        in_test: Whether the clip is a test clip, bool [N].
    """
    # Numbers instead of names take a quarter of the time for the 230,350 clips of TAU.
    encoded = pa.array(recordings, pa.string()).dictionary_encode()
    recording_N, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    selected: set[int] = set()
    for scene in np.unique(scenes[in_split]):
        numbers = np.unique(recording_N[in_split & (scenes == scene)]).tolist()
        numbers.sort(key=lambda number: hashlib.sha256(names[number].encode()).digest())
        count = max(1, round(SELECT_SHARE * len(numbers))) if len(numbers) > 1 else 0
        selected.update(numbers[:count])
    is_selected = np.isin(recording_N, list(selected))
    folds = np.full(len(scenes), None, dtype=object)
    folds[in_split & ~is_selected] = "fit"
    folds[in_split & is_selected] = "select"
    folds[in_test] = "test"
    return folds.tolist()
