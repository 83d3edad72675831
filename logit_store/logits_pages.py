"""The bytes of a file of logits, as pyarrow's writer makes them (N clips, K classes).

pyarrow copies each float16 by itself, which took a third of the time of a write. The file has few parts, which
`docs/store-writing.md` promises: one row group, in which each column is one plain page.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from logit_store.files import Part
from logit_store.footer import ClipsHeader, FoldScores, Footer
from logit_store.keys import LogitKey
from logit_store.logits_file import Float16s, StoredLogits, make_page_header
from logit_store.seal import DIGEST_KEY, UNSEALED, seal
from logit_store.thrift import (
    Value,
    encode_int32,
    encode_int64,
    encode_list,
    encode_number,
    encode_struct,
    encode_text,
    encode_unsigned,
)

_MARK = b"PAR1"
_CREATED_BY = f"parquet-cpp-arrow version {pa.cpp_version}"
"""Readers conclude from it which errors a file may have: it has the form that this writer gives it."""

# Numbers of Parquet's enumerations (apache/parquet-format, parquet.thrift).
_INT32, _FIXED_BYTES = encode_int32(1), encode_int32(7)
_REQUIRED, _UNCOMPRESSED, _DATA_PAGE = encode_int32(0), encode_int32(0), encode_int32(0)
_PLAIN, _RLE, _DELTA_BINARY_PACKED = 0, 3, 5
_EMPTY = encode_struct({})
_FLOAT16 = encode_struct({15: _EMPTY})
_VERSION, _NOWHERE_ELSE = encode_int32(2), encode_int64(0)

_ROWS_PER_BLOCK = 128
_BLOCK_OF_ONES = b"\x02\0\0\0\0"
"""The least of 128 differences, 1, and the bits in which four times 32 of them say by how much they exceed it."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a file."""

    name: str
    kind: Value
    """The type of its values."""
    encoding: int
    header: bytes
    values: bytes | memoryview

    @property
    def n_bytes(self) -> int:
        """Bytes of its page and the header before it."""
        return len(self.header) + len(self.values)


def encode_logits(
    key: LogitKey,
    header: ClipsHeader,
    stored: StoredLogits,
    scores: tuple[FoldScores, ...],
    record: Mapping[str, Any],
) -> list[Part]:
    """Return the parts of a file of logits, with checksums of its pages and a digest of its footer.

    Args:
        key: for the error message.
        header: of the clips, with the classes of the logits.
        stored: the logits.
        scores: of the logits.
        record: how they were made.

    Raises:
        ValueError: the record is no JSON.
    """
    footer = Footer(
        row_order_hash=header.row_order_hash,
        classes=header.classes,
        largest_logit=stored.largest,
        logits_hash=stored.hash,
        scores=scores,
        record=dict(record),
    )
    try:
        metadata = {**footer.to_metadata(), DIGEST_KEY: UNSEALED}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key}: the record is no JSON: {error}") from error
    return _encode_file(header.n, header.classes, stored.logits_KN, metadata)


def _encode_file(
    n: int, classes: Sequence[str], logits_KN: Float16s, metadata: Mapping[str, str]
) -> list[Part]:
    columns = [_make_rows(n)]
    columns += [_make_logits(*each) for each in zip(classes, logits_KN, strict=True)]
    end = _encode_footer(n, columns, metadata)
    pages = [part for column in columns for part in (column.header, column.values)]
    return [_MARK, *pages, seal(end + len(end).to_bytes(4, "little") + _MARK)]


def _make_rows(n: int) -> _Column:
    """Make the column of 0, 1, 2...: the first number, and blocks of the differences."""
    counts = (_ROWS_PER_BLOCK, 4, n)
    page = b"".join(map(encode_unsigned, counts)) + encode_number(0)
    page += -(-(n - 1) // _ROWS_PER_BLOCK) * _BLOCK_OF_ONES
    header = make_page_header(n, page, _DELTA_BINARY_PACKED)
    return _Column("row", _INT32, _DELTA_BINARY_PACKED, header, page)


def _make_logits(name: str, logits_N: Float16s) -> _Column:
    values = logits_N.view(np.uint8).data
    return _Column(name, _FIXED_BYTES, _PLAIN, make_page_header(len(logits_N), values), values)


def _encode_footer(n: int, columns: Sequence[_Column], metadata: Mapping[str, str]) -> bytes:
    pairs = [encode_struct({1: encode_text(k), 2: encode_text(v)}) for k, v in metadata.items()]
    footer = {
        1: _VERSION,
        2: _encode_schema(tuple(each.name for each in columns)),
        3: encode_int64(n),
        4: encode_list([_encode_group(n, columns)]),
        5: encode_list(pairs),
        6: encode_text(_CREATED_BY),
        7: encode_list([encode_struct({1: _EMPTY})] * len(columns)),
    }
    return encode_struct(footer).content


@functools.lru_cache
def _encode_schema(names: tuple[str, ...]) -> Value:
    """Encode the columns: the first holds numbers, the others float16."""
    number = {1: _INT32, 3: _REQUIRED, 4: encode_text(names[0])}
    half = {1: _FIXED_BYTES, 2: encode_int32(2), 3: _REQUIRED}
    root = {3: _REQUIRED, 4: encode_text("schema"), 5: encode_int32(len(names))}
    halves = [{**half, 4: encode_text(name), 10: _FLOAT16} for name in names[1:]]
    return encode_list(map(encode_struct, [root, number, *halves]))


def _encode_group(n: int, columns: Sequence[_Column]) -> Value:
    n_rows, begin, chunks = encode_int64(n), len(_MARK), list[Value]()
    for column in columns:
        chunks.append(_encode_chunk(n_rows, column, begin))
        begin += column.n_bytes
    n_bytes = encode_int64(begin - len(_MARK))
    group = {
        1: encode_list(chunks),
        2: n_bytes,
        3: n_rows,
        5: encode_int64(len(_MARK)),
        6: n_bytes,
    }
    return encode_struct(group)


def _encode_chunk(n_rows: Value, column: _Column, begin: int) -> Value:
    """Encode where a column begins, its size, and how its page is encoded."""
    n_bytes, (encodings, pages) = encode_int64(column.n_bytes), _encode_encodings(column.encoding)
    metadata = {
        1: column.kind,
        2: encodings,
        3: encode_list([encode_text(column.name)]),
        4: _UNCOMPRESSED,
        5: n_rows,
        6: n_bytes,
        7: n_bytes,
        9: encode_int64(begin),
        13: pages,
    }
    return encode_struct({2: _NOWHERE_ELSE, 3: encode_struct(metadata)})


@functools.cache
def _encode_encodings(encoding: int) -> tuple[Value, Value]:
    """Encode the encodings in a column, and that it has one page, of which kind and encoding."""
    values = encode_int32(encoding)
    page = encode_struct({1: _DATA_PAGE, 2: values, 3: encode_int32(1)})
    return encode_list([encode_int32(_RLE), values]), encode_list([page])
