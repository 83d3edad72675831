"""LogitStore: write, read and list (N clips, M members, K classes, R rows that were asked for)."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from logit_store import catalogue, clips_file, ensembles, logits_file, parquet, query, runs
from logit_store.catalogue import MEMBERS_SCHEMA, Filed
from logit_store.errors import (
    ClipsMismatch,
    EnsembleChanged,
    MissingClips,
    MissingEnsemble,
    MissingLogits,
    MissingObject,
    MissingStore,
    UnsupportedAddress,
    WrongRowOrder,
)
from logit_store.figures import figures_of, judging_columns
from logit_store.files import Entry, Files
from logit_store.folder import Folder
from logit_store.layout import (
    CLIPS_PATTERN,
    CLIPS_SCHEMA,
    ENSEMBLES_PATTERN,
    ClipsHeader,
    Footer,
    LogitKey,
    checked_clips,
    checked_object_name,
    clips_path,
    corpus_of,
    ensemble_path,
    ensembles_pattern,
    key_of,
    logits_path,
    logits_pattern,
)


class LogitStore:
    """Logits of members, clips of corpora, ensembles and weights in one place.

    Every result is one file, written whole or not at all; writing it again replaces it. Any number
    of processes may read and write at once. The address is a folder, which the first write makes, or
    `s3://BUCKET/PREFIX`.
    """

    def __init__(self, address: str | os.PathLike[str]) -> None:
        """Name a store; touches nothing.

        Raises:
            UnsupportedAddress: the address is neither a folder's nor a bucket's.
        """
        self.address = os.fspath(address)
        self.files: Files = _files_at(self.address)
        """What lies there, by name, for who looks after the store; use the methods else."""

    def __repr__(self) -> str:
        return f"LogitStore({self.address!r})"

    def write_clips(self, corpus: str, table: pa.Table) -> None:
        """Store what a corpus's clips are; nothing to do if the same are there.

        Args:
            corpus: its name.
            table: columns of CLIPS_SCHEMA; rows in the corpus's order, `row` counts them from 0.

        Raises:
            ClipsMismatch: other clips are there, or the same in another order, and logits that
                belong to them.
            ValueError: the table does not hold clips.
        """
        clips = checked_clips(corpus, table)
        header = ClipsHeader.of(clips)
        name = clips_path(corpus)
        if self.files.has(name):
            stored = self._clips_header(corpus).content_hash
            if stored == header.content_hash:
                return
            if self.files.entries(logits_pattern(corpus)):
                reordered = clips_file.same_but_for_order(self.clips(corpus), clips)
                raise ClipsMismatch(
                    corpus,
                    stored=stored,
                    given=header.content_hash,
                    store=self.address,
                    reordered=header.n if reordered else None,
                )
        self.files.put(name, parquet.small(clips, header.to_metadata()))

    def clips(self, corpus: str) -> pa.Table:
        """What a corpus's clips are, in the corpus's order: columns of CLIPS_SCHEMA.

        Raises:
            MissingClips: never written.
        """
        with self._clips_file(corpus) as (file, _):
            return file.read().cast(CLIPS_SCHEMA)

    def corpora(self) -> list[str]:
        """Names of the corpora whose clips are here, sorted."""
        self._require()
        entries = self.files.entries(CLIPS_PATTERN)
        return [corpus_of(each.name) for each in entries]

    def write(
        self,
        key: LogitKey,
        logits_NK: ArrayLike,
        record: Mapping[str, Any],
        *,
        row_order: str | None = None,
    ) -> None:
        """Store one member's logits of all clips of a corpus, as float16.

        Args:
            key: their name.
            logits_NK: floats; clips in the corpus's order, classes in the order of the sorted
                scenes.
            record: how they came about; anything that JSON can hold. `kind`, `recipe` (a name, or
                a mapping with a `name`), `family`, `protocol` and `seed` show up in `members`.
            row_order: `row_order_hash` of the clips that the caller has, in the caller's order;
                None: the caller took them from the store.

        Raises:
            MissingClips: the corpus's clips have to be written first.
            WrongRowOrder: the caller's clips are others, or in another order.
            UnstorableLogits: a value is not finite or beyond float16.
            ValueError: wrong shape or type, or a record that is no JSON.
        """
        wanted = judging_columns(key.split)
        with self._clips_file(key.corpus, dictionaries=wanted) as (file, header):
            if row_order is not None and row_order != header.row_order_hash:
                raise WrongRowOrder(key, given=row_order, expected=header.row_order_hash)
            clips = file.read(columns=wanted, use_threads=False)
        logits_KN, largest = logits_file.storable(
            key, logits_NK, header, lambda row: self.clips(key.corpus)["clip_id"][row].as_py()
        )
        footer = Footer(
            row_order_hash=header.row_order_hash,
            classes=header.classes,
            largest_logit=largest,
            logits_hash=logits_file.logits_hash(logits_KN),
            figures=figures_of(logits_KN, clips, header.classes, key.split),
            record=dict(record),
        )
        try:
            data = logits_file.encoded(logits_KN, footer)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{key}: the record is no JSON: {error}") from error
        self.files.put(logits_path(key), data)

    def __contains__(self, key: LogitKey) -> bool:
        return self.files.has(logits_path(key))

    def read(
        self,
        keys: Sequence[LogitKey],
        rows: ArrayLike | None = None,
        *,
        clip_ids: Sequence[str] | None = None,
        dtype: type[np.floating] = np.float32,
    ) -> NDArray[np.floating]:
        """Logits [M, N, K]: members in the order of keys, clips in the corpus's order.

        In memory the clips lie side by side, not the classes: what follows (selection, soft labels)
        sums over classes, and sums of ten numbers side by side are several times slower.

        Args:
            keys: of one corpus, at least one.
            rows: which clips, in which order; None is all of them.
            clip_ids: the same by name: for who has the clips in another order than the store.
            dtype: float32, or float16 as in the files: half the memory and twice as fast.

        Raises:
            MissingLogits: names all that are absent.
            UnknownClips: the corpus does not have all those clips.
            UnreadableFile: of another version, row order or class order, or damaged.
            ValueError: no key, keys of several corpora, rows that are no row numbers, or rows and
                clip_ids.
        """
        corpus = _one_corpus(keys)
        header = self._clips_header(corpus)
        self.files.fetch([logits_path(key) for key in keys])
        self._check_present(keys)
        rows_R = self._rows(corpus, header.n, rows, clip_ids)
        n_rows = header.n if rows_R is None else len(rows_R)
        logits_MKN = np.empty((len(keys), len(header.classes), n_rows), dtype)
        put = logits_file.widen if dtype is np.float32 else np.copyto
        for key, logits_KN in zip(keys, logits_MKN, strict=True):
            with logits_file.opened(self.files, logits_path(key)) as file:
                file.check_belongs(header)
                for logits_N, stored_N in zip(logits_KN, file.columns(), strict=True):
                    put(logits_N, stored_N if rows_R is None else stored_N[rows_R])
        return logits_MKN.transpose(0, 2, 1)

    def footer(self, key: LogitKey) -> Footer:
        """What the file of some logits says of itself.

        Raises:
            MissingLogits: not there.
            UnreadableFile: of another version, row order or class order, or damaged.
        """
        header = self._clips_header(key.corpus)
        self._check_present([key])
        with logits_file.opened(self.files, logits_path(key), end_only=True) as file:
            file.check_belongs(header)
            return file.footer

    def footers(self, keys: Sequence[LogitKey]) -> dict[LogitKey, Footer]:
        """What the files of many logits say of themselves, in the order of keys.

        Comes from the catalogue, so that not every file is opened.

        Raises:
            MissingLogits: names all that are absent.
            UnreadableFile: of another version, row order or class order, or damaged.
        """
        self._require()
        wanted, found = set(keys), dict[LogitKey, Footer]()
        for corpus in {key.corpus for key in keys}:
            for filed in self._filed(self._listed(corpus), wanted.__contains__):
                found |= filed.footers()
        absent = [key for key in keys if key not in found]
        if absent:
            raise MissingLogits(absent, store=self.address)
        return {key: found[key] for key in keys}

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
        if kind is None:
            entries = self.files.entries(logits_pattern(corpus, split, view=view))
            keys = [key_of(each.name, self.files.where(each.name)) for each in entries]
        else:
            keys = [
                key
                for filed in self._filed(self._listed(corpus), _wanted(split, view))
                for key, found in zip(filed.keys, filed.rows["kind"].to_pylist(), strict=True)
                if found == kind
            ]
        return sorted(keys, key=lambda key: (key.member, key.corpus, key.split, key.view))

    def members(self, corpus: str | None = None, split: int | None = None) -> pa.Table:
        """A row for each member, split and view: who it is and what it is worth (MEMBERS_SCHEMA).

        Log loss in nats, accuracy 0...1; null where a fold has no clip.

        Raises:
            UnreadableFile: of another version, row order or class order, or damaged.
        """
        self._require()
        return self._members(self._listed(corpus), split)

    def runs(self, corpus: str | None = None, split: int | None = None) -> pa.Table:
        """A row for each member: how it came about and what it is worth (RUNS_SCHEMA of `runs`).

        Log loss in nats and accuracy 0...1 on `select`, duration in hours; null where the member's
        record does not tell.

        Raises:
            UnreadableFile: of another version, row order or class order, or damaged.
        """
        self._require()
        return self._runs(self._listed(corpus), split)

    def sql(self, text: str) -> pa.Table:
        """Ask DuckDB over the views that docs/store.md lists: `members`, `runs`, `predictions`...

        Raises:
            QueryFailed: DuckDB refuses the query.
            UnreadableFile: a file of the store must not be used.
        """
        self._require()
        listed = self._listed(None)
        tables = {
            "members": self._members(listed, None),
            # Records by the thousand are not taken apart for a query that does not name them.
            "runs": self._runs(listed if "runs" in text.lower() else {}, None),
            "ensembles": self._ensembles(text),
        }
        corpora = [
            query.CorpusFiles(
                corpus=corpus,
                classes=self._clips_header(corpus).classes,
                clips=clips_path(corpus),
                logits=tuple(each.name for each in listed.get(corpus, ())),
            )
            for corpus in self.corpora()
        ]
        return query.run(text, self.files, corpora, tables)

    def write_ensemble(
        self, corpus: str, split: int, name: str, document: Mapping[str, Any]
    ) -> str:
        """Store an ensemble under its name and what it is: the same document, the same place.

        Args:
            corpus: whose clips it judges.
            split: that its members learnt from.
            name: what people call it.
            document: all that it is: JSON. `members` is a list of mappings with `member`, `weight`
                and `hash`, which is the `logits_hash` in the member's footer; `space`, `fold`,
                `losses` and `candidates` show up in the view `ensembles`.

        Returns:
            `NAME@HASH`, which stands for this very document.

        Raises:
            ValueError: the document is no JSON, or the name cannot stand in a path.
        """
        reference, data = ensembles.encoded(name, document)
        self.files.put(ensemble_path(corpus, split, reference), data)
        return reference

    def read_ensemble(self, corpus: str, split: int, reference: str) -> dict[str, Any]:
        """An ensemble as it was written.

        Args:
            corpus: whose clips it judges.
            split: that its members learnt from.
            reference: `NAME@HASH`, or `NAME` for the one of that name that was written last.

        Raises:
            MissingEnsemble: not there; names those that are.
            DamagedFile: it is not what was written.
        """
        return self._read_ensemble(corpus, split, reference)[0]

    def find_ensemble(self, corpus: str, split: int, reference: str) -> str:
        """`NAME@HASH` of an ensemble.

        Args:
            corpus: whose clips it judges.
            split: that its members learnt from.
            reference: as for `read_ensemble`.

        Raises:
            MissingEnsemble: not there; names those that are.
        """
        return ensembles.reference_of(self._ensemble(corpus, split, reference))

    def ensembles(self, corpus: str, split: int) -> list[str]:
        """`NAME@HASH` of a split's ensembles, sorted."""
        self._require()
        return [
            ensembles.reference_of(each)
            for each in self.files.entries(ensembles_pattern(corpus, split))
        ]

    def pinned(self, corpus: str, split: int, reference: str) -> dict[LogitKey, float]:
        """The weight of each of an ensemble's members, which are as they were when it was selected.

        Args:
            corpus: whose clips it judges.
            split: that its members learnt from.
            reference: as for `read_ensemble`.

        Raises:
            MissingEnsemble: not there; names those that are.
            MissingLogits: names all members that are absent.
            EnsembleChanged: a member's logits are others now.
            UnreadableFile: the ensemble's or a member's file must not be used.
        """
        pins = ensembles.pins(*self._read_ensemble(corpus, split, reference))
        keys = [LogitKey(corpus, split, pin.member) for pin in pins]
        footers = self.footers(keys)
        for key, pin in zip(keys, pins, strict=True):
            found = footers[key].logits_hash
            if found != pin.logits_hash:
                raise EnsembleChanged(key, found=found, expected=pin.logits_hash)
        return {key: pin.weight for key, pin in zip(keys, pins, strict=True)}

    def write_object(self, name: str, data: bytes | memoryview) -> None:
        """Store bytes as an object, or replace it.

        Args:
            name: `teachers/v1/MEMBER/FILE`, `students/v1/MEMBER/FILE`, `weights/v1/NAME/FILE`,
                `search/v1/NAME/FILE`, `jobs/v1/JOB/FILE` or `units/v1/JOB/UNIT/FILE`.
            data: what it holds.

        Raises:
            ValueError: another name.
            StoreFull: no space is left; what was there still is.
        """
        self.files.put(checked_object_name(name), data)

    def read_object(self, name: str) -> bytes:
        """The bytes of an object.

        Raises:
            MissingObject: not there.
        """
        self._require_object(name)
        return self.files.get(name)

    def has_object(self, name: str) -> bool:
        """Whether an object is there, whole."""
        return self.files.has(checked_object_name(name))

    def delete_object(self, name: str) -> None:
        """Make sure that an object is not there."""
        self.files.delete(checked_object_name(name))

    def object_address(self, name: str) -> str:
        """Where an object lies, or would."""
        return self.files.where(checked_object_name(name))

    def local_object(self, name: str) -> Path:
        """An object, or a copy of it, as a file of this machine; for readers that want one.

        Raises:
            MissingObject: not there.
        """
        self._require_object(name)
        return self.files.local(name)

    def _require(self) -> None:
        if not self.files.exists():
            raise MissingStore(self.address)

    def _require_object(self, name: str) -> None:
        if not self.has_object(name):
            self._require()
            raise MissingObject(name, store=self.address)

    def _check_present(self, keys: Sequence[LogitKey]) -> None:
        absent = [key for key in keys if key not in self]
        if absent:
            raise MissingLogits(absent, store=self.address)

    @contextmanager
    def _clips_file(
        self, corpus: str, *, end_only: bool = False, dictionaries: Sequence[str] = ()
    ) -> Iterator[tuple[pq.ParquetFile, ClipsHeader]]:
        self._require()
        if not self.files.has(clips_path(corpus)):
            raise MissingClips(corpus, store=self.address, present=self.corpora())
        with clips_file.opened(
            self.files, corpus, end_only=end_only, dictionaries=dictionaries
        ) as opened:
            yield opened

    def _clips_header(self, corpus: str) -> ClipsHeader:
        with self._clips_file(corpus, end_only=True) as (_, header):
            return header

    def _rows(
        self, corpus: str, n: int, rows: ArrayLike | None, clip_ids: Sequence[str] | None
    ) -> NDArray[np.integer] | None:
        if clip_ids is None:
            return None if rows is None else _checked_rows(rows, n)
        if rows is not None:
            raise ValueError("rows and clip_ids were given, expected one of them")
        with self._clips_file(corpus) as (file, _):
            return clips_file.rows_of(clip_ids, file.read(columns=["clip_id"]), corpus)

    def _listed(self, corpus: str | None) -> dict[str, list[Entry]]:
        """The files of logits, by corpus."""
        entries = self.files.entries(logits_pattern(corpus))
        listed: dict[str, list[Entry]] = {}
        for entry in entries:
            listed.setdefault(corpus_of(entry.name), []).append(entry)
        return listed

    def _filed(
        self, listed: Mapping[str, Sequence[Entry]], wanted: Callable[[LogitKey], bool]
    ) -> list[Filed]:
        """What the catalogues say of the logits that are wanted, all found to be readable."""
        found = []
        for corpus, entries in listed.items():
            filed = catalogue.filed(self.files, corpus, entries).only(wanted)
            filed.check_belongs(self._clips_header(corpus), self.files.where)
            found.append(filed)
        return found

    def _members(self, listed: Mapping[str, Sequence[Entry]], split: int | None) -> pa.Table:
        tables = [filed.members() for filed in self._filed(listed, _wanted(split, None))]
        members = pa.concat_tables([MEMBERS_SCHEMA.empty_table(), *tables])
        order = ("member", "corpus", "split", "view")
        return members.sort_by([(name, "ascending") for name in order])

    def _runs(self, listed: Mapping[str, Sequence[Entry]], split: int | None) -> pa.Table:
        tables = [runs.table(filed.rows) for filed in self._filed(listed, _wanted(split, 0))]
        order = ("member", "corpus", "split")
        found = pa.concat_tables([runs.RUNS_SCHEMA.empty_table(), *tables])
        return found.sort_by([(name, "ascending") for name in order])

    def _read_ensemble(self, corpus: str, split: int, reference: str) -> tuple[dict[str, Any], str]:
        """An ensemble, and where it lies."""
        entry = self._ensemble(corpus, split, reference)
        path = self.files.where(entry.name)
        data = self.files.get(entry.name)
        return ensembles.decoded(data, ensembles.reference_of(entry), path), path

    def _ensemble(self, corpus: str, split: int, reference: str) -> Entry:
        """The file of that very ensemble, or of the newest of that name."""
        self._require()
        newest = ensembles.newest(self.files, corpus, split, reference)
        if newest is None:
            present = self.ensembles(corpus, split)
            raise MissingEnsemble(
                reference, corpus=corpus, split=split, store=self.address, present=present
            )
        return newest

    def _ensembles(self, text: str) -> pa.Table:
        # Each is a file to read: not for a query that does not name them.
        named = "ensembles" in text.lower()
        return ensembles.table(self.files, self.files.entries(ENSEMBLES_PATTERN) if named else ())


def _files_at(address: str) -> Files:
    if address.startswith("s3://"):
        # Its libraries take half a second to import, and a folder needs none of them.
        from logit_store.bucket import Bucket

        return Bucket(address)
    if "://" in address:
        raise UnsupportedAddress(address)
    # Absolute, for a worker of another current folder.
    return Folder(Path(address).expanduser().absolute())


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


def _wanted(split: int | None, view: int | None) -> Callable[[LogitKey], bool]:
    """Tells the keys of a split and a view; None is any."""
    return lambda key: split in (None, key.split) and view in (None, key.view)
