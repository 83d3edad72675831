"""The table of a corpus's clips: its columns, and the checks before it is stored (N clips)."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audio.clips import SPLITS, UNLABELLED
from audio.several import are_several, find_classes
from logit_store.keys import FOLDS

_KEY_COLUMNS = ("corpus", "split", "member", "view", "row", "file_row_number")
"""Columns beside the scenes where SQL reads logits; DuckDB calls one of them so."""

_TEXT_COLUMNS = ("clip_id", "scene", "recording", "city", "recording_device")


def fold_column(split: int) -> str:
    """Return the name of the column with each clip's fold in a split."""
    return f"fold_{split}"


CLIPS_SCHEMA = pa.schema(
    [pa.field("row", pa.int32(), nullable=False)]
    + [pa.field(name, pa.string(), nullable=False) for name in _TEXT_COLUMNS]
    + [pa.field(fold_column(split), pa.string()) for split in SPLITS]
)
"""One row per clip, in the corpus's own order; a null fold: the clip is not in the split."""

REPEATED_COLUMNS = ("scene", "city", "recording_device", *map(fold_column, SPLITS))
"""Columns with few different texts."""


def check_clips(corpus: str, table: pa.Table) -> pa.Table:
    """Check a table of clips and return it with the columns of CLIPS_SCHEMA.

    Raises:
        ValueError: columns, types or values are wrong; says which.
    """
    if sorted(table.column_names) != sorted(CLIPS_SCHEMA.names):
        raise ValueError(
            f"clips of {corpus}: columns {table.column_names}, expected {CLIPS_SCHEMA.names}"
        )
    table = table.select(CLIPS_SCHEMA.names).combine_chunks()
    nulls = [f.name for f in CLIPS_SCHEMA if not f.nullable and table[f.name].null_count]
    if nulls:
        raise ValueError(f"clips of {corpus}: columns {nulls} hold nulls, expected none")
    try:
        clips = table.cast(CLIPS_SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"clips of {corpus}: {error}") from error
    _check_rows(corpus, clips)
    _check_folds(corpus, clips)
    _check_unlabelled(corpus, clips)
    check_scenes(f"clips of {corpus}", find_scenes(clips))
    return clips


def find_scenes(clips: pa.Table) -> list[str]:
    """Return the scenes of clips, sorted, which are the classes of logits; none for a pool of its own."""
    return find_classes(pc.unique(clips["scene"]).to_pylist())


def has_several_labels(clips: pa.Table) -> bool:
    """Return whether a clip may have several labels, or none: its scene is then a list of them."""
    return are_several(pc.unique(clips["scene"]).to_pylist())


def _check_rows(corpus: str, clips: pa.Table) -> None:
    if clips.num_rows == 0:
        raise ValueError(f"clips of {corpus}: no clip, expected at least one")
    wrong = np.flatnonzero(clips["row"].to_numpy() != np.arange(clips.num_rows))
    if len(wrong):
        found = clips["row"][int(wrong[0])]
        raise ValueError(f"clips of {corpus}: row {found} in place {wrong[0]}, expected 0, 1, 2...")
    counts = pc.value_counts(clips["clip_id"])
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(twice):
        raise ValueError(f"clips of {corpus}: clip_id {twice[0].as_py()!r} occurs more than once")


def _check_folds(corpus: str, clips: pa.Table) -> None:
    for name in map(fold_column, SPLITS):
        unknown = set(pc.unique(clips[name]).to_pylist()) - {*FOLDS, None}
        if unknown:
            raise ValueError(
                f"clips of {corpus}: {name} holds {sorted(unknown)}, expected {FOLDS} or null"
            )


def _check_unlabelled(corpus: str, clips: pa.Table) -> None:
    unlabelled = clips.filter(pc.equal(clips["scene"], UNLABELLED))
    for name in map(fold_column, SPLITS):
        wrong = unlabelled.filter(pc.not_equal(unlabelled[name], "pool"))
        if wrong.num_rows:
            raise ValueError(
                f"clips of {corpus}: clip {wrong['clip_id'][0].as_py()!r} has no scene and is in fold "
                f"{wrong[name][0]} of {name}, expected pool or null: name its scene, or move it there"
            )


def check_scenes(what: str, scenes: Sequence[str]) -> None:
    """Make sure that scenes can be columns of logits; SQL does not distinguish "Bus" from "bus".

    Raises:
        ValueError: they cannot.
    """
    owners = {name: "a column of the logits" for name in _KEY_COLUMNS}
    for scene in sorted(scenes):
        if not scene:
            raise ValueError(f"{what}: an empty scene, expected a name")
        if scene.lower() in owners:
            raise ValueError(
                f"{what}: scene {scene!r} has the name of {owners[scene.lower()]}: rename it"
            )
        owners[scene.lower()] = f"scene {scene!r}"
