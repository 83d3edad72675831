"""Alignment of imported logits with the clips of a corpus.

Dimensions: R rows of a file, N clips of the corpus, K classes.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audio.clips import find_indices
from logit_store.clips_table import find_scenes, fold_column
from logit_store.errors import UnfitImport
from logit_store.foreign import ForeignLogits
from logit_store.keys import hash_row_order
from logit_store.logits_file import MAX_LOGIT
from metrics import accuracy
from metrics.scores import Integers

PROBABILITY_FLOOR = 1e-12
"""Smaller probabilities are raised to this before taking the logarithm."""
STANDARD_ERRORS = 5.0
"""How many of them an accuracy must be above chance."""


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class LabelledClips:
    """A corpus's clips from a store."""

    corpus: str
    table: pa.Table
    clip_ids: pa.StringArray
    scenes: tuple[str, ...]
    labels_N: Integers
    """-1 for clips without a label, which are never in `fit`."""
    row_order: str

    @classmethod
    def of(cls, corpus: str, table: pa.Table) -> Self:
        """Make it from a table with the columns of CLIPS_SCHEMA."""
        scenes = tuple(find_scenes(table))
        clip_ids = table["clip_id"].combine_chunks()
        return cls(
            corpus=corpus,
            table=table,
            clip_ids=clip_ids,
            scenes=scenes,
            labels_N=find_indices(table["scene"], scenes),
            row_order=hash_row_order(clip_ids.to_pylist()),
        )

    def find_fit_rows(self, split: int) -> Integers:
        """Return the rows of the clips that a teacher learns from in this split."""
        in_fit = pc.fill_null(pc.equal(self.table[fold_column(split)], "fit"), False)
        return np.flatnonzero(in_fit.to_numpy())


def align(
    path: Path, foreign: ForeignLogits, clips: LabelledClips, split: int
) -> tuple[NDArray[np.floating], tuple[str, ...]]:
    """Return logits [N, K] in the order of clips and scenes, and remarks on changes and omissions.

    Misaligned rows are detected by the labels: the accuracy on `fit` must exceed chance, which is
    the accuracy of the same predictions in random order, by five standard errors. The standard
    error is computed from the number of recordings, because clips of one recording are nearly the
    same. With very few recordings, half of the way from chance to 1 is enough. Rows that were
    exchanged within a scene are not detected.

    Args:
        path: of the file, for error messages.
        foreign: its content.
        clips: of the corpus.
        split: from which the teacher learnt.

    Raises:
        UnfitImport: rows, columns or values do not fit the clips.
    """
    order_K = _find_columns(path, foreign, clips.scenes)
    rows_N, remarks = _find_rows(path, foreign, clips)
    if foreign.unused:
        remarks = (*remarks, f"not used: column {', '.join(foreign.unused)}")
    given_NK = foreign.logits_RK.take(rows_N, axis=0).take(order_K, axis=1)
    _check_values(path, given_NK, rows_N, clips)
    logits_NK, changed = _convert_to_logits(given_NK)
    if changed:
        remarks = (*remarks, f"probabilities: took logarithms, of {PROBABILITY_FLOOR:g} at least")
    _check_alignment(path, logits_NK, clips, split)
    return logits_NK, remarks


def _find_columns(path: Path, foreign: ForeignLogits, scenes: tuple[str, ...]) -> Integers:
    """Return the column of the file for each scene."""
    classes = scenes if foreign.classes is None else foreign.classes
    if sorted(classes) != list(scenes):
        raise UnfitImport(path, f"classes {', '.join(classes)}; expected {', '.join(scenes)}")
    if foreign.logits_RK.shape[1] != len(scenes):
        raise UnfitImport(
            path,
            f"{foreign.logits_RK.shape[1]} columns, expected {len(scenes)}: one per scene, sorted",
        )
    return np.array([classes.index(scene) for scene in scenes])


def _find_rows(
    path: Path, foreign: ForeignLogits, clips: LabelledClips
) -> tuple[Integers, tuple[str, ...]]:
    """Return the row of the file for each clip, and remarks."""
    n_rows, n_clips = len(foreign.logits_RK), len(clips.clip_ids)
    if foreign.names is None:
        if n_rows != n_clips:
            raise UnfitImport(
                path,
                f"{n_rows} rows without file names, expected {n_clips}: one for each clip of "
                f"corpus {clips.corpus} in its order",
            )
        return np.arange(n_rows), ()
    ids = _make_clip_ids(foreign.names, clips)
    _check_unique(path, ids)
    rows = pc.index_in(clips.clip_ids, ids)
    if rows.null_count:
        first = clips.clip_ids[pc.index(rows.is_null(), True).as_py()]
        raise UnfitImport(
            path,
            f"no row for {rows.null_count} of the {n_clips} clips of corpus {clips.corpus}, "
            f"the first is {first}",
        )
    if n_rows == n_clips:
        return rows.to_numpy(), ()
    unknown = pc.index_in(ids, clips.clip_ids).is_null()
    first = foreign.names[pc.index(unknown, True).as_py()]
    remark = f"not used: {n_rows - n_clips} rows of clips that the corpus lacks, first {first}"
    return rows.to_numpy(), (remark,)


def _make_clip_ids(names: pa.StringArray, clips: LabelledClips) -> pa.StringArray:
    """Return file names without ending, and without folder unless the corpus's clip ids have one."""
    if not pc.any(pc.match_substring(clips.clip_ids, "/")).as_py():
        names = pc.replace_substring_regex(names, pattern="^.*/", replacement="")
    return pc.replace_substring_regex(names, pattern=r"\.[^./]*$", replacement="")


def _check_unique(path: Path, ids: pa.StringArray) -> None:
    if pc.count_distinct(ids).as_py() == len(ids):
        return
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    raise UnfitImport(path, f"{len(twice)} clips have more than one row, the first is {twice[0]}")


def _check_values(
    path: Path, given_NK: NDArray[np.floating], rows_N: Integers, clips: LabelledClips
) -> None:
    # NaN fails this comparison too.
    fits_NK = np.abs(given_NK) <= MAX_LOGIT
    if not fits_NK.all():
        clip, column = map(int, np.argwhere(~fits_NK)[0])
        raise UnfitImport(
            path,
            f"row {rows_N[clip]} (from 0, clip {clips.clip_ids[clip]}), class "
            f"{clips.scenes[column]}: {given_NK[clip, column]}, expected a finite number within "
            f"+-{MAX_LOGIT:g}",
        )


def _convert_to_logits(given_NK: NDArray[np.floating]) -> tuple[NDArray[np.floating], bool]:
    """Take logarithms if the values are probabilities, and tell whether they are."""
    # Ten probabilities rounded to float16 or three decimals add up to 1 within a hundredth.
    if (given_NK < 0).any() or not np.allclose(given_NK.sum(axis=1), 1.0, rtol=0, atol=0.01):
        return given_NK, False
    return np.log(np.maximum(given_NK.astype(np.float64), PROBABILITY_FLOOR)), True


def _check_alignment(
    path: Path, logits_NK: NDArray[np.floating], clips: LabelledClips, split: int
) -> None:
    rows = clips.find_fit_rows(split)
    if len(rows) == 0:
        raise UnfitImport(
            path,
            f"corpus {clips.corpus} has no clip to learn in split {split}, so nothing "
            "tells whether the rows are those of its clips",
        )
    logits, labels = logits_NK[rows], clips.labels_N[rows]
    n_classes = len(clips.scenes)
    predicted_K = np.bincount(logits.argmax(axis=1), minlength=n_classes) / len(rows)
    chance = float(predicted_K @ np.bincount(labels, minlength=n_classes)) / len(rows)
    n_recordings = pc.count_distinct(clips.table["recording"].take(pa.array(rows))).as_py()
    margin = STANDARD_ERRORS * math.sqrt(chance * (1 - chance) / n_recordings)
    needed = chance + min(margin, (1 - chance) / 2)
    reached = accuracy(logits, labels)
    if reached <= needed:
        raise UnfitImport(
            path,
            f"misaligned: accuracy {reached:.1%} on fold fit of split {split} "
            f"({len(rows):,} clips); a random order gives {chance:.1%}, the right one more than "
            f"{needed:.1%}. Its rows are of other clips, or in the order of another list",
        )
