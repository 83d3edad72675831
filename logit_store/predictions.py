"""The view `predictions` of SQL: what members predict for clips of one label (N clips, R of their rows)."""

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from logit_store.logits_file import Float16s
from logit_store.passed_over import keep_usable
from logit_store.passing import (
    NAME,
    AlikeClips,
    find_columns,
    find_places,
    name_places,
    repeat,
)
from logit_store.paths import parse_key

_OF_SPLIT = {"corpus": NAME, "split": pa.int32()}
"""Columns with one value for all members of a split."""
_OF_MEMBER = {"member": NAME, "view": pa.int32()}
"""Columns with one value for all clips of a member."""
_OF_CLIPS = {
    "row": pa.int32(),
    "clip_id": pa.string(),
    "scene": NAME,
    "recording": pa.string(),
    "city": NAME,
    "recording_device": NAME,
    "fold": NAME,
}
_JUDGED = {"predicted": NAME, "correct": pa.bool_(), "log_loss": pa.float64()}
"""Columns that are made of the logits."""
SCHEMA = pa.schema(_OF_SPLIT | _OF_MEMBER | _OF_CLIPS | _JUDGED)


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedFiles:
    """Files of logits of a corpus's clips, which have the same classes."""

    corpus: str
    read_clips: Callable[[Sequence[str]], tuple[ClipsHeader, pa.Table]]
    """From the names of columns to these columns of the clips, whose texts may be dictionaries."""
    classes: tuple[str, ...]
    """Of the logits."""
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a query asks for."""

    columns: Sequence[str]
    passes: Any
    """A filter of pyarrow's; None: all rows pass."""
    filtered: frozenset[str]
    """The columns that the filter names, and maybe others."""

    @property
    def judges(self) -> bool:
        """Whether the filter needs columns that are made of the logits."""
        return not self.filtered.isdisjoint(_JUDGED)

    @property
    def made(self) -> frozenset[str]:
        """All columns that are made for the answer."""
        return self.filtered | {*self.columns} if self.judges else frozenset(self.columns)


@dataclass(frozen=True, slots=True)
class _Clips:
    """The clips of a corpus as members of one split see them."""

    header: ClipsHeader
    columns: Mapping[str, pa.Array]
    """The scene, and those of _OF_CLIPS that the answer needs, [N]."""
    alike: AlikeClips


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The clips that a query wants."""

    n: int
    rows_R: NDArray[np.int64] | None
    """None: all of them."""
    columns: Mapping[str, pa.Array]
    """Those of _OF_CLIPS that the answer needs, [R]."""
    labels_R: NDArray[np.int64]
    """-1 for clips without a label."""
    labelled: pa.Buffer | None
    """A bit for each clip that has a label; None: all have one."""

    @classmethod
    def of(cls, clips: _Clips, rows_R: NDArray[np.int64] | None) -> "_Chosen":
        columns = dict(clips.columns)
        if rows_R is not None:
            columns = {name: each.take(pa.array(rows_R)) for name, each in columns.items()}
        labels_R = number_values(pa.chunked_array([columns["scene"]]), clips.header.classes)
        columns["scene"] = name_places(labels_R.astype(np.int32), clips.header.classes)
        labelled = None if (labels_R >= 0).all() else _pack(labels_R >= 0)
        return cls(len(labels_R), rows_R, columns, labels_R, labelled)

    def make_column(self, kind: pa.DataType, values: pa.Buffer) -> pa.Array:
        """Return a column of numbers, [R]; null for clips without a label."""
        return pa.Array.from_buffers(kind, self.n, [self.labelled, values])

    def take(self, logits_N: Float16s) -> Float16s:
        """Return the logits of these clips, [R]."""
        return logits_N if self.rows_R is None else logits_N.take(self.rows_R)


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
        wanted = _Wanted(columns or SCHEMA.names, filter, find_columns(filter, SCHEMA.names))
        return _Scan([_Reading(self._files, each, wanted) for each in self._judged], wanted.columns)


class _Scan:
    """One reading of all files; it has what DuckDB uses of a scanner of pyarrow's."""

    def __init__(self, readings: "Sequence[_Reading]", columns: Sequence[str]) -> None:
        self._readings = readings
        self.projected_schema = pa.schema([SCHEMA.field(name) for name in columns])

    def to_reader(self) -> pa.RecordBatchReader:
        """Return the rows, a member at a time."""
        batches = (batch for reading in self._readings for batch in reading.iterate())
        return pa.RecordBatchReader.from_batches(self.projected_schema, batches)


class _Reading:
    """The reading of a corpus's files for a query."""

    def __init__(self, files: Files, judged: JudgedFiles, wanted: _Wanted) -> None:
        self._files, self._judged, self._wanted = files, judged, wanted
        # Files of one split follow one another.
        self._describe = functools.lru_cache(1)(self._describe_clips)
        self._choose = functools.lru_cache(1)(self._choose_clips)

    def iterate(self) -> Iterator[pa.RecordBatch]:
        """Read one file after the other, and pass over those that cannot be used."""
        found: list[pa.RecordBatch] = []
        for entry in self._judged.entries:
            keep_usable([entry], lambda each: found.extend(self._predict(each)))
            yield from found
            found.clear()

    def _predict(self, entry: Entry) -> Iterator[pa.RecordBatch]:
        """Return the wanted columns of a member's wanted rows, if there are any."""
        key, wanted = parse_key(entry.name, self._files.locate(entry.name)), self._wanted
        values = {"member": key.member, "view": key.view}
        filtered = frozenset() if wanted.judges else wanted.filtered & values.keys()
        chosen = self._choose(key.split, *((name, values[name]) for name in filtered))
        if chosen.n == 0:
            return
        judged = self._judge(entry, self._describe(key.split).header, chosen)
        values |= {"corpus": key.corpus, "split": key.split}
        same = {name: repeat(values[name], chosen.n) for name in values if name in wanted.made}
        columns = {**same, **chosen.columns, **judged}
        if wanted.judges:
            places = pa.array(find_places(wanted.passes, columns))
            columns = {name: each.take(places) for name, each in columns.items()}
            if len(places) == 0:
                return
        yield pa.record_batch({name: columns[name] for name in wanted.columns})

    def _choose_clips(self, split: int, *of_member: tuple[str, str | int]) -> _Chosen:
        """Return the clips that pass the filter; all, if it names columns that are made of the logits."""
        clips, wanted = self._describe(split), self._wanted
        if wanted.passes is None or wanted.judges:
            return _Chosen.of(clips, None)
        values = {"corpus": self._judged.corpus, "split": split, **dict(of_member)}
        rows_R = clips.alike.find_rows(wanted.passes, values)
        return _Chosen.of(clips, rows_R if len(rows_R) < clips.header.n else None)

    def _describe_clips(self, split: int) -> _Clips:
        """Read what the query needs of the clips."""
        needed = self._wanted.made | self._wanted.filtered
        stored = {name: fold_column(split) if name == "fold" else name for name in _OF_CLIPS}
        # The scene is the label.
        names = [name for name in _OF_CLIPS if name in needed or name == "scene"]
        header, table = self._judged.read_clips([stored[name] for name in names])
        columns = {name: _combine(table[stored[name]], _OF_CLIPS[name]) for name in names}
        filtered = _keep(columns, self._wanted.filtered)
        if "scene" in filtered:
            labels_N = number_values(table["scene"], header.classes)
            filtered["scene"] = name_places(labels_N.astype(np.int32), header.classes)
        made = _keep(columns, self._wanted.made | {"scene"})
        return _Clips(header, made, AlikeClips.of(filtered, header.n))

    def _judge(self, entry: Entry, header: ClipsHeader, chosen: _Chosen) -> dict[str, pa.Array]:
        """Return those of the columns that are made of a member's logits which are wanted, [R]."""
        # On S3, reading takes long: there, if no logits matter, the footer is compared alone.
        names = self._wanted.made & _JUDGED.keys()
        end_only = not self._files.is_near and not names
        made: dict[str, pa.Array] = {}
        with logits_file.open_logits(self._files, entry.name, end_only=end_only) as file:
            file.check_belongs(header)
            if not names and not end_only:
                file.compare_columns()
            if not names:
                return {}
            # They are taken while they are in the processor's cache, where the checksum brought them.
            logits: Iterable[Float16s] = map(chosen.take, file.read_columns())
            if "log_loss" in names:
                logits = np.stack([*logits])
                hit_R, loss_R = judge_clips(logits, None, chosen.labels_R)
                made["log_loss"] = chosen.make_column(pa.float64(), pa.py_buffer(loss_R))
                made["correct"] = chosen.make_column(pa.bool_(), _pack(hit_R))
            if "predicted" in names or "correct" not in made:
                predicted_R = predict_classes(logits)
                hit_R = predicted_R == chosen.labels_R
                made["correct"] = chosen.make_column(pa.bool_(), _pack(hit_R))
                if "predicted" in names:
                    made["predicted"] = name_places(
                        predicted_R.astype(np.int32), self._judged.classes
                    )
        return made


def _keep(columns: Mapping[str, pa.Array], names: Collection[str]) -> dict[str, pa.Array]:
    return {name: each for name, each in columns.items() if name in names}


def _combine(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """Return a column as one array of a type; texts become a dictionary if that is the type."""
    if kind == NAME:
        column = column.dictionary_encode().unify_dictionaries()
    return column.combine_chunks().cast(kind)


def _pack(flags_R: NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags_R, bitorder="little"))
