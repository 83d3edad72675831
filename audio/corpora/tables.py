"""Read the text tables of a corpus; errors name file, line and value."""

import csv
import difflib
import gzip
import io
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from audio.errors import CorpusError

logger = logging.getLogger(__name__)

DELIMITER_NAMES = {"\t": "tab-separated", ",": "comma-separated", ";": "semicolon-separated"}
MISSPELLING_LIKENESS = 0.8
"""Likeness from which an unknown column counts as a misspelt known one."""


def read_table(
    file: Path, required: Sequence[str], optional: Sequence[str] = (), delimiters: str = "\t"
) -> pa.Table:
    """Return the required and the available optional columns of a table as strings.

    Names of columns may be in capitals. Spaces around values are removed.

    Args:
        file: The table, in UTF-8; decompressed first if it ends in .gz.
        required: Columns that it must have, in lower case; no value may be empty.
        optional: Columns that it may have.
        delimiters: Possible delimiters; the most frequent one in the header is used.

    Raises:
        CorpusError: There is no such table.
    """
    expected = f"{DELIMITER_NAMES[delimiters[0]]} columns {', '.join(required)}"
    if not file.is_file():
        raise CorpusError(f"{file}: not found; expected {expected}")
    content = _read_content(file)
    delimiter = delimiters[0]
    try:
        first_line = content.split(b"\n", 1)[0].decode("utf-8-sig").rstrip("\r")
        delimiter = max(delimiters, key=first_line.count)
        names = [name.strip() for name in next(csv.reader([first_line], delimiter=delimiter), [])]
        header = [name.lower() for name in names]
        _check_header(file, names, header, required, optional)
        used = [name for name in (*required, *optional) if name in header]
        table = _parse(content, delimiter, header, used)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise CorpusError(f"{file}: not a {DELIMITER_NAMES[delimiter]} table: {error}") from error
    for place, name in enumerate(used):
        table = table.set_column(place, name, pc.utf8_trim_whitespace(table[name]))
    for name in required:
        empty = np.flatnonzero(pc.equal(table[name], "").to_numpy())
        if len(empty):
            raise CorpusError(
                f"{file}, line {find_line(file, int(empty[0]))}: column {name} is empty"
            )
    return table


def find_line(file: Path, row: int) -> int:
    """Return the line of the file that holds a row of its table; empty lines are no rows."""
    lines = _read_content(file).splitlines()
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


def _read_content(file: Path) -> bytes:
    content = file.read_bytes()
    return gzip.decompress(content) if file.suffix == ".gz" else content


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
