"""Parquet files of a store: equal tables give equal bytes, and damage gives a clear error."""

import io
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from logit_store.errors import DamagedFile
from logit_store.files import Files
from logit_store.seal import DIGEST_KEY, UNSEALED, check_seal, seal

_TAIL_BYTES = 8
"""The last bytes of a Parquet file: the length of its footer, and a mark."""


def encode_small(
    table: pa.Table, metadata: Mapping[str, str], *, seal_all: bool = False
) -> pa.Buffer:
    """Encode a table as a small Parquet file, with checksums of its pages and a digest of its footer.

    Args:
        table: its content.
        metadata: key-value pairs of the footer.
        seal_all: the digest in the footer stands for the whole file.
    """
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, table.schema, store_schema=False, write_page_checksum=True, compression="zstd"
    ) as writer:
        # A row group must have a row, even if the table has none.
        writer.write_table(table, row_group_size=max(1, table.num_rows))
        writer.add_key_value_metadata({**metadata, DIGEST_KEY: UNSEALED})
    data = memoryview(sink.getvalue())
    begin = 0 if seal_all else len(data) - _measure_footer(data[-_TAIL_BYTES:])
    return pa.py_buffer(seal(data, begin))


def write_groups(
    file: BinaryIO,
    schema: pa.Schema,
    groups: Iterable[pa.Table],
    describe: Callable[[], Mapping[str, str]],
    options: Mapping[str, Any],
) -> None:
    """Write tables as the row groups of a Parquet file, which is never in memory as a whole.

    It has checksums of its pages, and a digest of its footer in the footer.

    Args:
        file: to write to.
        schema: of the tables.
        groups: at least one; each is in memory only until the next is asked for.
        describe: returns the key-value pairs of the footer, after the last group.
        options: of the writer.
    """
    sink = _Sink(file)
    with pq.ParquetWriter(
        pa.PythonFile(sink, mode="w"), schema, write_page_checksum=True, **options
    ) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=max(1, group.num_rows))
        writer.add_key_value_metadata({**describe(), DIGEST_KEY: UNSEALED})
        sink.file = footer = io.BytesIO()
    file.write(seal(footer.getbuffer()))


class _Sink(io.RawIOBase):
    """A stream to a file that may change."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.file.write(data)
        return len(data)


def _measure_footer(tail: bytes | memoryview) -> int:
    """Return the length of a footer in bytes, with the tail, which says it."""
    return int.from_bytes(tail[:4], "little") + _TAIL_BYTES


def is_sealed(file: pq.ParquetFile) -> bool:
    """Tell whether a file has checksums of its pages, and a digest of its footer, which is right."""
    return DIGEST_KEY.encode() in (file.metadata.metadata or {})


def take_rows(table: pa.Table, rows: Sequence[int]) -> pa.Table:
    """Return some rows of a table.

    Unlike `pa.array`, this does not import pandas, which takes longer than all else that a listing
    does; `make_empty` neither.
    """
    values = pa.py_buffer(np.array(rows, np.int64))
    return table.take(pa.Array.from_buffers(pa.int64(), len(rows), [None, values]))


def make_empty(schema: pa.Schema) -> pa.Table:
    """Return a table without rows."""
    return pa.Table.from_batches([], schema)


@contextmanager
def open_parquet(
    files: Files, name: str, *, end_only: bool = False, dictionaries: Sequence[str] = ()
) -> Generator[tuple[pa.NativeFile, pq.ParquetFile]]:
    """Open a file of the store, as bytes and as Parquet.

    Args:
        files: of the store.
        name: of the file.
        end_only: only the footer will be read.
        dictionaries: columns to read as dictionaries, if their encoding allows it.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFile: it is not what was written, which may show only while it is read.
    """
    path, sealed = files.locate(name), False
    try:
        with (files.open_end if end_only else files.open)(name) as source:
            sealed = _check_footer(source, path)
            metadata = pq.read_metadata(source)
            with pq.ParquetFile(
                source,
                metadata=metadata,
                read_dictionary=_find_readable(metadata, dictionaries),
                page_checksum_verification=True,
            ) as file:
                if is_sealed(file) and not sealed:
                    raise DamagedFile(path, "its digest is none")
                yield source, file
    except (FileNotFoundError, PermissionError):
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        # An intact footer does not ask for more memory than the file needs.
        if sealed and isinstance(error, MemoryError):
            raise
        raise DamagedFile(path, str(error)) from error


def _find_readable(metadata: pq.FileMetaData, names: Sequence[str]) -> list[str]:
    """Return those of some columns that pyarrow reads as dictionaries, which it cannot from differences."""
    if not names:
        return []
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
    unreadable = {
        chunk.path_in_schema
        for chunk in chunks
        if any(encoding.startswith("DELTA") for encoding in chunk.encodings)
    }
    return [name for name in names if name not in unreadable]


def _check_footer(source: pa.NativeFile, path: str) -> bool:
    """Compare the footer with the digest in it, and tell whether it has one."""
    size = source.size()
    source.seek(max(0, size - _TAIL_BYTES))
    n_bytes = min(size, _measure_footer(source.read(_TAIL_BYTES)))
    source.seek(size - n_bytes)
    footer = source.read(n_bytes)
    source.seek(0)
    return check_seal(footer, path)
