"""SQL over a store: DuckDB in memory, views over the Parquet files."""

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from logit_store.errors import QueryFailed
from logit_store.layout import CLIPS_SCHEMA, SPLITS, fold_column

KEY_COLUMNS = {"corpus": "VARCHAR", "split": "INTEGER", "member": "VARCHAR", "view": "INTEGER"}
"""What a logits file's path says of its rows."""

CLIP_COLUMNS = ("clip_id", "scene", "recording", "city", "recording_device")


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusFiles:
    """A corpus's files in a store."""

    corpus: str
    root: Path
    """The store's folder."""
    classes: tuple[str, ...]
    clips: str
    """From the root."""
    logits: tuple[str, ...]
    """From the root; all found to belong to the clips."""


def run(text: str, corpora: Sequence[CorpusFiles], members: pa.Table) -> pa.Table:
    """The answer to a query over the views `clips`, `logits`, `members` and `predictions`.

    Args:
        text: the query; of several statements the last one answers.
        corpora: whose files the views show.
        members: becomes the view of that name.

    Raises:
        QueryFailed: DuckDB refuses it.
    """
    with duckdb.connect(":memory:") as connection:
        # Else a table that does not exist could be a Python variable of that name.
        connection.execute("set python_enable_replacements = false")
        connection.register("members", members)
        connection.execute(f"create view clips as {_clips(corpora)}")
        connection.execute(f"create view logits as {_logits(corpora)}")
        connection.execute(f"create view predictions as {_predictions(corpora)}")
        try:
            answer = connection.sql(text)
            return pa.table({}) if answer is None else answer.to_arrow_table()
        except duckdb.Error as error:
            raise QueryFailed(str(error)) from error


def _clips(corpora: Sequence[CorpusFiles]) -> str:
    types = {name: "INTEGER" if name == "row" else "VARCHAR" for name in CLIPS_SCHEMA.names}
    nothing = _nothing({"corpus": "VARCHAR", **types})
    return " union all ".join([nothing, *map(_clips_of, corpora)])


def _clips_of(files: CorpusFiles) -> str:
    columns = ", ".join(CLIPS_SCHEMA.names)
    source = f"read_parquet([{_path(files, files.clips)}], hive_partitioning = false)"
    return f"select {_text(files.corpus)} as corpus, {columns} from {source}"


def _logits(corpora: Sequence[CorpusFiles]) -> str:
    scenes = {scene: "FLOAT" for files in corpora for scene in files.classes}
    nothing = _nothing({**KEY_COLUMNS, "row": "INTEGER", **scenes})
    each = [
        _logits_of(files, ", ".join(map(_name, files.classes))) for files in corpora if files.logits
    ]
    return " union all by name ".join([nothing, *each])


def _logits_of(files: CorpusFiles, logits: str) -> str:
    paths = ", ".join(_path(files, name) for name in files.logits)
    types = ", ".join(f"{name}: {kind}" for name, kind in KEY_COLUMNS.items())
    source = f"read_parquet([{paths}], hive_partitioning = true, hive_types = {{{types}}})"
    corpus = _text(files.corpus)
    return f"select {corpus} as corpus, split, member, view, row, {logits} from {source}"


def _predictions(corpora: Sequence[CorpusFiles]) -> str:
    texts = dict.fromkeys([*CLIP_COLUMNS, "fold", "predicted"], "VARCHAR")
    figures = {"correct": "BOOLEAN", "log_loss": "DOUBLE"}
    nothing = _nothing({**KEY_COLUMNS, "row": "INTEGER", **texts, **figures})
    each = [_predictions_of(files) for files in corpora if files.logits]
    return " union all ".join([nothing, *each])


def _predictions_of(files: CorpusFiles) -> str:
    # By number, as a scene may have the name of a column of the clips.
    logit_of = {scene: f"logit_{k}" for k, scene in enumerate(files.classes)}
    logits = ", ".join(f"{_name(s)}::DOUBLE as {logit}" for s, logit in logit_of.items())
    largest = f"greatest({', '.join(logit_of.values())})"
    # Of equal logits the first class wins, as in numpy.
    predicted = _case({f"{logit} = largest": _text(s) for s, logit in logit_of.items()})
    true = _case({f"scene = {_text(s)}": logit for s, logit in logit_of.items()})
    fold = _case({f"split = {split}": fold_column(split) for split in SPLITS})
    # Nothing overflows with the largest taken off, and the sum is at least 1.
    total = " + ".join(f"exp({logit} - largest)" for logit in logit_of.values())
    return f"""
        select logits.corpus, split, member, view, logits.row, {", ".join(CLIP_COLUMNS)},
            {fold} as fold, {predicted} as predicted, predicted = scene as correct,
            ln({total}) + (largest - {true}) as log_loss
        from (select *, {largest} as largest from ({_logits_of(files, logits)})) as logits
        join ({_clips_of(files)}) as clips on logits.row = clips.row"""


def _case(branches: dict[str, str]) -> str:
    cases = " ".join(f"when {condition} then {value}" for condition, value in branches.items())
    return f"case {cases} end"


def _nothing(types: dict[str, str]) -> str:
    columns = ", ".join(f"null::{kind} as {_name(name)}" for name, kind in types.items())
    return f"select {columns} where false"


def _path(files: CorpusFiles, name: str) -> str:
    _check_root(files.root)
    # DuckDB takes every path for a pattern.
    return _text(f"{glob.escape(str(files.root))}/{name}")


def _check_root(root: Path) -> None:
    for part in root.parts:
        if re.match(rf"({'|'.join(KEY_COLUMNS)})=", part, re.IGNORECASE):
            raise QueryFailed(
                f"the store {root} lies below a folder {part!r}, which DuckDB would take for a "
                "column: move the store"
            )


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
