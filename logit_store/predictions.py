"""The view `predictions` of SQL: what members predict for clips of one label (N clips, R of their rows)."""

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from logit_store import logits_file
from logit_store.clips_table import fold_column
from logit_store.files import Entry, Files
from logit_store.fold_scores import number_values
from logit_store.footer import ClipsHeader
from logit_store.judgement import judge_clips, predict_classes
from logit_store.keys import LogitKey
from logit_store.passed_over import keep_usable
from logit_store.paths import parse_key

_NAME = pa.dictionary(pa.int32(), pa.string())
_KNOWN = {
    "corpus": _NAME,
    "split": pa.int32(),
    "member": _NAME,
    "view": pa.int32(),
    "row": pa.int32(),
    "clip_id": pa.string(),
    "scene": _NAME,
    "recording": pa.string(),
    "city": _NAME,
    "recording_device": _NAME,
    "fold": _NAME,
}
"""Columns that are known without the logits."""
_JUDGED = {"predicted": _NAME, "correct": pa.bool_(), "log_loss": pa.float64()}
SCHEMA = pa.schema(_KNOWN | _JUDGED)


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedFiles:
    """Files of logits of a corpus's clips, which have the same classes."""

    corpus: str
    header: ClipsHeader
    clips: pa.Table
    """Texts may be dictionaries."""
    classes: tuple[str, ...]
    """Of the logits."""
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class _Clips:
    """The clips of a corpus as members of one split see them."""

    table: pa.Table
    """All columns that are known but member and view."""
    labels_N: NDArray[np.int64]
    """Of all clips; -1 for those without a label."""
    passes: Any = None
    """The filter, unless only clips that pass it are in the table."""


class Predictions(ds.InMemoryDataset):
    """Predictions that are made while DuckDB reads them: a member at a time, and only what a query asks for.

    DuckDB says which columns it wants, and which rows it does not. A member of which no clip is wanted is not
    read. The logits of the others are compared with their checksums while they are read; a damaged file is
    passed over, with a warning.
    """

    def __init__(self, files: Files, judged: Sequence[JudgedFiles]) -> None:
        # DuckDB takes instances of a dataset, and asks them for schema and scanner.
        super().__init__(SCHEMA.empty_table())
        self._files, self._judged = files, judged

    def scanner(
        self, columns: Sequence[str] | None = None, filter: Any = None, **_: object
    ) -> "_Scan":
        """Return a reading of some columns (None: all) of the rows that pass a filter of pyarrow's."""
        return _Scan(self._files, self._judged, columns or SCHEMA.names, filter)


class _Scan:
    """One reading; it has what DuckDB uses of a scanner of pyarrow's."""

    def __init__(
        self, files: Files, judged: Sequence[JudgedFiles], columns: Sequence[str], passes: Any
    ) -> None:
        self._files, self._judged, self._passes = files, judged, passes
        self._names = {*columns, "row"}
        self.projected_schema = pa.schema([SCHEMA.field(name) for name in columns])

    def to_reader(self) -> pa.RecordBatchReader:
        """Return the rows, a member at a time."""
        return pa.RecordBatchReader.from_batches(self.projected_schema, self._iterate())

    def _iterate(self) -> Iterator[pa.RecordBatch]:
        for judged in self._judged:
            clips_of = functools.cache(functools.partial(self._choose_clips, judged))
            for entry in judged.entries:
                found: list[pa.Table] = []
                keep_usable([entry], functools.partial(self._add, found, judged, clips_of))
                for table in found:
                    yield from table.to_batches()

    def _choose_clips(self, judged: JudgedFiles, split: int) -> _Clips:
        """Return the clips that pass the filter, or all if it also names columns of members."""
        clips = _describe_clips(judged, split)
        try:
            return replace(
                clips, table=_select(clips.table, self._names, self._passes), passes=None
            )
        except pa.ArrowInvalid:
            return replace(clips, passes=self._passes)

    def _add(
        self,
        found: list[pa.Table],
        judged: JudgedFiles,
        clips_of: Callable[[int], _Clips],
        entry: Entry,
    ) -> None:
        """Add the wanted rows of a member to those that were found."""
        key = parse_key(entry.name, self._files.locate(entry.name))
        clips = clips_of(key.split)
        table, passes, names = _add_key(clips.table, key), clips.passes, self._names
        if passes is not None:
            try:
                table, passes = _select(table, names, passes), None
            except pa.ArrowInvalid:
                # The filter names a column that is made of the logits.
                names = names | {*_JUDGED}
        if table.num_rows:
            columns = self._judge(
                judged, entry, table["row"].to_numpy().astype(np.intp), clips.labels_N, names
            )
            for name, column in columns.items():
                table = table.append_column(SCHEMA.field(name), column)
            found.append(_select(table, self.projected_schema.names, passes))

    def _judge(
        self,
        judged: JudgedFiles,
        entry: Entry,
        rows_R: NDArray[np.intp],
        labels_N: NDArray[np.int64],
        names: Collection[str],
    ) -> dict[str, pa.Array]:
        """Return those of the columns that are made of a member's logits which are named, [R]."""
        made: dict[str, pa.Array] = {}
        # On S3, reading takes long: there, if no logits matter, the footer is compared alone.
        end_only = not self._files.is_near and _JUDGED.keys().isdisjoint(names)
        with logits_file.open_logits(self._files, entry.name, end_only=end_only) as file:
            file.check_belongs(judged.header)
            logits = [] if end_only else file.read_columns()
            if not _JUDGED.keys().isdisjoint(names):
                labels_R = labels_N[rows_R]
                unlabelled_R = labels_R < 0
                if "predicted" in names or "correct" in names:
                    predicted_R = predict_classes(logits, rows_R)
                    made["predicted"] = _name(predicted_R, judged.classes)
                    made["correct"] = pa.array(predicted_R == labels_R, mask=unlabelled_R)
                if "log_loss" in names:
                    losses_R = judge_clips(np.stack(logits), rows_R, labels_R)[1]
                    made["log_loss"] = pa.array(losses_R, mask=unlabelled_R)
        return made


def _describe_clips(judged: JudgedFiles, split: int) -> _Clips:
    clips, n = judged.clips, len(judged.clips)
    labels_N = number_values(clips["scene"], judged.header.classes)
    columns = {
        "corpus": _name(np.zeros(n, np.int32), [judged.corpus]),
        "split": pa.array(np.full(n, split, np.int32)),
        "row": clips["row"],
        "clip_id": clips["clip_id"],
        "scene": _name(labels_N.astype(np.int32), judged.header.classes, labels_N < 0),
        "recording": clips["recording"],
        "city": clips["city"].dictionary_encode(),
        "recording_device": clips["recording_device"].dictionary_encode(),
        "fold": clips[fold_column(split)].dictionary_encode(),
    }
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    table = pa.table(columns, schema=schema).unify_dictionaries().combine_chunks()
    return _Clips(table, labels_N)


def _add_key(clips: pa.Table, key: LogitKey) -> pa.Table:
    n = len(clips)
    member = _name(np.zeros(n, np.int32), [key.member])
    view = pa.array(np.full(n, key.view, np.int32))
    return clips.append_column("member", member).append_column("view", view)


def _select(table: pa.Table, names: Collection[str], passes: Any) -> pa.Table:
    """Return those of some columns that a table has, of the rows that pass a filter; None: all.

    Raises:
        pa.ArrowInvalid: the filter names a column that the table lacks.
    """
    known = [name for name in names if name in table.column_names]
    if passes is None:
        return table.select(known)
    return ds.dataset(table).to_table(columns=known, filter=passes, use_threads=False)


def _name(
    places_R: NDArray[np.int32], names: Sequence[str], is_null_R: NDArray[np.bool_] | None = None
) -> pa.DictionaryArray:
    indices = pa.array(places_R, pa.int32(), mask=is_null_R)
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))
