"""SQL over a store: DuckDB in memory, with views over the Parquet files."""

import functools
import re
import tempfile
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from audio.clips import SPLITS, UNLABELLED
from audio.several import BAR
from logit_store.catalogue import MEMBERS_SCHEMA
from logit_store.clips_table import (
    CLIPS_SCHEMA,
    REPEATED_COLUMNS,
    fold_column,
    has_several_labels,
)
from logit_store.embeddings import Embeddings
from logit_store.ensemble_file import ENSEMBLES_SCHEMA
from logit_store.ensembles import Ensembles
from logit_store.errors import QueryFailed
from logit_store.files import Entry, Files
from logit_store.footer import ClipsHeader
from logit_store.listing import LogitsListing
from logit_store.parquet import make_empty
from logit_store.passed_over import keep_usable
from logit_store.predictions import JudgedFiles, Predictions
from logit_store.runs import RUNS_SCHEMA
from logit_store.sound import keep_sound, keep_sound_embeddings
from logit_store.sql_text import ALLOWED, check_query, lock

_VIEWS = ("members", "runs", "ensembles", "clips", "logits", "predictions", "embeddings")

_JUDGED = "judged_predictions"
"""Name of the table of the predictions that are made while they are read."""

KEY_COLUMNS = {"corpus": "VARCHAR", "split": "INTEGER", "member": "VARCHAR", "view": "INTEGER"}
"""Columns that come from the path of a file of logits."""

EMBEDDING_COLUMNS = {"corpus": "VARCHAR", "backbone": "VARCHAR", "view": "INTEGER"}
"""Columns that come from the path of a file of embeddings."""

CLIP_COLUMNS = ("clip_id", "scene", "recording", "city", "recording_device")


@dataclass(frozen=True, slots=True)
class CorpusClips:
    """The clips of a corpus."""

    header: ClipsHeader
    table: pa.Table
    """Without rows, unless DuckDB may need it."""
    several: bool
    """Whether a clip may have several labels, as far as the query may need to know."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusFiles:
    """The files of a corpus in a store, by name."""

    corpus: str
    classes: tuple[str, ...]
    """Its own; none for a pool, whose clips have no labels."""
    clips: str
    """Name of the table of its clips."""
    logits: Mapping[tuple[str, ...], tuple[str, ...]]
    """Files that DuckDB reads; they were checked against the clips, by their classes."""
    several: bool
    """Whether a clip may have several labels."""
    judged: Sequence[JudgedFiles]
    """Files that we read for DuckDB."""

    def list_logits(self) -> list[str]:
        """List all files of logits."""
        return [name for names in self.logits.values() for name in names]


Find = Callable[[str], str]
"""From the name of a file to the path for DuckDB."""


@dataclass(frozen=True, slots=True)
class Source:
    """What queries read of a store."""

    files: Files
    listing: LogitsListing
    """All logits, which are checked against the clips."""
    corpora: Sequence[str]
    open_clips: Callable[..., AbstractContextManager[tuple[pq.ParquetFile, ClipsHeader]]]
    """Opens a corpus's clips, as `clips_file.open_clips` does. DuckDB does not read their files itself: it compares no checksums."""
    ensembles: Ensembles
    embeddings: Embeddings

    def read_clips(self, corpus: str, columns: Sequence[str]) -> tuple[ClipsHeader, pa.Table]:
        """Read some columns of a corpus's clips; texts that occur often are dictionaries."""
        with self.open_clips(corpus, dictionaries=REPEATED_COLUMNS) as (file, header):
            return header, file.read(columns=list(columns), use_threads=False)

    def read_header(self, corpus: str) -> ClipsHeader:
        """Read what the file of a corpus's clips says of them."""
        with self.open_clips(corpus, end_only=True) as (_, header):
            return header


def run_query(text: str, source: Source) -> pa.Table:
    """Run a query over the views in docs/store.md: `members`, `runs`, `clips`, `logits`...

    The query can read these and the files behind them, and nothing else. It cannot write.

    Args:
        text: the query, one SELECT statement.
        source: the store.

    Raises:
        QueryFailed: it is not such a statement, or DuckDB refuses it.
    """
    files, listing = source.files, source.listing
    clips = _read_corpora(text, source)
    corpora = _list_files(text, source, clips)
    tables = _make_tables(text, listing, source.ensembles)
    tables |= {
        each.clips: clips[each.corpus].table
        for each in corpora
        if each.several or "clips" in _choose_named(text, ["clips"])
    }
    embedded = _list_embeddings(text, source.embeddings)
    judged = [each for corpus in corpora for each in corpus.judged]
    with duckdb.connect(":memory:") as connection:
        # Otherwise an unknown table could be a Python variable of that name.
        connection.execute("set python_enable_replacements = false")
        # Queries may always read DuckDB's spill folder, so it gets a name that cannot be guessed.
        spill = f"{tempfile.gettempdir()}/tutti-sql-{uuid.uuid4().hex}"
        connection.execute("set temp_directory = $1", [spill])
        find = _check_find(files.attach(connection))
        for name, table in tables.items():
            connection.register(name, table)
        connection.register(_JUDGED, Predictions(files, judged))
        views = {
            "clips": lambda: _select_clips(corpora),
            "logits": lambda: _select_logits(corpora, find),
            "predictions": lambda: _select_predictions(corpora, find),
            "embeddings": lambda: _select_embeddings(embedded, find),
        }
        try:
            for name in _choose_named(text, views):
                connection.execute(f"create view {name} as {views[name]()}")
            names = [name for each in corpora for name in each.list_logits()] + embedded
            # DuckDB asks for the pattern that a view names, and for the path that matches it.
            lock(connection, [place(name) for name in names for place in (find, files.locate)])
            check_query(connection, text)
            return connection.sql(text).to_arrow_table()
        except duckdb.PermissionException as error:
            reason = str(error).split("\n\nLINE ")[0]
            raise QueryFailed(f"{reason}: {ALLOWED}") from error
        except duckdb.Error as error:
            raise QueryFailed(str(error)) from error


def _read_corpora(text: str, source: Source) -> dict[str, CorpusClips]:
    """Read of each corpus whose clips can be used what the text may need of them."""
    found: dict[str, CorpusClips] = {}
    needs_clips, needs_predictions = may_name(text, "clips"), may_name(text, "predictions")

    def add(corpus: str) -> None:
        table, several = make_empty(CLIPS_SCHEMA), False
        if needs_clips or needs_predictions:
            header, scenes = source.read_clips(corpus, ["scene"])
            several = has_several_labels(scenes)
        else:
            header = source.read_header(corpus)
        if needs_clips or several:
            header, table = source.read_clips(corpus, CLIPS_SCHEMA.names)
        found[corpus] = CorpusClips(header, table, several)

    keep_usable(source.corpora, add)
    return found


def _list_files(text: str, source: Source, clips: Mapping[str, CorpusClips]) -> list[CorpusFiles]:
    """List the files behind the views, as far as the text may need them."""
    # Without these names no values of logits can matter, and DuckDB looks long at thousands of files.
    needs_logits, needs_predictions = may_name(text, "logits"), may_name(text, "predictions")
    corpora = []
    for place, (corpus, each) in enumerate(clips.items()):
        reads_itself = needs_logits or (needs_predictions and each.several)
        usable = source.listing.list_usable(corpus) if needs_logits or needs_predictions else {}
        judged = [
            JudgedFiles(
                corpus=corpus,
                read_clips=functools.partial(source.read_clips, corpus),
                classes=of_logits,
                entries=entries,
            )
            for of_logits, entries in usable.items()
        ]
        corpora.append(
            CorpusFiles(
                corpus=corpus,
                classes=each.header.classes,
                clips=f"clips_{place}",
                several=each.several,
                logits=_keep_sound(source.files, usable) if reads_itself else {},
                judged=[] if each.several else judged,
            )
        )
    return corpora


def _keep_sound(
    files: Files, usable: Mapping[tuple[str, ...], Sequence[Entry]]
) -> dict[tuple[str, ...], tuple[str, ...]]:
    sound = {
        classes: tuple(each.name for each in keep_sound(files, entries))
        for classes, entries in usable.items()
    }
    return {classes: names for classes, names in sound.items() if names}


def _list_embeddings(text: str, embeddings: Embeddings) -> list[str]:
    if not may_name(text, "embeddings"):
        return []
    return [each.name for each in keep_sound_embeddings(embeddings, embeddings.list_files())]


def _make_tables(text: str, listing: LogitsListing, ensembles: Ensembles) -> dict[str, pa.Table]:
    """Return the views that are no files, without rows if the text does not name them."""
    views = {
        "members": (listing.tabulate_members, MEMBERS_SCHEMA),
        "runs": (listing.tabulate_runs, RUNS_SCHEMA),
        "ensembles": (ensembles.tabulate, ENSEMBLES_SCHEMA),
    }
    return {
        name: views[name][0]() if may_name(text, name) else make_empty(views[name][1])
        for name in _choose_named(text, views)
    }


def _choose_named(text: str, views: Collection[str]) -> list[str]:
    """Return those of some views that a query may name, as each takes a millisecond; all, if it names no view.

    Such a query may ask for their names.
    """
    names_one = any(may_name(text, name) for name in _VIEWS)
    return [name for name in views if may_name(text, name) or not names_one]


def may_name(text: str, *views: str) -> bool:
    """Tell whether a query may name one of these views."""
    return any(view in text.lower() for view in views)


def _select_clips(corpora: Sequence[CorpusFiles]) -> str:
    types = {name: "INTEGER" if name == "row" else "VARCHAR" for name in CLIPS_SCHEMA.names}
    nothing = _select_nothing({"corpus": "VARCHAR", **types})
    return " union all ".join([nothing, *map(_select_clips_of, corpora)])


def _select_clips_of(files: CorpusFiles) -> str:
    # Clips without a label have no scene.
    columns = ", ".join(
        f"nullif(scene, {_quote_text(UNLABELLED)}) as scene" if name == "scene" else name
        for name in CLIPS_SCHEMA.names
    )
    return f"select {_quote_text(files.corpus)} as corpus, {columns} from {files.clips}"


def _select_logits(corpora: Sequence[CorpusFiles], find: Find) -> str:
    all_classes = [classes for each in corpora for classes in (each.classes, *each.logits)]
    scenes = {scene: "FLOAT" for classes in all_classes for scene in classes}
    nothing = _select_nothing({**KEY_COLUMNS, "row": "INTEGER", **scenes})
    each = [
        _select_logits_of(files.corpus, classes, names, find)
        for files in corpora
        for classes, names in files.logits.items()
    ]
    return " union all by name ".join([nothing, *each])


def _select_logits_of(
    corpus: str, classes: Sequence[str], names: Sequence[str], find: Find, *, numbered: bool = False
) -> str:
    # Numbered, because a scene may have the name of a column of the clips.
    columns = [_quote_name(scene) for scene in classes]
    if numbered:
        columns = [f"{column}::DOUBLE as logit_{k}" for k, column in enumerate(columns)]
    # DuckDB counts the rows itself: it would believe a damaged header of the column that holds them.
    row = "file_row_number::INTEGER as row"
    return (
        f"select {_quote_text(corpus)} as corpus, split, member, view, {row}, {', '.join(columns)} "
        f"from {_read_files(names, KEY_COLUMNS, find)}"
    )


def _read_files(names: Sequence[str], key_columns: Mapping[str, str], find: Find) -> str:
    paths = ", ".join(_quote_text(find(name)) for name in names)
    types = ", ".join(f"{name}: {kind}" for name, kind in key_columns.items())
    hive = f"hive_partitioning = true, hive_types = {{{types}}}"
    return f"read_parquet([{paths}], {hive}, file_row_number = true)"


def _select_embeddings(names: Sequence[str], find: Find) -> str:
    nothing = _select_nothing({**EMBEDDING_COLUMNS, "row": "INTEGER", "embedding": "FLOAT[]"})
    if not names:
        return nothing
    columns = ", ".join([*EMBEDDING_COLUMNS, "file_row_number::INTEGER as row", "embedding"])
    return (
        f"{nothing} union all select {columns} from {_read_files(names, EMBEDDING_COLUMNS, find)}"
    )


def _select_predictions(corpora: Sequence[CorpusFiles], find: Find) -> str:
    each = [
        _select_several_of(files, classes, names, find)
        for files in corpora
        if files.several
        for classes, names in files.logits.items()
    ]
    return " union all ".join([f"from {_JUDGED}", *each])


def _select_several_of(
    files: CorpusFiles, classes: Sequence[str], names: Sequence[str], find: Find
) -> str:
    """Select the predictions of clips that may have several labels, or none."""
    present, losses = [], []
    for k, label in enumerate(classes):
        logit, text = f"logit_{k}", _quote_text(label + BAR)
        present.append(f"case when {logit} > 0 then {text} else '' end")
        true = f"contains(scene, {_quote_text(BAR + label + BAR)})"
        losses.append(f"greatest({logit}, 0) + ln(1 + exp(-abs({logit}))) - {true}::INT * {logit}")
    fold = _make_case({f"split = {split}": fold_column(split) for split in SPLITS})
    logits = _select_logits_of(files.corpus, classes, names, find, numbered=True)
    return f"""
        select logits.corpus, split, member, view, logits.row, {", ".join(CLIP_COLUMNS)},
            {fold} as fold, predicted, predicted = scene as correct,
            ({" + ".join(losses)}) / {len(classes)} as log_loss
        from (select *, '{BAR}' || {" || ".join(present)} as predicted from ({logits})) as logits
        join ({_select_clips_of(files)}) as clips on logits.row = clips.row"""


def _make_case(branches: dict[str, str]) -> str:
    cases = " ".join(f"when {condition} then {value}" for condition, value in branches.items())
    return f"case {cases} end"


def _select_nothing(types: dict[str, str]) -> str:
    columns = ", ".join(f"null::{kind} as {_quote_name(name)}" for name, kind in types.items())
    return f"select {columns} where false"


def _check_find(find: Find) -> Find:
    """Refuse paths with folders that DuckDB would read as columns."""

    def check(name: str) -> str:
        root = find(name).removesuffix(name)
        for part in root.split("/"):
            columns = "|".join({**KEY_COLUMNS, **EMBEDDING_COLUMNS})
            if re.match(rf"({columns})=", part, re.IGNORECASE):
                raise QueryFailed(
                    f"the store {root} is below a folder {part!r}, which DuckDB would read as a "
                    "column: move the store"
                )
        return find(name)

    return check


def _quote_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quote_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
