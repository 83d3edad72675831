"""The file of one backbone's embeddings (N clips, n of them, D dimensions).

It has one row group for each 8 MiB or so, so that neither a writer nor a reader has all of it in
memory. A shard of it has the same form, and the numbers of its own rows.
"""

import hashlib
import json
import math
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from logit_store import parquet
from logit_store.errors import DamagedFile, RowOrderMismatch
from logit_store.files import Files
from logit_store.footer import FORMAT_VERSION, ClipsHeader, decode_metadata, name_damage
from logit_store.json_objects import check_type
from logit_store.logits_file import Float16s, Float32s, make_page_header, widen

_GROUP_BYTES = 2**23
"""Values in a row group: so much is in memory at a time."""
_LARGEST_PAGE_HEADER_BYTES = 128
MAX_DIMS = 2**20
"""More values would be a waveform, and a page of one row too large."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingsFooter:
    """What a file of embeddings says about itself."""

    row_order_hash: str
    n_dims: int
    first_row: int
    """0, but in a shard."""
    largest_value: float
    """Largest absolute value in the file."""
    embeddings_hash: str
    """16 hex digits that stand for the embeddings: equal for equal values."""
    record: dict[str, Any]
    """How they were made: backbone, hash of its weights, front-end, pooling, versions, duration..."""

    def to_metadata(self) -> dict[str, str]:
        """Return the footer as key-value pairs of a Parquet file."""
        return {
            "tutti.format_version": FORMAT_VERSION,
            "tutti.row_order_hash": self.row_order_hash,
            "tutti.n_dims": str(self.n_dims),
            "tutti.first_row": str(self.first_row),
            "tutti.largest_value": repr(self.largest_value),
            "tutti.embeddings_hash": self.embeddings_hash,
            "tutti.record": encode_record(self.record),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None, path: str) -> Self:
        """Decode the key-value pairs of the file at `path`.

        Raises:
            UnsupportedVersion: the file has another format version.
            DamagedFile: `to_metadata` did not make these pairs.
        """
        pairs = decode_metadata(metadata, path)
        with name_damage(path):
            footer = cls(
                row_order_hash=pairs["tutti.row_order_hash"],
                n_dims=int(pairs["tutti.n_dims"]),
                first_row=int(pairs["tutti.first_row"]),
                largest_value=float(pairs["tutti.largest_value"]),
                embeddings_hash=pairs["tutti.embeddings_hash"],
                record=check_type(json.loads(pairs["tutti.record"]), dict),
            )
            if not 0 < footer.n_dims <= MAX_DIMS or footer.first_row < 0:
                raise ValueError(f"{footer.n_dims} dimensions from row {footer.first_row} on")
            if not math.isfinite(footer.largest_value):
                raise ValueError(f"largest value {footer.largest_value}, expected a finite number")
        return footer


def encode_record(record: Mapping[str, Any]) -> str:
    """Return the text of a record.

    Raises:
        TypeError, ValueError: it is no JSON.
    """
    return json.dumps(record, sort_keys=True, allow_nan=False)


@dataclass(frozen=True, slots=True)
class EmbeddingsFile:
    """An open file of embeddings, or a shard of one."""

    path: str
    source: pa.NativeFile
    parquet: pq.ParquetFile
    footer: EmbeddingsFooter

    @property
    def rows(self) -> range:
        """The rows of the corpus that the file holds."""
        first = self.footer.first_row
        return range(first, first + self.parquet.metadata.num_rows)

    def check_belongs(self, header: ClipsHeader, rows: range) -> None:
        """Make sure that the embeddings are those of these rows of a corpus.

        Raises:
            UnreadableFile: row order or rows differ.
        """
        found, expected = self.footer.row_order_hash, header.row_order_hash
        if found != expected:
            raise RowOrderMismatch(self.path, found=found, expected=expected, what="embeddings")
        if self.rows != rows:
            raise DamagedFile(
                self.path,
                f"{len(self.rows)} rows from {self.rows.start}, expected {len(rows)} from {rows.start}",
            )

    def read_groups(self) -> Iterator[Float16s]:
        """Return the embeddings [n, D] of each row group, as views of the file.

        Raises:
            DamagedFile: a row group is not one plain page, or its page has changed.
        """
        return (self.read_group(number) for number in range(len(self.list_groups())))

    def list_groups(self) -> list[range]:
        """Return the rows of the corpus that each row group holds."""
        groups, begin = [], self.footer.first_row
        for number in range(self.parquet.metadata.num_row_groups):
            end = begin + self.parquet.metadata.row_group(number).num_rows
            groups.append(range(begin, end))
            begin = end
        return groups

    def read_group(self, number: int) -> Float16s:
        """Return the embeddings [n, D] of a row group, as a view of the file.

        Raises:
            DamagedFile: it is not one plain page, or the page has changed.
        """
        group = self.parquet.metadata.row_group(number)
        n, n_dims = group.num_rows, self.footer.n_dims
        column = self._find_column(group)
        self.source.seek(column.data_page_offset)
        # In one call, because each asks the system to prepare the mapped pages.
        chunk = self.source.read_buffer(column.total_compressed_size)
        page = self._check_page(chunk, n * n_dims)
        values = page[len(page) - 2 * n * n_dims :]
        return np.frombuffer(values, np.float16).reshape(n, n_dims)

    def check_pages(self) -> None:
        """Compare all pages with their checksums, and the numbers of the rows with those expected.

        Raises:
            DamagedFile: one differs, or not all embeddings have as many values.
        """
        n_dims = self.footer.n_dims
        for number, rows in enumerate(self.list_groups()):
            self.read_group(number)
            table = self.parquet.read_row_group(number, use_threads=False)
            if not np.array_equal(table["row"].to_numpy(), rows):
                raise DamagedFile(self.path, f"rows are not {rows.start} to {rows.stop - 1}")
            lengths = pc.unique(pc.list_value_length(table["embedding"]))
            if lengths.to_pylist() not in ([], [n_dims]):
                raise DamagedFile(self.path, f"embeddings of {lengths} values, expected {n_dims}")

    def _find_column(self, group: pq.RowGroupMetaData) -> pq.ColumnChunkMetaData:
        schema, n_dims = self.parquet.schema, self.footer.n_dims
        forms = [
            (each.path.partition(".")[0], each.max_definition_level, each.max_repetition_level)
            for each in (schema.column(i) for i in range(len(schema)))
        ]
        is_wanted = forms == [("row", 0, 0), ("embedding", 1, 1)]
        if not is_wanted or str(schema.column(1).logical_type) != "Float16":
            raise DamagedFile(
                self.path,
                f"columns {schema.names}, expected row and embedding: a required list of required "
                "float16",
            )
        column = group.column(1)
        n_values = group.num_rows * n_dims
        if (
            column.compression != "UNCOMPRESSED"
            or column.has_dictionary_page
            or column.num_values != n_values
            or column.total_compressed_size < 2 * n_values
        ):
            raise DamagedFile(
                self.path,
                f"a column of {column.compression}, {column.num_values} values and "
                f"{column.total_compressed_size} bytes, expected one plain page of {n_values} float16",
            )
        return column

    def _check_page(self, chunk: pa.Buffer, n_values: int) -> pa.Buffer:
        """Return the page of a column: levels and then values; its header holds the checksum."""
        n_bytes = _read_page_size(chunk[:_LARGEST_PAGE_HEADER_BYTES].to_pybytes())
        n_header = len(chunk) - n_bytes
        if not (0 < n_header <= _LARGEST_PAGE_HEADER_BYTES and n_bytes >= 2 * n_values):
            raise DamagedFile(
                self.path, f"a page of {n_bytes} bytes in {len(chunk)}, expected one plain page"
            )
        header, page = chunk[:n_header], chunk[n_header:]
        if parquet.is_sealed(self.parquet) and header.to_pybytes() != make_page_header(
            n_values, page
        ):
            raise DamagedFile(self.path, "a page has not the checksum or header that was written")
        return page


def _read_page_size(header: bytes) -> int:
    """Return the second field of a page's header: its bytes without the header."""
    # Two bytes are the first field, and one begins the second: see make_page_header.
    size = 0
    for place, byte in enumerate(header[3:13]):
        size |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    return size >> 1


@contextmanager
def open_embeddings(
    files: Files, name: str, *, end_only: bool = False
) -> Generator[EmbeddingsFile]:
    """Open a file of embeddings; footer and values are of one version, even if it is replaced.

    Args:
        files: of the store.
        name: of the file.
        end_only: only the footer will be read.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableFile: it has another version, or is damaged.
    """
    path = files.locate(name)
    with parquet.open_parquet(files, name, end_only=end_only) as (source, file):
        footer = EmbeddingsFooter.from_metadata(file.metadata.metadata, path)
        yield EmbeddingsFile(path, source, file, footer)


def write_embeddings(
    file: BinaryIO,
    blocks: Iterable[Float16s],
    rows: range,
    n_dims: int,
    row_order_hash: str,
    record: Mapping[str, Any],
) -> None:
    """Write embeddings as a file, of which only a row group is in memory at a time.

    Args:
        file: to write to.
        blocks: embeddings [n, D] of any numbers of clips, finite; together those of `rows`.
        rows: of the corpus.
        n_dims: D.
        row_order_hash: of the clips.
        record: JSON.
    """
    summary = _Summary()

    def describe() -> Mapping[str, str]:
        footer = EmbeddingsFooter(
            row_order_hash=row_order_hash,
            n_dims=n_dims,
            first_row=rows.start,
            largest_value=summary.largest,
            embeddings_hash=summary.finish(),
            record=dict(record),
        )
        return footer.to_metadata()

    n_group = count_group_rows(n_dims)
    groups = _tabulate_groups(map(summary.note, regroup(blocks, n_group)), rows, n_dims)
    options = {
        "compression": "none",
        "use_dictionary": False,
        "column_encoding": {"row": "DELTA_BINARY_PACKED", "embedding.list.element": "PLAIN"},
        "write_statistics": False,
        "data_page_size": 2**30,
        "max_rows_per_page": n_group,
        "write_batch_size": n_group * n_dims,
    }
    parquet.write_groups(file, make_schema(n_dims), groups, describe, options)


def make_schema(n_dims: int) -> pa.Schema:
    """Return the columns of a file of embeddings."""
    value = pa.field("element", pa.float16(), nullable=False)
    return pa.schema(
        [
            pa.field("row", pa.int32(), nullable=False),
            pa.field("embedding", pa.list_(value, n_dims), nullable=False),
        ]
    )


def count_group_rows(n_dims: int) -> int:
    """Return how many embeddings a row group holds: the last of a file may have fewer."""
    return max(1, _GROUP_BYTES // (2 * n_dims))


def _tabulate_groups(groups: Iterable[Float16s], rows: range, n_dims: int) -> Iterator[pa.Table]:
    """Return each group as a table, and make sure that together they have all rows."""
    schema, begin = make_schema(n_dims), rows.start
    for group_ND in groups:
        end = begin + len(group_ND)
        row_N = pa.array(np.arange(begin, end, dtype=np.int32))
        values = pa.array(group_ND.reshape(-1))
        embeddings = pa.FixedSizeListArray.from_arrays(values, type=schema.field("embedding").type)
        yield pa.table([row_N, embeddings], schema=schema)
        begin = end
    if begin != rows.stop:
        raise ValueError(f"embeddings of {begin - rows.start} clips, expected {len(rows)}")


def regroup(blocks: Iterable[NDArray[Any]], n: int) -> Iterator[NDArray[Any]]:
    """Return blocks [n, D] with the rows of blocks of any length, in their order; the last may be shorter."""
    waiting: list[NDArray[Any]] = []
    n_waiting = 0
    for block in blocks:
        begin = 0
        while begin < len(block):
            part = block[begin : begin + n - n_waiting]
            waiting.append(part)
            n_waiting += len(part)
            begin += len(part)
            if n_waiting == n:
                yield _join(waiting)
                waiting, n_waiting = [], 0
    if waiting:
        yield _join(waiting)


def _join(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _Summary:
    """The hash and the largest absolute value of blocks that pass by."""

    def __init__(self) -> None:
        self.largest = 0.0
        self._hash = hashlib.sha256()

    def note(self, block_ND: Float16s) -> Float16s:
        block_ND = np.ascontiguousarray(block_ND)
        self._hash.update(block_ND.data)
        # Unlike Python's max, this keeps NaN.
        self.largest = float(np.maximum(self.largest, measure_largest(block_ND)))
        return block_ND

    def finish(self) -> str:
        return self._hash.hexdigest()[:16]


def measure_largest(block_ND: NDArray[np.floating]) -> float:
    """Return the largest absolute value; NaN if one is NaN."""
    return float(np.maximum(block_ND.max(), -block_ND.min())) if block_ND.size else 0.0


def summarise(groups: Iterable[Float16s]) -> tuple[str, float]:
    """Return the hash of embeddings, and their largest absolute value; NaN if one is NaN."""
    summary = _Summary()
    for group_ND in groups:
        summary.note(group_ND)
    return summary.finish(), summary.largest


def widen_embeddings(half_ND: Float16s) -> Float32s:
    """Return finite float16 values as float32."""
    single_ND = np.empty(half_ND.shape, np.float32)
    widen(single_ND, half_ND)
    return single_ND
