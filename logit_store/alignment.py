"""Foreign logits brought into a corpus's order, and found to be of its clips.

R rows of a file, N clips of the corpus, K classes.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from logit_store.errors import UnfitImport
from logit_store.foreign import ForeignLogits
from logit_store.layout import MAX_LOGIT, fold_column, row_order_hash
from metrics import accuracy

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]

PROBABILITY_FLOOR = 1e-12
"""Smallest probability whose logarithm is taken; what is below counts as this much."""
STANDARD_ERRORS = 5.0
"""By how many an accuracy must be above chance."""


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class LabelledClips:
    """A corpus's clips as a store knows them."""

    corpus: str
    table: pa.Table
    clip_ids: pa.StringArray
    scenes: tuple[str, ...]
    labels_N: Integers
    row_order: str

    @classmethod
    def of(cls, corpus: str, table: pa.Table) -> Self:
        """The clips in a table with the columns of CLIPS_SCHEMA."""
        scenes = tuple(sorted(pc.unique(table["scene"]).to_pylist()))
        clip_ids = table["clip_id"].combine_chunks()
        return cls(
            corpus=corpus,
            table=table,
            clip_ids=clip_ids,
            scenes=scenes,
            labels_N=pc.index_in(table["scene"], pa.array(scenes)).to_numpy().astype(np.int64),
            row_order=row_order_hash(clip_ids.to_pylist()),
        )

    def fit_rows(self, split: int) -> Integers:
        """Rows of the clips that a teacher of this split learns."""
        in_fit = pc.fill_null(pc.equal(self.table[fold_column(split)], "fit"), False)
        return np.flatnonzero(in_fit.to_numpy())


def aligned(
    path: Path, found: ForeignLogits, clips: LabelledClips, split: int
) -> tuple[Floats, tuple[str, ...]]:
    """Logits [N, K] in the order of the clips and scenes, and what was changed or left out.

    Rows that were mixed up are recognised by their labels: the accuracy on `fit` must be above
    chance, which is what the same predictions in a random order would reach, by five standard
    errors. The error counts recordings, not clips, since a recording's clips are nearly the same;
    where these are so few that five errors lead beyond half of the way from chance to 1, half of
    the way is enough. What this cannot see: rows exchanged within a scene.

    Args:
        path: of the file, for complaints.
        found: what it holds.
        clips: those of the corpus.
        split: what the teacher learnt.

    Raises:
        UnfitImport: rows, columns or values are not those of the clips.
    """
    order_K = _column_order(path, found, clips.scenes)
    rows_N, remarks = _row_order(path, found, clips)
    if found.unused:
        remarks = (*remarks, f"not used: column {', '.join(found.unused)}")
    given_NK = found.logits_RK.take(rows_N, axis=0).take(order_K, axis=1)
    _refuse_unstorable(path, given_NK, rows_N, clips)
    logits_NK, changed = _as_logits(given_NK)
    if changed:
        remarks = (*remarks, f"probabilities: took logarithms, of {PROBABILITY_FLOOR:g} at least")
    _refuse_misaligned(path, logits_NK, clips, split)
    return logits_NK, remarks


def _column_order(path: Path, found: ForeignLogits, scenes: tuple[str, ...]) -> Integers:
    """For each scene, the file's column."""
    classes = scenes if found.classes is None else found.classes
    if sorted(classes) != list(scenes):
        raise UnfitImport(path, f"classes {', '.join(classes)}; expected {', '.join(scenes)}")
    if found.logits_RK.shape[1] != len(scenes):
        raise UnfitImport(
            path,
            f"{found.logits_RK.shape[1]} columns, expected {len(scenes)}: one per scene, sorted",
        )
    return np.array([classes.index(scene) for scene in scenes])


def _row_order(
    path: Path, found: ForeignLogits, clips: LabelledClips
) -> tuple[Integers, tuple[str, ...]]:
    """For each clip, the file's row; and what there is to remark."""
    n_rows, n_clips = len(found.logits_RK), len(clips.clip_ids)
    if found.names is None:
        if n_rows != n_clips:
            raise UnfitImport(
                path,
                f"{n_rows} rows without file names, expected {n_clips}: one for each clip of "
                f"corpus {clips.corpus} in its order",
            )
        return np.arange(n_rows), ()
    ids = _clip_ids(found.names, clips)
    _refuse_twice(path, ids)
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
    first = found.names[pc.index(unknown, True).as_py()]
    remark = f"not used: {n_rows - n_clips} rows of clips that the corpus lacks, first {first}"
    return rows.to_numpy(), (remark,)


def _clip_ids(names: pa.StringArray, clips: LabelledClips) -> pa.StringArray:
    """Clip ids of files: names without ending, and without folder unless the corpus has them."""
    if not pc.any(pc.match_substring(clips.clip_ids, "/")).as_py():
        names = pc.replace_substring_regex(names, pattern="^.*/", replacement="")
    return pc.replace_substring_regex(names, pattern=r"\.[^./]*$", replacement="")


def _refuse_twice(path: Path, ids: pa.StringArray) -> None:
    if pc.count_distinct(ids).as_py() == len(ids):
        return
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    raise UnfitImport(path, f"{len(twice)} clips have more than one row, the first is {twice[0]}")


def _refuse_unstorable(
    path: Path, given_NK: Floats, rows_N: Integers, clips: LabelledClips
) -> None:
    # Written so that a NaN counts as wrong.
    fits_NK = np.abs(given_NK) <= MAX_LOGIT
    if not fits_NK.all():
        clip, column = map(int, np.argwhere(~fits_NK)[0])
        raise UnfitImport(
            path,
            f"row {rows_N[clip]} (from 0, clip {clips.clip_ids[clip]}), class "
            f"{clips.scenes[column]}: {given_NK[clip, column]}, expected a finite number within "
            f"+-{MAX_LOGIT:g}",
        )


def _as_logits(given_NK: Floats) -> tuple[Floats, bool]:
    """Logarithms of probabilities, and whether it was such that were given."""
    # Rounded to float16 or three decimals, ten probabilities miss 1 by less than a hundredth.
    if (given_NK < 0).any() or not np.allclose(given_NK.sum(axis=1), 1.0, rtol=0, atol=0.01):
        return given_NK, False
    return np.log(np.maximum(given_NK.astype(np.float64), PROBABILITY_FLOOR)), True


def _refuse_misaligned(path: Path, logits_NK: Floats, clips: LabelledClips, split: int) -> None:
    rows = clips.fit_rows(split)
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
