"""The parts of a split's `fit` clips that cross-fitted models leave out in turn.

Dimensions: N clips (of the corpus, or of some rows of it).
"""

import hashlib
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audio.clips import Corpus
from audio.errors import CorpusError

NO_PART = -1
"""The part of clips that no model leaves out: those outside of `fit`, and those of recordings that alone
have a scene, which a model without them would not know."""

OUT_OF_FOLD = "fit+select"
"""The clips that judge cross-fitted members: those of `select`, and those of `fit` that models left out."""


def find_judging_rows(clips: pa.Table, split: int, fold: str) -> np.ndarray:
    """Return the rows of the clips that are in a fold, or in OUT_OF_FOLD, ascending, int64.

    Args:
        clips: A corpus's table, or the store's table of clips.
        split: 5, 10, 25, 50 or 100.
        fold: A fold's name, or OUT_OF_FOLD.
    """
    folds = clips[f"fold_{split}"]
    if fold != OUT_OF_FOLD:
        return np.flatnonzero(pc.fill_null(pc.equal(folds, fold), False).to_numpy())
    fit = find_judging_rows(clips, split, "fit")
    known = clips.take(fit)
    lone = find_lone(known["scene"].to_numpy(), known["recording"].to_numpy())
    return np.sort(np.concatenate([fit[~lone], find_judging_rows(clips, split, "select")]))


def draw_parts(corpus: Corpus, split: int, n_parts: int) -> np.ndarray:
    """Return the part of each clip, int64 [N]: 0 to n_parts - 1 for clips of `fit`, else NO_PART.

    They are a function of the scenes and recordings of `fit` alone (see `deal_recordings`).

    Raises:
        CorpusError: the split has no `fit` clips, or fewer recordings that can be left out than parts.
    """
    rows = corpus.rows(split, "fit")
    scene_N, recording_N = corpus.column("scene")[rows], corpus.column("recording")[rows]
    part_N = deal_recordings(scene_N, recording_N, n_parts)
    n_dealt = len(np.unique(recording_N[part_N != NO_PART]))
    if n_dealt < n_parts:
        raise CorpusError(
            f"corpus {corpus.name}, split {split}: fold fit has {n_dealt} recordings in scenes with at "
            f"least two, expected at least {n_parts} for {n_parts} parts: take fewer parts, or none"
        )
    parts_N = np.full(len(corpus), NO_PART, dtype=np.int64)
    parts_N[rows] = part_N
    return parts_N


def find_lone(scene_N: np.ndarray, recording_N: np.ndarray) -> np.ndarray:
    """Return whether a clip's recording is the only one of a scene, bool [N]."""
    recordings_of: dict[str, set[str]] = defaultdict(set)
    for scene, recording in zip(scene_N.tolist(), recording_N.tolist(), strict=True):
        recordings_of[scene].add(recording)
    lone = [next(iter(found)) for found in recordings_of.values() if len(found) == 1]
    return np.isin(recording_N.astype(str), lone) if lone else np.zeros(len(scene_N), bool)


def deal_recordings(scene_N: np.ndarray, recording_N: np.ndarray, n_parts: int) -> np.ndarray:
    """Return the part of each clip, int64 [N]: 0 to n_parts - 1, or NO_PART for `find_lone`.

    Clips of a recording are nearly the same clip, so they are in one part. Recordings with most
    clips are dealt first, those with equally many in the order of the hashes of their names; each
    goes to the part with the fewest clips of its scenes, and of these to the smallest: the same on
    every machine, and as balanced as the recordings allow.
    """
    lone_N = find_lone(scene_N, recording_N)
    clips_of: dict[str, Counter[str]] = defaultdict(Counter)
    for scene, recording in zip(
        scene_N[~lone_N].tolist(), recording_N[~lone_N].tolist(), strict=True
    ):
        clips_of[recording][scene] += 1
    part_of: dict[str, int] = {}
    of_scene: list[Counter[str]] = [Counter() for _ in range(n_parts)]
    for name in sorted(clips_of, key=lambda name: (-clips_of[name].total(), _hash(name))):
        counts = clips_of[name]
        part = min(
            range(n_parts),
            key=lambda part: (sum(of_scene[part][s] for s in counts), of_scene[part].total(), part),
        )
        part_of[name] = part
        of_scene[part].update(counts)
    return np.array([part_of.get(name, NO_PART) for name in recording_N.tolist()], dtype=np.int64)


def leave_out(corpus: Corpus, split: int, left_out_N: np.ndarray) -> Corpus:
    """Return the corpus without some clips in any fold of a split; rows and all else stay.

    Args:
        corpus: The corpus.
        split: 5, 10, 25, 50 or 100.
        left_out_N: Whether a clip is left out, bool [N].
    """
    name = f"fold_{split}"
    place = corpus.table.column_names.index(name)
    folds = corpus.table[name].to_numpy().astype(object)
    folds[left_out_N] = None
    return replace(corpus, table=corpus.table.set_column(place, name, pa.array(folds, pa.string())))


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
