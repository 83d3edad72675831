"""LogitStore: writing, reading and listing (N clips, M members, K classes, R requested rows)."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from logit_store import clips_file, logits_file, parquet, pools
from logit_store.address import open_files
from logit_store.catalogue import CataloguedLogits
from logit_store.clips_file import check_rows
from logit_store.clips_table import CLIPS_SCHEMA, check_clips
from logit_store.embeddings import Embeddings
from logit_store.ensembles import Ensembles
from logit_store.errors import (
    ClipsMismatch,
    MissingClips,
    MissingLogits,
    WrongRowOrder,
)
from logit_store.files import Entry, Files, check_exists
from logit_store.fold_scores import Score, keep_last, name_scored_columns, prepare_scoring
from logit_store.footer import ClipsHeader, Footer
from logit_store.keys import LogitKey, find_corpus, sort_keys
from logit_store.listing import Found, LogitsListing, look_up_keys, make_filter
from logit_store.logits_pages import encode_logits
from logit_store.objects import Objects
from logit_store.passed_over import keep_usable
from logit_store.paths import (
    CLIPS_PATTERN,
    clips_path,
    logits_path,
    logits_pattern,
    parse_clips,
    parse_key,
)


class LogitStore:
    """Logits of members, clips of corpora, ensembles and weights in one place.

    Every result is one file, written whole or not at all; writing it again replaces it. Any number
    of processes may read and write at the same time. The address is a folder, which the first write
    creates, or `s3://BUCKET/PREFIX`.
    """

    def __init__(self, address: str | os.PathLike[str]) -> None:
        """Name a store; nothing is read or written.

        Raises:
            UnsupportedAddress: the address is neither a folder nor a bucket.
        """
        self.address = os.fspath(address)
        self.files: Files = open_files(self.address)
        """All files by name, for the maintenance of the store; use the methods for all else."""

    def __repr__(self) -> str:
        return f"LogitStore({self.address!r})"

    @property
    def ensembles(self) -> Ensembles:
        """The ensembles of the store."""
        return Ensembles(self.files, self.address, self.read_hashes)

    @property
    def embeddings(self) -> Embeddings:
        """The embeddings of frozen backbones."""
        return Embeddings(self.files, self.address, self._open_clips)

    @property
    def objects(self) -> Objects:
        """Weights, checkpoints, records and logs."""
        return Objects(self.files, self.address)

    def write_clips(self, corpus: str, table: pa.Table) -> None:
        """Store the table of a corpus's clips, unless it is stored already.

        Args:
            corpus: its name.
            table: columns of CLIPS_SCHEMA; rows in the corpus's order, `row` counts them from 0.

        Raises:
            ClipsMismatch: the store holds other clips, or the same in another order, and logits
                or embeddings that belong to them.
            ValueError: the table does not hold clips.
        """
        clips = check_clips(corpus, table)
        header = ClipsHeader.of(clips)
        name = clips_path(corpus)
        if self.files.has(name):
            stored = self._read_header(corpus)
            if stored.content_hash == header.content_hash:
                return
            if clips_file.has_results(self.files, corpus, stored, header):
                reordered = clips_file.hold_same_clips(self.read_clips(corpus), clips)
                raise ClipsMismatch(
                    corpus,
                    stored=stored.content_hash,
                    given=header.content_hash,
                    store=self.address,
                    reordered=header.n if reordered else None,
                )
        self.files.put(name, parquet.encode_small(clips, header.to_metadata()))

    def read_clips(self, corpus: str) -> pa.Table:
        """Return the table of a corpus's clips, in the corpus's order (CLIPS_SCHEMA).

        Raises:
            MissingClips: they were never written.
        """
        return self.read_clips_and_header(corpus)[1]

    def read_clips_and_header(self, corpus: str) -> tuple[ClipsHeader, pa.Table]:
        """Return the table of a corpus's clips, and what their file says of them.

        Raises:
            MissingClips: they were never written.
        """
        with self._open_clips(corpus) as (file, header):
            return header, file.read().cast(CLIPS_SCHEMA)

    def corpora(self) -> list[str]:
        """Return the names of the corpora in the store, sorted."""
        check_exists(self.files, self.address)
        corpora: list[str] = []

        def add(entry: Entry) -> None:
            corpora.append(parse_clips(entry.name, self.files.locate(entry.name)))

        keep_usable(self.files.find(CLIPS_PATTERN), add)
        return corpora

    def write(
        self,
        key: LogitKey,
        logits_NK: ArrayLike,
        record: Mapping[str, Any],
        *,
        row_order: str | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        """Store one member's logits for all clips of a corpus, as float16.

        Args:
            key: the key to store them under.
            logits_NK: floats; clips in the corpus's order, classes in the order of the sorted
                scenes.
            record: how they were made; anything that JSON can hold. `members` shows `kind`,
                `recipe` (a name, or a mapping with a `name`), `family`, `protocol` and `seed`.
            row_order: `hash_row_order` of the caller's clips, in the caller's order; None: the
                clips were read from the store.
            classes: those that the member learnt, sorted, for a corpus whose clips have no labels.

        Raises:
            MissingClips: the corpus's clips must be written first.
            WrongRowOrder: the caller has other clips, or in another order.
            UnstorableLogits: a value is not finite or too large for float16.
            ValueError: wrong shape, type or classes, or the record is no JSON.
        """
        name = clips_path(key.corpus)
        version = [(each.name, each.version) for each in self.files.find(name)]
        header, score = keep_last(
            (self.address, key.split, *version, *(classes or ())),
            lambda: self._prepare_scoring(key, classes),
        )
        if row_order is not None and row_order != header.row_order_hash:
            raise WrongRowOrder(key, given=row_order, expected=header.row_order_hash)
        stored = logits_file.convert_to_float16(
            key, logits_NK, header, lambda row: self.read_clips(key.corpus)["clip_id"][row].as_py()
        )
        scores = score(stored.logits_KN)
        self.files.put(logits_path(key), *encode_logits(key, header, stored, scores, record))

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
        """Return logits [M, N, K]: members in the order of keys, clips in the corpus's order.

        In memory, clips are adjacent, not classes: selection and soft labels sum over classes, and
        sums over ten adjacent numbers are several times slower.

        Args:
            keys: of one corpus, at least one.
            rows: which clips, in which order; None: all.
            clip_ids: the same by name, for callers with another order than the store.
            dtype: float32, or float16 as in the files: half the memory and twice as fast.

        Raises:
            MissingLogits: names all that are absent.
            UnknownClips: the corpus does not have all of these clips.
            UnreadableFile: a file has another version, row order or class order, or is damaged.
            ValueError: no key, keys of several corpora, or of members of a pool with several classes;
                wrong rows, or both rows and clip_ids.
        """
        corpus = find_corpus(keys)
        header = self._read_header(corpus)
        self.files.prefetch([logits_path(key) for key in keys])
        self._check_present(keys)
        rows_R = self._find_rows(corpus, header.n, rows, clip_ids)
        n_rows = header.n if rows_R is None else len(rows_R)
        n_classes = len(header.classes or pools.find_classes(self.files, keys))
        logits_MKN = np.empty((len(keys), n_classes, n_rows), dtype)
        put = logits_file.widen if dtype is np.float32 else np.copyto
        for key, logits_KN in zip(keys, logits_MKN, strict=True):
            with logits_file.open_logits(self.files, logits_path(key)) as file:
                file.check_belongs(header)
                for logits_N, stored_N in zip(logits_KN, file.read_columns(), strict=True):
                    put(logits_N, stored_N if rows_R is None else stored_N[rows_R])
        return logits_MKN.transpose(0, 2, 1)

    def read_footer(self, key: LogitKey) -> Footer:
        """Return the footer of some logits.

        Raises:
            MissingLogits: there are no such logits.
            UnreadableFile: the file has another version, row order or class order, or is damaged.
        """
        header = self._read_header(key.corpus)
        self._check_present([key])
        with logits_file.open_logits(self.files, logits_path(key), end_only=True) as file:
            file.check_belongs(header)
            return file.footer

    def read_footers(self, keys: Sequence[LogitKey]) -> dict[LogitKey, Footer]:
        """Return the footers of many logits, in the order of keys.

        They come from the catalogue, so that not every file is opened.

        Raises:
            MissingLogits: names all that are absent.
            UnreadableFile: a file has another version, row order or class order, or is damaged.
        """
        return self._look_up(keys, CataloguedLogits.to_footers)

    def read_hashes(self, keys: Sequence[LogitKey]) -> dict[LogitKey, str]:
        """Return the `logits_hash` of many footers as `read_footers` does; no record is decoded."""
        return self._look_up(keys, CataloguedLogits.to_hashes)

    def list_footers(self, corpus: str) -> dict[LogitKey, Footer]:
        """Return the footers of a corpus's logits of view 0, sorted by member.

        Files that cannot be used are passed over, with a warning.
        """
        check_exists(self.files, self.address)
        found = dict[LogitKey, Footer]()
        for logits in self._list_logits(corpus).look_up(make_filter(0)):
            found |= logits.to_footers()
        return {key: found[key] for key in sort_keys(found)}

    def read_record(self, key: LogitKey) -> dict[str, Any]:
        """Return the record of how some logits were made.

        Raises:
            MissingLogits: there are no such logits.
            UnreadableFile: the file has another version, row order or class order, or is damaged.
        """
        return self.read_footer(key).record

    def keys(
        self,
        corpus: str | None = None,
        split: int | None = None,
        view: int | None = 0,
        kind: str | None = None,
        member: str | None = None,
    ) -> list[LogitKey]:
        """Return the keys of the logits in the store, sorted by member.

        Args:
            corpus: only logits of this corpus; None: of any.
            split: only logits of this split; None: of any.
            view: only logits of this view; None: of any.
            kind: only logits whose record has this kind ("teacher", "student"...); None: any.
            member: only logits of this member; None: of any.
        """
        check_exists(self.files, self.address)
        if kind is None:
            keys = list[LogitKey]()

            def add(entry: Entry) -> None:
                keys.append(parse_key(entry.name, self.files.locate(entry.name)))

            keep_usable(self.files.find(logits_pattern(corpus, split, member, view)), add)
        else:
            keys = [
                key
                for logits in self._list_logits(corpus, split).look_up(make_filter(view))
                for key, found in zip(logits.keys, logits.rows["kind"].to_pylist(), strict=True)
                if found == kind and member in (None, key.member)
            ]
        return sort_keys(keys)

    def members(self, corpus: str | None = None, split: int | None = None) -> pa.Table:
        """Return a row for each member, split and view, with its scores (MEMBERS_SCHEMA).

        Log loss in nats, accuracy 0...1; null where a fold has no clip. Files that cannot be used are
        passed over, with a warning.
        """
        check_exists(self.files, self.address)
        return self._list_logits(corpus, split).tabulate_members()

    def runs(self, corpus: str | None = None, split: int | None = None) -> pa.Table:
        """Return a row for each member: how it was made, and its scores (RUNS_SCHEMA of `runs`).

        Log loss in nats and accuracy 0...1 on `select`, duration in hours; null where the member's
        record does not say. Files that cannot be used are passed over, with a warning.
        """
        check_exists(self.files, self.address)
        return self._list_logits(corpus, split).tabulate_runs()

    def sql(self, text: str) -> pa.Table:
        """Query the views in docs/store.md with DuckDB: `members`, `runs`, `predictions`...

        Raises:
            QueryFailed: it is not one SELECT statement that only reads, or DuckDB refuses it.
        """
        from logit_store import query  # imports DuckDB, which only SQL needs

        check_exists(self.files, self.address)
        source = query.Source(
            self.files,
            self._list_logits(None),
            self.corpora(),
            self._open_clips,
            self.ensembles,
            self.embeddings,
        )
        return query.run_query(text, source)

    def _list_logits(self, corpus: str | None, split: int | None = None) -> LogitsListing:
        return LogitsListing.of(self.files, corpus, self._read_header, split)

    def _look_up(
        self,
        keys: Sequence[LogitKey],
        get: Callable[[CataloguedLogits], Mapping[LogitKey, Found]],
    ) -> dict[LogitKey, Found]:
        check_exists(self.files, self.address)
        found = look_up_keys(self.files, keys, self._read_header, get)
        absent = [key for key in keys if key not in found]
        if absent:
            raise MissingLogits(absent, store=self.address)
        return found

    def _check_present(self, keys: Sequence[LogitKey]) -> None:
        absent = [key for key in keys if key not in self]
        if absent:
            raise MissingLogits(absent, store=self.address)

    @contextmanager
    def _open_clips(
        self, corpus: str, *, end_only: bool = False, dictionaries: Sequence[str] = ()
    ) -> Iterator[tuple[pq.ParquetFile, ClipsHeader]]:
        check_exists(self.files, self.address)
        if not self.files.has(clips_path(corpus)):
            raise MissingClips(corpus, store=self.address, present=self.corpora())
        with clips_file.open_clips(
            self.files, corpus, end_only=end_only, dictionaries=dictionaries
        ) as opened:
            yield opened

    def _prepare_scoring(
        self, key: LogitKey, classes: Sequence[str] | None
    ) -> tuple[ClipsHeader, Score]:
        wanted = name_scored_columns(key.split)
        with self._open_clips(key.corpus, dictionaries=wanted) as (file, header):
            header = pools.choose_classes(key, header, classes)
            clips = file.read(columns=wanted, use_threads=False)
        return header, prepare_scoring(clips, header.classes, key.split)

    def _read_header(self, corpus: str) -> ClipsHeader:
        with self._open_clips(corpus, end_only=True) as (_, header):
            return header

    def _find_rows(
        self, corpus: str, n: int, rows: ArrayLike | None, clip_ids: Sequence[str] | None
    ) -> NDArray[np.integer] | None:
        if clip_ids is None:
            return None if rows is None else check_rows(rows, n)
        if rows is not None:
            raise ValueError("rows and clip_ids were given, expected one of them")
        with self._open_clips(corpus) as (file, _):
            return clips_file.find_rows(clip_ids, file.read(columns=["clip_id"]), corpus)
