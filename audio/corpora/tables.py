"""Read the text tables of a corpus; errors name file, line and value."""

import codecs
import csv
import difflib
import gzip
import io
import logging
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from audio.errors import CorpusError

logger = logging.getLogger(__name__)

DELIMITER_NAMES = {"\t": "tab-separated", ",": "comma-separated", ";": "semicolon-separated"}
LARGEST_UNPACKED_BYTES = 2**28
"""A table of a million clips is a third of it; a small file may unpack to more than memory holds."""
MISSPELLING_LIKENESS = 0.8
"""Likeness from which an unknown column counts as a misspelt known one."""


def read_table(
    file: Path,
    required: Sequence[str],
    optional: Sequence[str] = (),
    delimiters: str = "\t",
    may_be_empty: Sequence[str] = (),
) -> pa.Table:
    """Return the required and the available optional columns of a table as strings.

    Names of columns may be in capitals. Spaces around values are removed.

    Args:
        file: The table; see `read_text`.
        required: Columns that it must have, in lower case; no value may be empty, but in columns of
            `may_be_empty`.
        optional: Columns that it may have.
        delimiters: Possible delimiters; the most frequent one in the header is used.
        may_be_empty: Those of the required columns whose values may be empty.

    Raises:
        CorpusError: There is no such table, or it is malformed.
    """
    expected = f"{DELIMITER_NAMES[delimiters[0]]} columns {', '.join(required)}"
    if not file.is_file():
        raise CorpusError(f"{file}: not found; expected {expected}")
    text = read_text(file)
    first_line = text.split("\n", 1)[0]
    delimiter = max(delimiters, key=first_line.count)
    _refuse_open_quote(file, text, delimiter)
    names = [name.strip() for name in next(csv.reader([first_line], delimiter=delimiter), [])]
    header = [name.lower() for name in names]
    _check_header(file, names, header, required, optional)
    used = [name for name in (*required, *optional) if name in header]
    try:
        table = _parse(text.encode(), delimiter, header, used)
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())
        raise CorpusError(f"{file}: not a {DELIMITER_NAMES[delimiter]} table: {reason}") from error
    for place, name in enumerate(used):
        table = table.set_column(place, name, pc.utf8_trim_whitespace(table[name]))
    for name in (each for each in required if each not in may_be_empty):
        empty = np.flatnonzero(pc.equal(table[name], "").to_numpy())
        if len(empty):
            raise CorpusError(
                f"{file}, line {find_line(file, int(empty[0]))}: column {name} is empty"
            )
    return table


def find_line(file: Path, row: int) -> int:
    """Return the line of the file that holds a row of its table; empty lines are no rows."""
    lines = read_text(file).split("\n")
    filled = [number for number, line in enumerate(lines, start=1) if line]
    return filled[row + 1]


def refuse_repeated(file: Path, values: pa.Array | pa.ChunkedArray) -> None:
    """Refuse a value that occurs in two rows.

    Raises:
        CorpusError: There is such a value; names both lines.
    """
    if pc.count_distinct(values).as_py() == len(values):
        return
    first: dict[str, int] = {}
    for row, value in enumerate(values.to_pylist()):
        if first.setdefault(value, row) != row:
            raise CorpusError(
                f"{file}, line {find_line(file, row)}: {value} is in line "
                f"{find_line(file, first[value])} already"
            )


def read_text(file: Path) -> str:
    """Return a text in UTF-8, with or without a byte order mark, with any line ends as line feeds.

    A file whose name ends in .gz is decompressed.

    Raises:
        CorpusError: It is damaged, unpacks to too much, or is no text in UTF-8; names the line.
    """
    try:
        content = _unpack(file) if file.suffix == ".gz" else file.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(f"{file}: damaged ({error}); download it again") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content:
        raise CorpusError(f"{file}: no text in UTF-8, perhaps in UTF-16; save it as UTF-8")
    content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        shown = content.split(b"\n")[line - 1].decode(errors="backslashreplace")
        raise CorpusError(
            f"{file}, line {line}: {shown} is not in UTF-8; save the table as UTF-8"
        ) from error


def _unpack(file: Path) -> bytes:
    with gzip.open(file) as opened:
        content = opened.read(LARGEST_UNPACKED_BYTES + 1)
    if len(content) > LARGEST_UNPACKED_BYTES:
        raise CorpusError(
            f"{file}: unpacks to more than {LARGEST_UNPACKED_BYTES:,} bytes; download it again"
        )
    return content


def _refuse_open_quote(file: Path, text: str, delimiter: str) -> None:
    """Refuse a quote that is never closed: all lines after it would be one value."""
    if '"' not in text:
        return
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for _ in rows:
            line = rows.line_num + 1
    except csv.Error as error:
        # The parser of tables accepts the other faults.
        if "unexpected end of data" in str(error) or "field limit" in str(error):
            raise CorpusError(
                f'{file}, line {line}: a quote (") begins a value and is never closed; add the '
                "second one, or remove it"
            ) from error


def _parse(content: bytes, delimiter: str, header: Sequence[str], used: Sequence[str]) -> pa.Table:
    return pyarrow.csv.read_csv(
        io.BytesIO(content),
        # With several threads, errors do not name the line.
        pyarrow.csv.ReadOptions(column_names=header, skip_rows=1, use_threads=False),
        pyarrow.csv.ParseOptions(delimiter=delimiter),
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()),
            include_columns=used,
            strings_can_be_null=False,
        ),
    )


def _check_header(
    file: Path,
    names: Sequence[str],
    header: Sequence[str],
    required: Sequence[str],
    optional: Sequence[str],
) -> None:
    found = ", ".join(names)
    missing = [name for name in required if name not in header]
    if missing:
        raise CorpusError(f"{file}: no column {', '.join(missing)}; its columns are: {found}")
    known = [*required, *optional]
    twice = [name for name in known if header.count(name) > 1]
    if twice:
        raise CorpusError(f"{file}, line 1: two columns {twice[0]}, expected one; it has: {found}")
    extra = [name for name, low in zip(names, header, strict=True) if low not in known]
    for name in extra:
        # Ignoring a column "recordings" would put one recording into several folds.
        absent = [each for each in optional if each not in header]
        meant = difflib.get_close_matches(name.lower(), absent, n=1, cutoff=MISSPELLING_LIKENESS)
        if meant:
            raise CorpusError(
                f"{file}, line 1: unknown column {name}, expected {meant[0]} or another name "
                f"(known are {', '.join(known)})"
            )
    if extra:
        logger.warning("%s: unknown column %s is ignored", file, ", ".join(extra))
