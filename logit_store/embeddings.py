"""Embeddings of a store: what frozen backbones say of clips (N clips, n of them, R requested, D dimensions)."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from logit_store.clips_file import check_rows
from logit_store.embedding_shards import (
    Part,
    choose_parts,
    find_shards,
    read_dims,
    read_parts,
)
from logit_store.embeddings_file import (
    MAX_DIMS,
    EmbeddingsFile,
    EmbeddingsFooter,
    count_group_rows,
    encode_record,
    measure_largest,
    open_embeddings,
    regroup,
    widen_embeddings,
    write_embeddings,
)
from logit_store.errors import (
    MissingEmbeddings,
    UnstorableEmbeddings,
    WrongRowOrder,
)
from logit_store.files import Entry, Files, check_exists
from logit_store.footer import ClipsHeader
from logit_store.keys import EmbeddingKey
from logit_store.logits_file import MAX_LOGIT, Float16s, Float32s, widen
from logit_store.passed_over import keep_usable
from logit_store.paths import (
    embeddings_path,
    embeddings_pattern,
    parse_embedding_key,
    shard_path,
    shards_pattern,
)

EMBEDDINGS_SCHEMA = pa.schema(
    {
        "backbone": pa.string(),
        "corpus": pa.string(),
        "view": pa.int32(),
        "clips": pa.int64(),
        "dimensions": pa.int64(),
        "bytes": pa.int64(),
        "written": pa.timestamp("us", tz="UTC"),
    }
)
"""The columns of a listing of embeddings."""

OpenClips = Callable[..., AbstractContextManager[tuple[pq.ParquetFile, ClipsHeader]]]
"""From a corpus to its clips and what their file says of them; `end_only`: only that."""


class Embeddings:
    """The embeddings of a store: one file for each corpus, backbone and view.

    Workers that embed some clips each write shards, which are joined into that file when all clips are
    there. Files are written and read piece by piece: at most some tens of MB of one are in memory, but for
    what the caller asks for.
    """

    def __init__(self, files: Files, address: str, open_clips: OpenClips) -> None:
        self._files, self._address, self._open_clips = files, address, open_clips

    def write(
        self,
        key: EmbeddingKey,
        embeddings_ND: ArrayLike,
        record: Mapping[str, Any],
        *,
        row_order: str | None = None,
    ) -> None:
        """Store one backbone's embeddings of all clips of a corpus, as float16.

        Args:
            key: the key to store them under.
            embeddings_ND: floats; clips in the corpus's order.
            record: how they were made (backbone, hash of its weights, front-end, pooling...); anything
                that JSON can hold.
            row_order: `hash_row_order` of the caller's clips, in the caller's order; None: the clips were
                read from the store.

        Raises:
            MissingClips: the corpus's clips must be written first.
            WrongRowOrder: the caller has other clips, or in another order.
            UnstorableEmbeddings: a value is not finite or too large for float16.
            ValueError: wrong shape or type, or the record is no JSON.
        """
        header = self._check_order(key, row_order)
        self._write_rows(embeddings_path(key), key, range(header.n), embeddings_ND, record, header)

    def write_shard(
        self,
        key: EmbeddingKey,
        start: int,
        embeddings_nD: ArrayLike,
        record: Mapping[str, Any],
        *,
        row_order: str | None = None,
    ) -> None:
        """Store the embeddings of the clips from row `start` on, to be joined with others.

        Arguments and errors as in `write`.
        """
        header = self._check_order(key, row_order)
        rows = range(start, start + len(np.asarray(embeddings_nD)))
        if not (0 <= start < rows.stop <= header.n):
            raise ValueError(
                f"{key}: a shard of rows {start} to {rows.stop - 1}, expected some of 0 to {header.n - 1}"
            )
        self._write_rows(shard_path(key, rows), key, rows, embeddings_nD, record, header)

    def find_shards(self, key: EmbeddingKey) -> list[range]:
        """Return the rows of each shard of some embeddings, sorted.

        Shards of other clips and damaged ones are passed over, with a warning.

        Raises:
            MissingClips: the corpus was never written.
        """
        return find_shards(self._files, key, self._read_header(key.corpus))

    def join_shards(
        self, key: EmbeddingKey, record: Mapping[str, Any], *, row_order: str | None = None
    ) -> None:
        """Write the shards of some embeddings as one file, and delete them.

        Of rows that are in several shards, one is taken. Whoever is killed in between leaves the shards
        or the whole file; a second call is harmless.

        Args:
            key: of the embeddings.
            record: as in `write`; those of the shards are not read.
            row_order: as in `write`.

        Raises:
            MissingEmbeddings: rows are in no shard; names the first of them.
            UnreadableFile: a shard is damaged.
            MissingClips, WrongRowOrder, ValueError: as in `write`.
        """
        header = self._check_order(key, row_order)
        try:
            parts = self._choose_parts(key, header)
            n_dims = read_dims(self._files, key, parts)
            blocks = read_parts(self._files, key, parts, header)
            self._write_blocks(
                embeddings_path(key), blocks, range(header.n), n_dims, record, header
            )
        except (MissingEmbeddings, FileNotFoundError):
            # Another process has joined the same shards meanwhile: the whole file came first.
            if key not in self:
                raise
        self.delete_shards(key)

    def delete_shards(self, key: EmbeddingKey) -> None:
        """Delete all shards of some embeddings."""
        for entry in self._files.find(shards_pattern(key)):
            self._files.delete(entry.name)

    def __contains__(self, key: EmbeddingKey) -> bool:
        return self._files.has(embeddings_path(key))

    def read(self, key: EmbeddingKey, rows: ArrayLike | None = None) -> Float32s:
        """Return embeddings [N, D], or [R, D] of some rows in their order.

        Args:
            key: of the embeddings.
            rows: which clips, in which order; None: all.

        Raises:
            MissingEmbeddings: there are no such embeddings.
            UnreadableFile: the file has another version or row order, or is damaged.
            ValueError: wrong rows.
        """
        with self._open(key) as file:
            n = len(file.rows)
            rows_R = np.arange(n) if rows is None else check_rows(rows, n)
            embeddings_RD = np.empty((len(rows_R), file.footer.n_dims), np.float32)
            for number, group in enumerate(file.list_groups()):
                if rows is None:
                    widen(embeddings_RD[group.start : group.stop], file.read_group(number))
                    continue
                (places,) = np.nonzero((rows_R >= group.start) & (rows_R < group.stop))
                if len(places):
                    chosen = file.read_group(number)[rows_R[places] - group.start]
                    embeddings_RD[places] = widen_embeddings(chosen)
        return embeddings_RD

    def iterate(self, key: EmbeddingKey, n_at_a_time: int) -> Iterator[Float32s]:
        """Return embeddings [n, D] of the corpus's clips in their order, some at a time.

        Args:
            key: of the embeddings.
            n_at_a_time: n; the last block may have fewer.

        Raises:
            MissingEmbeddings: there are no such embeddings.
            UnreadableFile: the file has another version or row order, or is damaged.
        """
        if n_at_a_time < 1:
            raise ValueError(f"{n_at_a_time} clips at a time, expected at least 1")
        with self._open(key) as file:
            yield from map(widen_embeddings, regroup(file.read_groups(), n_at_a_time))

    def read_footer(self, key: EmbeddingKey) -> EmbeddingsFooter:
        """Return the footer of some embeddings.

        Raises:
            MissingEmbeddings: there are no such embeddings.
            UnreadableFile: the file has another version or row order, or is damaged.
        """
        with self._open(key, end_only=True) as file:
            return file.footer

    def read_shard_footer(self, key: EmbeddingKey, rows: range) -> EmbeddingsFooter:
        """Return the footer of a shard, which is one of `find_shards`.

        Raises:
            FileNotFoundError: it has been joined meanwhile.
            UnreadableFile: it is damaged.
        """
        with open_embeddings(self._files, shard_path(key, rows), end_only=True) as file:
            return file.footer

    def keys(
        self, corpus: str | None = None, backbone: str | None = None, view: int | None = 0
    ) -> list[EmbeddingKey]:
        """Return the keys of the embeddings in the store, sorted by backbone.

        Args:
            corpus: only those of this corpus; None: of any.
            backbone: only those of this backbone; None: of any.
            view: only those of this view; None: of any.
        """
        check_exists(self._files, self._address)
        keys = list[EmbeddingKey]()

        def add(entry: Entry) -> None:
            keys.append(parse_embedding_key(entry.name, self._files.locate(entry.name)))

        keep_usable(self._files.find(embeddings_pattern(corpus, backbone, view)), add)
        return sorted(keys, key=lambda key: (key.backbone, key.corpus, key.view))

    def list_files(self) -> list[Entry]:
        """List the files of all embeddings, sorted by name; their content is not checked."""
        check_exists(self._files, self._address)
        return self._files.find(embeddings_pattern())

    def check_file(self, entry: Entry) -> None:
        """Make sure that a file is what was written, and belongs to the clips of its corpus.

        Of a file that is not on this machine, only the footer is read.

        Raises:
            UnreadableFile: it is something else.
            MissingClips: the corpus was never written.
            FileNotFoundError: it was deleted since it was listed.
        """
        with self._open_entry(entry, end_only=not self._files.is_near) as (_, file):
            if self._files.is_near:
                file.check_pages()

    def tabulate(self, corpus: str | None = None) -> pa.Table:
        """Return a row for each backbone, corpus and view (EMBEDDINGS_SCHEMA).

        Files that cannot be used are passed over, with a warning.

        Args:
            corpus: only those of this corpus; None: of any.
        """
        check_exists(self._files, self._address)
        rows = list[dict[str, Any]]()

        def add(entry: Entry) -> None:
            with self._open_entry(entry, end_only=True) as (key, file):
                size = {"clips": len(file.rows), "dimensions": file.footer.n_dims}
                rows.append({**asdict(key), **size, "bytes": entry.size, "written": entry.written})

        keep_usable(self._files.find(embeddings_pattern(corpus)), add)
        rows.sort(key=lambda row: (row["backbone"], row["corpus"], row["view"]))
        return pa.Table.from_pylist(rows, schema=EMBEDDINGS_SCHEMA)

    @contextmanager
    def _open_entry(
        self, entry: Entry, *, end_only: bool
    ) -> Generator[tuple[EmbeddingKey, EmbeddingsFile]]:
        key = parse_embedding_key(entry.name, self._files.locate(entry.name))
        header = self._read_header(key.corpus)
        with open_embeddings(self._files, entry.name, end_only=end_only) as file:
            file.check_belongs(header, range(header.n))
            yield key, file

    def _read_header(self, corpus: str) -> ClipsHeader:
        with self._open_clips(corpus, end_only=True) as (_, header):
            return header

    def _check_order(self, key: EmbeddingKey, row_order: str | None) -> ClipsHeader:
        header = self._read_header(key.corpus)
        if row_order is not None and row_order != header.row_order_hash:
            raise WrongRowOrder(
                key, given=row_order, expected=header.row_order_hash, what="embeddings"
            )
        return header

    @contextmanager
    def _open(self, key: EmbeddingKey, *, end_only: bool = False) -> Generator[EmbeddingsFile]:
        header, name = self._read_header(key.corpus), embeddings_path(key)
        if not self._files.has(name):
            raise MissingEmbeddings(key, store=self._address)
        with open_embeddings(self._files, name, end_only=end_only) as file:
            file.check_belongs(header, range(header.n))
            yield file

    def _write_rows(
        self,
        name: str,
        key: EmbeddingKey,
        rows: range,
        embeddings_nD: ArrayLike,
        record: Mapping[str, Any],
        header: ClipsHeader,
    ) -> None:
        given = np.asarray(embeddings_nD)
        if (
            given.ndim != 2
            or len(given) != len(rows)
            or not 0 < given.shape[1] <= MAX_DIMS
            or not np.issubdtype(given.dtype, np.floating)
        ):
            raise ValueError(
                f"{key}: embeddings of shape {given.shape} and type {given.dtype}, expected floats of "
                f"shape ({len(rows)}, D): clips of corpus {key.corpus}, dimensions"
            )
        blocks = self._convert(key, given, rows)
        self._write_blocks(name, blocks, rows, given.shape[1], record, header)

    def _convert(
        self, key: EmbeddingKey, given_nD: NDArray[np.floating], rows: range
    ) -> Iterator[Float16s]:
        """Yield embeddings as float16, some at a time, after checking that it holds them."""
        n_block = count_group_rows(given_nD.shape[1])
        for begin in range(0, len(given_nD), n_block):
            block_nD = given_nD[begin : begin + n_block]
            # NaN fails this comparison too.
            if not measure_largest(block_nD) <= MAX_LOGIT:
                place, d = map(int, np.argwhere(~(np.abs(block_nD) <= MAX_LOGIT))[0])
                raise UnstorableEmbeddings(
                    key,
                    clip_id=self._read_clip_id(key.corpus, rows[begin + place]),
                    place=d,
                    value=float(block_nD[place, d]),
                )
            yield block_nD.astype(np.float16, copy=False)

    def _read_clip_id(self, corpus: str, row: int) -> str:
        with self._open_clips(corpus) as (file, _):
            return file.read(columns=["clip_id"])["clip_id"][row].as_py()

    def _write_blocks(
        self,
        name: str,
        blocks: Iterable[Float16s],
        rows: range,
        n_dims: int,
        record: Mapping[str, Any],
        header: ClipsHeader,
    ) -> None:
        try:
            encode_record(record)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: the record is no JSON: {error}") from error
        with self._files.create(name, 2 * n_dims * len(rows)) as file:
            write_embeddings(file, blocks, rows, n_dims, header.row_order_hash, record)

    def _choose_parts(self, key: EmbeddingKey, header: ClipsHeader) -> list[Part]:
        shards = find_shards(self._files, key, header)
        parts, missing = choose_parts(shards, header.n)
        if missing:
            raise MissingEmbeddings(key, store=self._address, rows=missing)
        return parts
