"""LogitStore: write, read and list (N clips, M members, K classes, R rows that were asked for)."""

import errno
import hashlib
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from logit_store import query
from logit_store.errors import (
    ClassOrderMismatch,
    ClipsMismatch,
    DamagedFile,
    MissingClips,
    MissingEnsemble,
    MissingLogits,
    MissingObject,
    MissingStore,
    RowOrderMismatch,
    StoreFull,
    UnstorableLogits,
    UnsupportedAddress,
)
from logit_store.layout import (
    CLIPS_PATTERN,
    CLIPS_SCHEMA,
    FIGURE_FOLDS,
    MAX_LOGIT,
    ClipsHeader,
    Figures,
    Footer,
    LogitKey,
    checked_clips,
    checked_object_name,
    clips_path,
    ensemble_path,
    ensembles_folder,
    fold_column,
    key_of,
    logits_path,
    logits_pattern,
    logits_schema,
)
from metrics import Scores, accuracy, by_group, log_loss

Float32s = NDArray[np.float32]
Float16s = NDArray[np.float16]

MEMBERS_SCHEMA = pa.schema(
    {
        "member": pa.string(),
        "corpus": pa.string(),
        "split": pa.int32(),
        "view": pa.int32(),
        "kind": pa.string(),
        "recipe": pa.string(),
        "log_loss_fit": pa.float64(),
        "log_loss_select": pa.float64(),
        "accuracy_fit": pa.float64(),
        "accuracy_select": pa.float64(),
        "bytes": pa.int64(),
        "written": pa.timestamp("us", tz="UTC"),
    }
)


class LogitStore:
    """Logits of members, clips of corpora, ensembles and weights in one folder.

    Every result is one file, written whole or not at all; writing it again replaces it. Any number
    of processes may read and write at once. A folder that does not exist is made by the first
    write.
    """

    def __init__(self, address: str | os.PathLike[str]) -> None:
        """Name a store; touches nothing.

        Raises:
            UnsupportedAddress: the address is not a folder's.
        """
        self.address = os.fspath(address)
        if "://" in self.address:
            raise UnsupportedAddress(self.address)
        # Absolute, for a worker of another current folder.
        self._files = _Folder(Path(self.address).expanduser().absolute())

    def __repr__(self) -> str:
        return f"LogitStore({self.address!r})"

    def write_clips(self, corpus: str, table: pa.Table) -> None:
        """Store what a corpus's clips are; nothing to do if the same are there.

        Args:
            corpus: its name.
            table: columns of CLIPS_SCHEMA; rows in the corpus's order, `row` counts them from 0.

        Raises:
            ClipsMismatch: other clips are there, and logits that belong to them.
            ValueError: the table does not hold clips.
        """
        clips = checked_clips(corpus, table)
        header = ClipsHeader.of(clips)
        name = clips_path(corpus)
        if self._files.has(name):
            stored = self._clips_header(corpus).content_hash
            if stored == header.content_hash:
                return
            if self._files.names(logits_pattern(corpus)):
                raise ClipsMismatch(
                    corpus, stored=stored, given=header.content_hash, store=self.address
                )
        self._files.put(name, _parquet(clips, header.to_metadata()))

    def clips(self, corpus: str) -> pa.Table:
        """What a corpus's clips are, in the corpus's order: columns of CLIPS_SCHEMA.

        Raises:
            MissingClips: never written.
        """
        self._clips_header(corpus)
        with self._parquet_file(clips_path(corpus)) as file:
            return file.read().cast(CLIPS_SCHEMA)

    def corpora(self) -> list[str]:
        """Names of the corpora whose clips are here, sorted."""
        self._require()
        names = self._files.names(CLIPS_PATTERN)
        return sorted(Path(name).parent.name.partition("=")[2] for name in names)

    def write(self, key: LogitKey, logits_NK: ArrayLike, record: Mapping[str, Any]) -> None:
        """Store one member's logits of all clips of a corpus, as float16.

        Args:
            key: their name.
            logits_NK: floats; clips in the corpus's order, classes in the order of the sorted
                scenes.
            record: how they came about; anything that JSON can hold. `kind` and `recipe` (a name,
                or a mapping with a `name`) show up in `members`.

        Raises:
            MissingClips: the corpus's clips have to be written first.
            UnstorableLogits: a value is not finite or beyond float16.
            ValueError: wrong shape or type, or a record that is no JSON.
        """
        clips = self.clips(key.corpus)
        header = self._clips_header(key.corpus)
        logits_NK = _storable(key, logits_NK, clips, header.classes)
        footer = Footer(
            row_order_hash=header.row_order_hash,
            classes=header.classes,
            largest_logit=float(np.abs(logits_NK).max()),
            logits_hash=hashlib.sha256(logits_NK.tobytes()).hexdigest()[:16],
            figures=_figures(logits_NK, clips, header.classes, key.split),
            record=dict(record),
        )
        try:
            metadata = footer.to_metadata()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{key}: the record is no JSON: {error}") from error
        columns = [
            clips["row"],
            *(pa.array(column) for column in np.ascontiguousarray(logits_NK.T)),
        ]
        table = pa.table(columns, schema=logits_schema(header.classes))
        self._files.put(logits_path(key), _parquet(table, metadata, wide=True))

    def __contains__(self, key: LogitKey) -> bool:
        return self._files.has(logits_path(key))

    def read(self, keys: Sequence[LogitKey], rows: ArrayLike | None = None) -> Float32s:
        """Logits [M, N, K]: members in the order of keys, clips in the corpus's order.

        In memory the clips lie side by side, not the classes: what follows (selection, soft labels)
        is several times faster so. `numpy.ascontiguousarray` turns it round.

        Args:
            keys: of one corpus, at least one.
            rows: which clips, in which order; None is all of them.

        Raises:
            MissingLogits: names all that are absent.
            UnreadableFile: of another version, row order or class order, or damaged.
            ValueError: keys of several corpora or none, rows that are no row numbers.
        """
        keys = list(keys)
        header = self._clips_header(_one_corpus(keys))
        self._check_present(keys)
        rows_R = None if rows is None else _checked_rows(rows, header.n)
        n_rows = header.n if rows_R is None else len(rows_R)
        logits_MKN = np.empty((len(keys), len(header.classes), n_rows), np.float32)
        for key, logits_KN in zip(keys, logits_MKN, strict=True):
            with self._logits_file(key, header) as (file, _):
                table = file.read(columns=list(header.classes), use_threads=False)
                for scene, logits_N in zip(header.classes, logits_KN, strict=True):
                    stored_N = _column(table, scene)
                    _widen(stored_N if rows_R is None else stored_N[rows_R], logits_N)
        return logits_MKN.transpose(0, 2, 1)

    def footer(self, key: LogitKey) -> Footer:
        """What the file of some logits says of itself.

        Raises:
            MissingLogits: not there.
            UnreadableFile: of another version, row order or class order, or damaged.
        """
        return self._footer(key, self._clips_header(key.corpus))

    def record(self, key: LogitKey) -> dict[str, Any]:
        """How some logits came about.

        Raises:
            MissingLogits: not there.
            UnreadableFile: of another version, row order or class order, or damaged.
        """
        return self.footer(key).record

    def keys(
        self,
        corpus: str | None = None,
        split: int | None = None,
        view: int | None = 0,
        kind: str | None = None,
    ) -> list[LogitKey]:
        """Names of the logits that are here, sorted by member; None is any.

        Args:
            corpus: only of this one.
            split: only of this one.
            view: only of this one.
            kind: only whose record says so: "teacher", "student"...
        """
        self._require()
        names = self._files.names(logits_pattern(corpus, split, view=view))
        keys = [key_of(name, self._files.root) for name in names]
        if kind is not None:
            keys = [key for key, footer in self._footers(keys) if footer.record.get("kind") == kind]
        return sorted(keys, key=lambda key: (key.member, key.corpus, key.split, key.view))

    def members(self, corpus: str | None = None, split: int | None = None) -> pa.Table:
        """A row for each member, split and view: who it is and what it is worth (MEMBERS_SCHEMA).

        Log loss in nats, accuracy 0...1; null where a fold has no clip.
        """
        keys = self.keys(corpus, split, view=None)
        rows = [self._member_row(key, footer) for key, footer in self._footers(keys)]
        return pa.Table.from_pylist(rows, schema=MEMBERS_SCHEMA)

    def sql(self, text: str) -> pa.Table:
        """Ask DuckDB over the views `clips`, `logits`, `members` and `predictions`.

        Raises:
            QueryFailed: DuckDB refuses the query.
        """
        members = self.members()
        corpora = [self._corpus_files(corpus) for corpus in self.corpora()]
        return query.run(text, corpora, members)

    def write_ensemble(
        self, corpus: str, split: int, name: str, document: Mapping[str, Any]
    ) -> None:
        """Store an ensemble, or replace it.

        Raises:
            ValueError: the document is no JSON, or the name cannot stand in a path.
        """
        path = ensemble_path(corpus, split, name)
        try:
            text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"ensemble {name!r} is no JSON: {error}") from error
        self._files.put(path, f"{text}\n".encode())

    def read_ensemble(self, corpus: str, split: int, name: str) -> dict[str, Any]:
        """An ensemble as it was written.

        Raises:
            MissingEnsemble: not there; names those that are.
        """
        path = ensemble_path(corpus, split, name)
        if not self._files.has(path):
            present = self.ensembles(corpus, split)
            raise MissingEnsemble(
                name, corpus=corpus, split=split, store=self.address, present=present
            )
        try:
            return json.loads(self._files.get(path))
        except ValueError as error:
            raise DamagedFile(self._files.path(path), str(error)) from error

    def ensembles(self, corpus: str, split: int) -> list[str]:
        """Names of a split's ensembles, sorted."""
        self._require()
        names = self._files.names(f"{ensembles_folder(corpus, split)}/*.json")
        return sorted(Path(name).stem for name in names)

    def write_object(self, name: str, data: bytes | memoryview) -> None:
        """Store bytes as an object, or replace it.

        Args:
            name: `teachers/v1/MEMBER/FILE`, `students/v1/MEMBER/FILE` or `weights/v1/NAME/FILE`.
            data: what it holds.

        Raises:
            ValueError: another name.
            StoreFull: no space is left; what was there still is.
        """
        self._files.put(checked_object_name(name), data)

    def read_object(self, name: str) -> bytes:
        """The bytes of an object.

        Raises:
            MissingObject: not there.
        """
        if not self.has_object(name):
            self._require()
            raise MissingObject(name, store=self.address)
        return self._files.get(name)

    def has_object(self, name: str) -> bool:
        """Whether an object is there, whole."""
        return self._files.has(checked_object_name(name))

    def delete_object(self, name: str) -> None:
        """Make sure that an object is not there."""
        self._files.delete(checked_object_name(name))

    def object_path(self, name: str) -> Path:
        """Where an object lies, or would; for readers that want a file."""
        return self._files.path(checked_object_name(name))

    def _require(self) -> None:
        if not self._files.exists():
            raise MissingStore(self.address)

    def _check_present(self, keys: Sequence[LogitKey]) -> None:
        absent = [key for key in keys if key not in self]
        if absent:
            raise MissingLogits(absent, store=self.address)

    @contextmanager
    def _parquet_file(self, name: str) -> Generator[pq.ParquetFile]:
        path = self._files.path(name)
        try:
            with self._files.open(name) as source, pq.ParquetFile(source) as file:
                yield file
        except (FileNotFoundError, PermissionError):
            raise
        except (pa.ArrowException, OSError) as error:
            raise DamagedFile(path, str(error)) from error

    def _clips_header(self, corpus: str) -> ClipsHeader:
        self._require()
        name = clips_path(corpus)
        if not self._files.has(name):
            raise MissingClips(corpus, store=self.address, present=self.corpora())
        with self._parquet_file(name) as file:
            metadata = file.metadata
            return ClipsHeader.from_metadata(
                metadata.metadata, metadata.num_rows, self._files.path(name)
            )

    @contextmanager
    def _logits_file(
        self, key: LogitKey, header: ClipsHeader
    ) -> Generator[tuple[pq.ParquetFile, Footer]]:
        """One opened file, found to belong to the clips; what is checked is what is read."""
        name = logits_path(key)
        path = self._files.path(name)
        with self._parquet_file(name) as file:
            footer = Footer.from_metadata(file.metadata.metadata, path)
            found, expected = footer.row_order_hash, header.row_order_hash
            if found != expected:
                raise RowOrderMismatch(path, found=found, expected=expected)
            if footer.classes != header.classes:
                raise ClassOrderMismatch(path, found=footer.classes, expected=header.classes)
            if file.metadata.num_rows != header.n:
                raise DamagedFile(path, f"{file.metadata.num_rows} rows, expected {header.n}")
            yield file, footer

    def _footer(self, key: LogitKey, header: ClipsHeader) -> Footer:
        self._check_present([key])
        with self._logits_file(key, header) as (_, footer):
            return footer

    def _footers(self, keys: Sequence[LogitKey]) -> Iterator[tuple[LogitKey, Footer]]:
        headers = {corpus: self._clips_header(corpus) for corpus in {key.corpus for key in keys}}
        for key in keys:
            yield key, self._footer(key, headers[key.corpus])

    def _member_row(self, key: LogitKey, footer: Footer) -> dict[str, Any]:
        recipe = footer.record.get("recipe")
        size, written = self._files.size_and_time(logits_path(key))
        row = {
            "member": key.member,
            "corpus": key.corpus,
            "split": key.split,
            "view": key.view,
            "kind": footer.record.get("kind"),
            "recipe": recipe.get("name") if isinstance(recipe, dict) else recipe,
            "bytes": size,
            "written": written,
        }
        for fold in FIGURE_FOLDS:
            figures = footer.figure(fold)
            if figures is not None:
                row |= {f"log_loss_{fold}": figures.log_loss, f"accuracy_{fold}": figures.accuracy}
        return row

    def _corpus_files(self, corpus: str) -> query.CorpusFiles:
        names = self._files.names(logits_pattern(corpus))
        return query.CorpusFiles(
            corpus=corpus,
            root=self._files.root,
            classes=self._clips_header(corpus).classes,
            clips=clips_path(corpus),
            logits=tuple(names),
        )


def _one_corpus(keys: Sequence[LogitKey]) -> str:
    corpora = sorted({key.corpus for key in keys})
    if len(corpora) != 1:
        raise ValueError(f"keys of corpora {corpora}, expected keys of one corpus, at least one")
    return corpora[0]


def _checked_rows(rows: ArrayLike, n: int) -> NDArray[np.integer]:
    rows_R = np.asarray(rows)
    if rows_R.ndim != 1 or not np.issubdtype(rows_R.dtype, np.integer):
        raise ValueError(
            f"rows of shape {rows_R.shape} and type {rows_R.dtype}, expected a list of integers"
        )
    if len(rows_R) and (rows_R.min() < 0 or rows_R.max() >= n):
        raise ValueError(f"rows within {rows_R.min()}...{rows_R.max()}, expected 0...{n - 1}")
    return rows_R


def _storable(
    key: LogitKey, logits_NK: ArrayLike, clips: pa.Table, classes: Sequence[str]
) -> Float16s:
    logits = np.asarray(logits_NK)
    expected = (clips.num_rows, len(classes))
    if logits.shape != expected or not np.issubdtype(logits.dtype, np.floating):
        raise ValueError(
            f"{key}: logits of shape {logits.shape} and type {logits.dtype}, expected floats of "
            f"shape {expected}: (clips, classes) of corpus {key.corpus}"
        )
    # Written so that a NaN counts as wrong.
    wrong = np.argwhere(~(np.abs(logits) <= MAX_LOGIT))
    if len(wrong):
        row, column = map(int, wrong[0])
        clip_id, value = clips["clip_id"][row].as_py(), float(logits[row, column])
        raise UnstorableLogits(key, clip_id=clip_id, scene=classes[column], value=value)
    return logits.astype(np.float16)


def _figures(
    logits_NK: Float16s, clips: pa.Table, classes: Sequence[str], split: int
) -> tuple[Figures, ...]:
    """Figures per fold, of all its clips and of each recording device, but never of `test`."""
    folds = clips[fold_column(split)]
    labels_N = pc.index_in(clips["scene"], value_set=pa.array(classes)).to_numpy()
    devices_N = clips["recording_device"].to_numpy()
    figures = []
    for fold in FIGURE_FOLDS:
        inside = np.flatnonzero(pc.fill_null(pc.equal(folds, fold), False).to_numpy())
        if len(inside) == 0:
            continue
        logits, labels = logits_NK[inside], labels_N[inside]
        whole = Scores(
            n=len(inside), accuracy=accuracy(logits, labels), log_loss=log_loss(logits, labels)
        )
        scores = {None: whole, **by_group(logits, labels, devices_N[inside])}
        for device, score in scores.items():
            figures.append(
                Figures(
                    fold=fold,
                    recording_device=device,
                    n=score.n,
                    log_loss=score.log_loss,
                    accuracy=score.accuracy,
                )
            )
    return tuple(figures)


def _column(table: pa.Table, name: str) -> Float16s:
    """A column as the bytes lie in the file: one row group is one chunk, so nothing is copied."""
    return table[name].combine_chunks().to_numpy(zero_copy_only=True)


def _widen(half_N: Float16s, single_N: Float32s) -> None:
    """Write finite float16 values as float32: exact, and six times faster than numpy's `astype`.

    A float16 has its exponent at bit 10, a float32 at bit 23, 112 larger. So move the bits up by
    13, clear the three that the sign was smeared over, and multiply by 2^112; float16 subnormals
    come out right because they are float32 subnormals on the way.
    """
    bits_N = single_N.view(np.int32)
    bits_N[...] = half_N.view(np.int16)
    bits_N <<= 13
    bits_N &= np.int32(~0x70000000)
    single_N *= np.float32(2.0**112)


def _parquet(table: pa.Table, metadata: Mapping[str, str], *, wide: bool = False) -> pa.Buffer:
    """A table as a Parquet file: equal tables, equal bytes.

    Args:
        table: what goes in.
        metadata: key-value pairs of the footer.
        wide: one plain page a column, so that readers take it as it is; else small.
    """
    n = table.num_rows
    options: dict[str, Any] = {"store_schema": False, "write_statistics": not wide}
    if wide:
        row, *classes = table.column_names
        # Plain row numbers would be a sixth of a file of ten classes; their differences are nothing.
        encodings = {row: "DELTA_BINARY_PACKED", **dict.fromkeys(classes, "PLAIN")}
        options |= {"compression": "none", "use_dictionary": False, "column_encoding": encodings}
        options |= {"data_page_size": 2**30, "max_rows_per_page": n, "write_batch_size": n}
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        writer.write_table(table, row_group_size=n)
        writer.add_key_value_metadata(dict(metadata))
    return sink.getvalue()


class _Folder:
    """Whole files by name in a folder: the one place that knows it is a disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def exists(self) -> bool:
        return self.root.is_dir()

    def path(self, name: str) -> Path:
        return self.root / name

    def has(self, name: str) -> bool:
        return self.path(name).is_file()

    def names(self, pattern: str) -> list[str]:
        # Path.glob finds names with a leading dot too: those are not whole yet.
        found = (path for path in self.root.glob(pattern) if not path.name.startswith("."))
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def size_and_time(self, name: str) -> tuple[int, datetime]:
        stat = self.path(name).stat()
        return stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC)

    def open(self, name: str) -> pa.NativeFile:
        return pa.memory_map(str(self.path(name)))

    def get(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def delete(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    def put(self, name: str, data: bytes | memoryview | pa.Buffer) -> None:
        """Write a file whole or not at all, and lastingly; replaces what was there."""
        path = self.path(name)
        _make_folders(path.parent)
        _sweep(path.parent)
        temporary = path.with_name(f".{os.getpid()}-{_host()}-{secrets.token_hex(4)}.tmp")
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFull(path, len(data)) from error
            raise
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


_TEMPORARY = re.compile(r"\.(?P<pid>\d+)-(?P<host>[0-9a-f]{8})-[0-9a-f]{8}\.tmp")
_ABANDONED_AFTER_S = 24 * 3600
"""Far longer than any write lasts: the age at which another machine's temporary file is swept."""


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _make_folders(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Remove what writers left that were killed."""
    for path in folder.glob(".*.tmp"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and _is_abandoned(path, int(match["pid"]), match["host"]):
            path.unlink(missing_ok=True)


def _is_abandoned(path: Path, pid: int, host: str) -> bool:
    if host == _host() and not _lives(pid):
        return True
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S
    except FileNotFoundError:
        return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
