"""SQL over a store: DuckDB in memory, views over the Parquet files."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from logit_store.errors import QueryFailed
from logit_store.files import Files
from logit_store.layout import CLIPS_SCHEMA, SPLITS, fold_column

KEY_COLUMNS = {"corpus": "VARCHAR", "split": "INTEGER", "member": "VARCHAR", "view": "INTEGER"}
"""What a logits file's path says of its rows."""

CLIP_COLUMNS = ("clip_id", "scene", "recording", "city", "recording_device")


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusFiles:
    """A corpus's files in a store, by name."""

    corpus: str
    classes: tuple[str, ...]
    clips: str
    logits: tuple[str, ...]
    """All found to belong to the clips."""


Find = Callable[[str], str]
"""From the name of a file to the path that DuckDB takes."""


def run(
    text: str, files: Files, corpora: Sequence[CorpusFiles], tables: Mapping[str, pa.Table]
) -> pa.Table:
    """The answer to a query over `clips`, `logits`, `predictions` and some tables.

    Args:
        text: the query; of several statements the last one answers.
        files: of the store.
        corpora: whose files the views show.
        tables: become views of these names.

    Raises:
        QueryFailed: DuckDB refuses it.
    """
    with duckdb.connect(":memory:") as connection:
        # Else a table that does not exist could be a Python variable of that name.
        connection.execute("set python_enable_replacements = false")
        find = _checked(files.attach(connection))
        for name, table in tables.items():
            connection.register(name, table)
        connection.execute(f"create view clips as {_clips(corpora, find)}")
        connection.execute(f"create view logits as {_logits(corpora, find)}")
        connection.execute(f"create view predictions as {_predictions(corpora, find)}")
        try:
            answer = connection.sql(text)
            return pa.table({}) if answer is None else answer.to_arrow_table()
        except duckdb.Error as error:
            raise QueryFailed(str(error)) from error


def _clips(corpora: Sequence[CorpusFiles], find: Find) -> str:
    types = {name: "INTEGER" if name == "row" else "VARCHAR" for name in CLIPS_SCHEMA.names}
    nothing = _nothing({"corpus": "VARCHAR", **types})
    return " union all ".join([nothing, *(_clips_of(files, find) for files in corpora)])


def _clips_of(files: CorpusFiles, find: Find) -> str:
    columns = ", ".join(CLIPS_SCHEMA.names)
    source = f"read_parquet([{_text(find(files.clips))}], hive_partitioning = false)"
    return f"select {_text(files.corpus)} as corpus, {columns} from {source}"


def _logits(corpora: Sequence[CorpusFiles], find: Find) -> str:
    scenes = {scene: "FLOAT" for files in corpora for scene in files.classes}
    nothing = _nothing({**KEY_COLUMNS, "row": "INTEGER", **scenes})
    each = [
        _logits_of(files, ", ".join(map(_name, files.classes)), find)
        for files in corpora
        if files.logits
    ]
    return " union all by name ".join([nothing, *each])


def _logits_of(files: CorpusFiles, logits: str, find: Find) -> str:
    paths = ", ".join(_text(find(name)) for name in files.logits)
    types = ", ".join(f"{name}: {kind}" for name, kind in KEY_COLUMNS.items())
    source = f"read_parquet([{paths}], hive_partitioning = true, hive_types = {{{types}}})"
    corpus = _text(files.corpus)
    return f"select {corpus} as corpus, split, member, view, row, {logits} from {source}"


def _predictions(corpora: Sequence[CorpusFiles], find: Find) -> str:
    texts = dict.fromkeys([*CLIP_COLUMNS, "fold", "predicted"], "VARCHAR")
    figures = {"correct": "BOOLEAN", "log_loss": "DOUBLE"}
    nothing = _nothing({**KEY_COLUMNS, "row": "INTEGER", **texts, **figures})
    each = [_predictions_of(files, find) for files in corpora if files.logits]
    return " union all ".join([nothing, *each])


def _predictions_of(files: CorpusFiles, find: Find) -> str:
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
        from (select *, {largest} as largest from ({_logits_of(files, logits, find)})) as logits
        join ({_clips_of(files, find)}) as clips on logits.row = clips.row"""


def _case(branches: dict[str, str]) -> str:
    cases = " ".join(f"when {condition} then {value}" for condition, value in branches.items())
    return f"case {cases} end"


def _nothing(types: dict[str, str]) -> str:
    columns = ", ".join(f"null::{kind} as {_name(name)}" for name, kind in types.items())
    return f"select {columns} where false"


def _checked(find: Find) -> Find:
    """Refuses places that DuckDB would take for columns."""

    def checked(name: str) -> str:
        root = find(name).removesuffix(name)
        for part in root.split("/"):
            if re.match(rf"({'|'.join(KEY_COLUMNS)})=", part, re.IGNORECASE):
                raise QueryFailed(
                    f"the store {root} lies below a folder {part!r}, which DuckDB would take for a "
                    "column: move the store"
                )
        return find(name)

    return checked


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
