"""The file of a corpus's clips (N clips)."""

import hashlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from logit_store import parquet
from logit_store.clips_table import CLIPS_SCHEMA
from logit_store.errors import DamagedFile, UnknownClips
from logit_store.files import Files
from logit_store.footer import ClipsHeader
from logit_store.paths import clips_path, embeddings_pattern, logits_pattern

_RIGHT: set[bytes] = set()
"""Digests of files without checksums whose content has its hash: computing that takes half a second."""


@contextmanager
def open_clips(
    files: Files, corpus: str, *, end_only: bool = False, dictionaries: Sequence[str] = ()
) -> Generator[tuple[pq.ParquetFile, ClipsHeader]]:
    """Open a corpus's clips and read their header; arguments as in `parquet.open_parquet`.

    The content of a file without checksums is compared with its hash, once per process.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableFile: it has another version, or is damaged.
    """
    name = clips_path(corpus)
    with parquet.open_parquet(files, name, end_only=end_only, dictionaries=dictionaries) as (
        source,
        file,
    ):
        path, metadata = files.locate(name), file.metadata
        header = ClipsHeader.from_metadata(metadata.metadata, metadata.num_rows, path)
        if file.schema_arrow.names != CLIPS_SCHEMA.names:
            raise DamagedFile(path, f"columns {file.schema_arrow.names}")
        if not end_only and not parquet.is_sealed(file):
            _check_content(source, header, path)
        yield file, header


def _check_content(source: pa.NativeFile, header: ClipsHeader, path: str) -> None:
    source.seek(0)
    data = source.read_buffer()
    digest = hashlib.blake2b(data).digest()
    if digest in _RIGHT:
        return
    clips = pq.read_table(pa.BufferReader(data)).cast(CLIPS_SCHEMA)
    found = ClipsHeader.of(clips).content_hash
    if found != header.content_hash:
        raise DamagedFile(
            path, f"content hash {found}, expected {header.content_hash} as in its footer"
        )
    _RIGHT.add(digest)


def find_rows(clip_ids: Sequence[str], clips: pa.Table, corpus: str) -> NDArray[np.int32]:
    """Return the rows of some clips, in the order of their ids.

    Raises:
        UnknownClips: the corpus does not have all of them.
    """
    wanted = pa.array(clip_ids, pa.string())
    rows = pc.index_in(wanted, value_set=clips["clip_id"])
    unknown = wanted.filter(rows.is_null())
    if len(unknown):
        raise UnknownClips(corpus, n=len(unknown), first=unknown[0].as_py())
    return rows.to_numpy()


def has_results(files: Files, corpus: str, stored: ClipsHeader, given: ClipsHeader) -> bool:
    """Tell whether results in the store belong to the stored clips, and not to the given ones.

    Logits have scores by labels and folds; embeddings belong to any clips of the same names and order.
    """
    if files.find(logits_pattern(corpus)):
        return True
    same_order = stored.row_order_hash == given.row_order_hash
    return not same_order and bool(files.find(embeddings_pattern(corpus)))


def hold_same_clips(first: pa.Table, second: pa.Table) -> bool:
    """Tell whether two tables hold the same clips, in any order."""
    return _sort_by_clip_id(first).equals(_sort_by_clip_id(second))


def _sort_by_clip_id(clips: pa.Table) -> pa.Table:
    return clips.drop_columns(["row"]).sort_by("clip_id").combine_chunks()


def check_rows(rows: ArrayLike, n: int) -> NDArray[np.integer]:
    """Return rows as an array, after checking that n clips have them.

    Raises:
        ValueError: they are no list of integers, or out of range.
    """
    rows_R = np.asarray(rows)
    if rows_R.ndim != 1 or not np.issubdtype(rows_R.dtype, np.integer):
        raise ValueError(
            f"rows of shape {rows_R.shape} and type {rows_R.dtype}, expected a list of integers"
        )
    if len(rows_R) and (rows_R.min() < 0 or rows_R.max() >= n):
        raise ValueError(f"rows within {rows_R.min()}...{rows_R.max()}, expected 0...{n - 1}")
    return rows_R
