"""The file of one member's logits (N clips, K classes)."""

import hashlib
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray
from zlib_ng import zlib_ng

from logit_store import parquet
from logit_store.errors import (
    ClassOrderMismatch,
    DamagedFile,
    RowOrderMismatch,
    UnstorableLogits,
)
from logit_store.files import Files
from logit_store.footer import ClipsHeader, Footer
from logit_store.keys import LogitKey
from logit_store.thrift import encode_number

Float32s = NDArray[np.float32]
Float16s = NDArray[np.float16]

MAX_LOGIT = 65504.0
"""Largest finite float16."""
_MAX_LOGIT_BITS = 0x7BFF
"""Its bits; those of a larger value may be rounded to them, or are larger."""

_CONVERTED_AT_A_TIME = 163_840
"""Logits that stay in the processor's cache until they are rounded, hashed, and sorted by class."""
_LARGEST_PAGE_HEADER_BYTES = 128
"""Upper limit for the header before a page, which has about 30 bytes: a second page would exceed it."""
_INT32, _STRUCT, _END = b"\x15", b"\x1c", b"\0"
"""Thrift's compact protocol: the next field is a number, or a structure, or there is none."""


@dataclass(frozen=True, slots=True)
class LogitsFile:
    """An open file of logits."""

    path: str
    source: pa.NativeFile
    parquet: pq.ParquetFile
    footer: Footer

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.parquet.metadata.num_rows

    def check_belongs(self, header: ClipsHeader) -> None:
        """Make sure that the logits belong to these clips and classes.

        Raises:
            UnreadableFile: row order, class order or number of clips differ.
        """
        check_belongs(self.path, self.footer, self.n, header)

    def read_columns(self) -> Iterator[Float16s]:
        """Return the logits of one class after the other, [N], as views of the file.

        A column is compared with its checksum just before it is returned, so it is in the processor's cache.

        Raises:
            DamagedFile: a column is not one plain page, or not as it was written.
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
        group, is_sealed = metadata.row_group(0), parquet.is_sealed(self.parquet)
        for i in range(1, group.num_columns):
            yield self._read_column(group.column(i), is_sealed)

    def compare_columns(self) -> None:
        """Compare the logits with their checksums.

        Raises:
            DamagedFile: a column is not as it was written.
        """
        for _ in self.read_columns():
            pass

    def check_pages(self) -> None:
        """Compare all pages with their checksums, and the numbers of the rows with those expected.

        Raises:
            DamagedFile: one differs.
        """
        self.compare_columns()
        rows = self.parquet.read(columns=["row"], use_threads=False)["row"].to_numpy()
        if not np.array_equal(rows, np.arange(self.n)):
            raise DamagedFile(self.path, f"rows are not numbered from 0 to {self.n - 1}")

    def _read_column(self, column: pq.ColumnChunkMetaData, is_sealed: bool) -> Float16s:
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
        # The page is a header and then the values.
        self.source.seek(column.data_page_offset)
        # In one call, because each asks the system to prepare the mapped pages.
        page = self.source.read_buffer(header_bytes + n_bytes)
        header, values = page[:header_bytes], page[header_bytes:]
        if len(values) != n_bytes:
            raise DamagedFile(self.path, f"{column.path_in_schema!r} ends before its last row")
        # The header holds the checksum; in old files it holds none.
        if is_sealed and header.to_pybytes() != make_page_header(self.n, values):
            raise DamagedFile(
                self.path,
                f"the page of {column.path_in_schema!r} has not the checksum or header that was written",
            )
        return np.frombuffer(values, np.float16)


@dataclass(frozen=True, slots=True)
class StoredLogits:
    """Logits as a file holds them, and what its footer says of their values."""

    logits_KN: Float16s
    largest: float
    """Largest absolute value."""
    hash: str
    """As `hash_logits` returns it."""


def make_page_header(n: int, values: pa.Buffer | bytes | memoryview, encoding: int = 0) -> bytes:
    """Return the header of a page of n values, in Thrift's compact protocol, as pyarrow writes it.

    Its fields are the type of the page, its bytes before and after compression, their CRC-32, and a
    structure: the number of values, three encodings (PLAIN or that given, RLE, RLE), and statistics
    without content.
    """
    checksum = zlib_ng.crc32(values)
    signed = checksum - (checksum >> 31 << 32)
    page = [0, len(values), len(values), signed]
    of_values = [n, encoding, 3, 3]
    fields = [_INT32 + _INT32.join(map(encode_number, numbers)) for numbers in (page, of_values)]
    return _STRUCT.join(fields) + _STRUCT + 3 * _END


def logits_schema(classes: Sequence[str]) -> pa.Schema:
    """Return the columns of a file of logits."""
    row = pa.field("row", pa.int32(), nullable=False)
    return pa.schema([row, *(pa.field(name, pa.float16(), nullable=False) for name in classes)])


@contextmanager
def open_logits(files: Files, name: str, *, end_only: bool = False) -> Generator[LogitsFile]:
    """Open a file of logits; footer and logits are of one version, even if it is replaced.

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
        yield LogitsFile(path, source, file, Footer.from_metadata(file.metadata.metadata, path))


def check_belongs(path: str, footer: Footer, n: int, header: ClipsHeader) -> None:
    """Make sure that a file with this footer and n rows belongs to these clips and classes.

    Raises:
        UnreadableFile: row order, class order or number of clips differ.
    """
    found, expected = footer.row_order_hash, header.row_order_hash
    if found != expected:
        raise RowOrderMismatch(path, found=found, expected=expected)
    # Those of clips that nobody labelled are the classes of the corpus that the member learnt.
    if header.classes and footer.classes != header.classes:
        raise ClassOrderMismatch(path, found=footer.classes, expected=header.classes)
    if n != header.n:
        raise DamagedFile(path, f"{n} rows, expected {header.n}")


def convert_to_float16(
    key: LogitKey, logits_NK: ArrayLike, header: ClipsHeader, clip_id: Callable[[int], str]
) -> StoredLogits:
    """Round logits to the nearest float16, of two to the even one; read each only once from memory.

    Args:
        key: for error messages.
        logits_NK: floats.
        header: of the clips.
        clip_id: from a row to its clip, for error messages.

    Raises:
        UnstorableLogits: a value is not finite or too large for float16.
        ValueError: wrong shape or type.
    """
    logits = np.asarray(logits_NK)
    n, n_classes = expected = (header.n, len(header.classes))
    if logits.shape != expected or not np.issubdtype(logits.dtype, np.floating):
        raise ValueError(
            f"{key}: logits of shape {logits.shape} and type {logits.dtype}, expected floats of "
            f"shape {expected}: (clips, classes) of corpus {key.corpus}"
        )
    largest_bits, digest = 0, hashlib.sha256()
    logits_KN = np.empty((n_classes, n), np.float16)
    n_block = max(1, _CONVERTED_AT_A_TIME // n_classes)
    for begin in range(0, n, n_block):
        block_BK = logits[begin : begin + n_block]
        half_BK = _round(block_BK)
        # Without their signs, bits are in the order of the values, and those of infinity and NaN come after them.
        block_bits = int((half_BK.view(np.uint16) & 0x7FFF).max())
        if block_bits >= _MAX_LOGIT_BITS:
            for row, column in np.argwhere(~(np.abs(block_BK) <= MAX_LOGIT))[:1].tolist():
                scene, value = header.classes[column], float(block_BK[row, column])
                raise UnstorableLogits(key, clip_id=clip_id(begin + row), scene=scene, value=value)
        largest_bits = max(largest_bits, block_bits)
        digest.update(half_BK.data)
        logits_KN[:, begin : begin + n_block] = half_BK.T
    largest = float(np.uint16(largest_bits).view(np.float16))
    return StoredLogits(logits_KN, largest, _shorten(digest))


def _round(block_BK: NDArray[np.floating]) -> Float16s:
    """Return values as float16, clip by clip in memory; infinite where they are too large.

    torch does it 30 times as fast as numpy, by the processor's instruction. Most who have logits to write have
    imported it; nobody imports it for this. Float64 values it would round twice, by way of float32.
    """
    torch, flags = sys.modules.get("torch"), block_BK.flags
    if torch and block_BK.dtype == np.float32 and flags.c_contiguous and flags.writeable:
        return torch.from_numpy(block_BK).half().numpy()
    with np.errstate(over="ignore"):
        return block_BK.astype(np.float16, order="C", copy=False)


def hash_logits(logits_NK: Float16s) -> str:
    """Return 16 hex digits that stand for the logits: SHA-256 over their bytes, clip by clip."""
    return _shorten(hashlib.sha256(np.ascontiguousarray(logits_NK).data))


def _shorten(digest: "hashlib._Hash") -> str:
    return digest.hexdigest()[:16]


def widen(single_N: Float32s, half_N: Float16s) -> None:
    """Write finite float16 values as float32: exact, and six times faster than numpy's `astype`.

    The exponent of a float16 begins at bit 10, that of a float32 at bit 23 and is larger by 112.
    So shift the bits up by 13, clear the three bits into which the sign was extended, and multiply
    by 2^112. Float16 subnormals are float32 subnormals before the product, so they are exact too.
    """
    bits_N = single_N.view(np.int32)
    bits_N[...] = half_N.view(np.int16)
    bits_N <<= 13
    bits_N &= np.int32(~0x70000000)
    single_N *= np.float32(2.0**112)
