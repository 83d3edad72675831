"""The file of one member's logits: made, opened, checked (N clips, K classes)."""

import hashlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from logit_store import parquet
from logit_store.errors import (
    ClassOrderMismatch,
    DamagedFile,
    RowOrderMismatch,
    UnstorableLogits,
)
from logit_store.files import Files
from logit_store.layout import MAX_LOGIT, ClipsHeader, Footer, LogitKey, logits_schema

Float32s = NDArray[np.float32]
Float16s = NDArray[np.float16]

_LARGEST_PAGE_HEADER_BYTES = 128
"""The header before a page of 2 bytes a row is some 25 bytes; that of a second one would not fit."""


@dataclass(frozen=True, slots=True)
class LogitsFile:
    """An opened file of logits."""

    path: str
    source: pa.NativeFile
    parquet: pq.ParquetFile
    footer: Footer

    @property
    def n(self) -> int:
        """Its rows."""
        return self.parquet.metadata.num_rows

    def check_belongs(self, header: ClipsHeader) -> None:
        """Make sure that the logits are of these clips and classes.

        Raises:
            UnreadableFile: of another row order or class order, or of more or fewer clips.
        """
        check_belongs(self.path, self.footer, self.n, header)

    def columns(self) -> list[Float16s]:
        """The logits of each class, [N], as they lie in the file: nothing is copied.

        Raises:
            DamagedFile: not one plain page a column.
        """
        metadata = self.parquet.metadata
        wanted = logits_schema(self.footer.classes)
        if metadata.num_row_groups != 1 or not self.parquet.schema_arrow.equals(wanted):
            schema = self.parquet.schema_arrow.to_string()
            raise DamagedFile(
                self.path,
                f"{metadata.num_row_groups} row group(s) of {schema}, expected one of row and "
                f"float16 columns {list(self.footer.classes)}",
            )
        group = metadata.row_group(0)
        return [self._column(group.column(i)) for i in range(1, group.num_columns)]

    def _column(self, column: pq.ColumnChunkMetaData) -> Float16s:
        n_bytes = 2 * self.n
        header_bytes = column.total_compressed_size - n_bytes
        if (
            column.compression != "UNCOMPRESSED"
            or "PLAIN" not in column.encodings
            or column.has_dictionary_page
            or not 0 < header_bytes <= _LARGEST_PAGE_HEADER_BYTES
        ):
            raise DamagedFile(
                self.path,
                f"column {column.path_in_schema!r} is {column.compression}, {column.encodings}, "
                f"{column.total_compressed_size} bytes, expected one plain page of float16",
            )
        # Page header and values: the values are the end.
        self.source.seek(column.data_page_offset + header_bytes)
        values = self.source.read_buffer(n_bytes)
        if len(values) != n_bytes:
            raise DamagedFile(self.path, f"{column.path_in_schema!r} ends before its last row")
        return np.frombuffer(values, np.float16)


@contextmanager
def opened(files: Files, name: str, *, end_only: bool = False) -> Generator[LogitsFile]:
    """The file of that name; what is checked is what is read, also if it is replaced meanwhile.

    Args:
        files: of the store.
        name: of the file.
        end_only: who opens it wants the footer and nothing else.

    Raises:
        FileNotFoundError: not there.
        UnreadableFile: of another version, or damaged.
    """
    path = files.where(name)
    with parquet.opened(files, name, end_only=end_only) as (source, file):
        yield LogitsFile(path, source, file, Footer.from_metadata(file.metadata.metadata, path))


def check_belongs(path: str, footer: Footer, n: int, header: ClipsHeader) -> None:
    """Make sure that the n logits that a footer tells of are of these clips and classes.

    Raises:
        UnreadableFile: of another row order or class order, or of more or fewer clips.
    """
    found, expected = footer.row_order_hash, header.row_order_hash
    if found != expected:
        raise RowOrderMismatch(path, found=found, expected=expected)
    if footer.classes != header.classes:
        raise ClassOrderMismatch(path, found=footer.classes, expected=header.classes)
    if n != header.n:
        raise DamagedFile(path, f"{n} rows, expected {header.n}")


def storable(
    key: LogitKey, logits_NK: ArrayLike, header: ClipsHeader, clip_id: Callable[[int], str]
) -> tuple[Float16s, float]:
    """Logits as float16 [K, N], and their largest absolute value.

    Args:
        key: their name, for complaints.
        logits_NK: floats.
        header: of the clips that they are of.
        clip_id: of a row, for complaints.

    Raises:
        UnstorableLogits: a value is not finite or beyond float16.
        ValueError: wrong shape or type.
    """
    logits = np.asarray(logits_NK)
    expected = (header.n, len(header.classes))
    if logits.shape != expected or not np.issubdtype(logits.dtype, np.floating):
        raise ValueError(
            f"{key}: logits of shape {logits.shape} and type {logits.dtype}, expected floats of "
            f"shape {expected}: (clips, classes) of corpus {key.corpus}"
        )
    largest = np.maximum(logits.max(), -logits.min())
    # Written so that a NaN counts as wrong.
    if not largest <= MAX_LOGIT:
        row, column = map(int, np.argwhere(~(np.abs(logits) <= MAX_LOGIT))[0])
        scene, value = header.classes[column], float(logits[row, column])
        raise UnstorableLogits(key, clip_id=clip_id(row), scene=scene, value=value)
    logits_KN = np.ascontiguousarray(logits.T).astype(np.float16, copy=False)
    # Rounding keeps the order, so that the largest stays the largest.
    return logits_KN, float(np.float16(largest))


def encoded(logits_KN: Float16s, footer: Footer) -> pa.Buffer:
    """The file that holds these logits.

    Raises:
        TypeError, ValueError: the footer's record is no JSON.
    """
    metadata = footer.to_metadata()
    row_N = pa.array(np.arange(logits_KN.shape[1], dtype=np.int32))
    table = pa.table([row_N, *map(pa.array, logits_KN)], schema=logits_schema(footer.classes))
    return parquet.plain(table, metadata)


def logits_hash(logits_KN: Float16s) -> str:
    """16 hex digits that stand for the logits: SHA-256 over their bytes, clip by clip."""
    return hashlib.sha256(logits_KN.T.tobytes()).hexdigest()[:16]


def widen(single_N: Float32s, half_N: Float16s) -> None:
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
