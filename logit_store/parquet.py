"""Parquet files of a store: written so that equal tables give equal bytes, opened with words."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from logit_store.errors import DamagedFile
from logit_store.files import Files


def small(table: pa.Table, metadata: Mapping[str, str]) -> pa.Buffer:
    """A table as a Parquet file that is small.

    Args:
        table: what goes in.
        metadata: key-value pairs of the footer.
    """
    return _file(table, metadata, {"compression": "zstd"})


def plain(table: pa.Table, metadata: Mapping[str, str]) -> pa.Buffer:
    """A table as a Parquet file whose columns, but for the first, can be taken as they lie.

    One row group and one page a column, neither encoded nor compressed. Plain row numbers, which
    are the first column, would be a sixth of a file of ten classes; their differences are nothing.

    Args:
        table: row numbers, then columns of numbers.
        metadata: key-value pairs of the footer.
    """
    row, *others = table.column_names
    n = table.num_rows
    options = {
        "compression": "none",
        "use_dictionary": False,
        "column_encoding": {row: "DELTA_BINARY_PACKED", **dict.fromkeys(others, "PLAIN")},
        "write_statistics": False,
        "data_page_size": 2**30,
        "max_rows_per_page": n,
        "write_batch_size": n,
    }
    return _file(table, metadata, options)


def _file(table: pa.Table, metadata: Mapping[str, str], options: dict[str, Any]) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, store_schema=False, **options) as writer:
        # A table without rows has no row group.
        writer.write_table(table, row_group_size=max(1, table.num_rows))
        writer.add_key_value_metadata(dict(metadata))
    return sink.getvalue()


@contextmanager
def opened(
    files: Files, name: str, *, end_only: bool = False, dictionaries: Sequence[str] = ()
) -> Generator[tuple[pa.NativeFile, pq.ParquetFile]]:
    """A file of the store: its bytes, and what Parquet makes of them.

    Args:
        files: of the store.
        name: of the file.
        end_only: who opens it wants the footer and nothing else.
        dictionaries: columns to be read as numbers of their distinct values.

    Raises:
        FileNotFoundError: not there.
        DamagedFile: no Parquet file, also when that shows while it is read.
    """
    try:
        with (
            (files.open_end if end_only else files.open)(name) as source,
            pq.ParquetFile(source, read_dictionary=list(dictionaries)) as file,
        ):
            yield source, file
    except (FileNotFoundError, PermissionError):
        raise
    except (pa.ArrowException, OSError) as error:
        raise DamagedFile(files.where(name), str(error)) from error
