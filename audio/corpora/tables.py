"""Tables that come with recordings, as text: read whole, and refused with file, line and value."""

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

from audio.clips import CorpusError

logger = logging.getLogger(__name__)

NAMES = {"\t": "tab-separated", ",": "comma-separated", ";": "semicolon-separated"}
ALIKE = 0.8
"""From this likeness on an unknown column is a known one, misspelt."""


def read_table(
    file: Path, required: Sequence[str], optional: Sequence[str] = (), delimiters: str = "\t"
) -> pa.Table:
    """The required columns of a table, and those of the optional ones that it has, as strings.

    Names of columns may be in capitals. Spaces around values are dropped.

    Args:
        file: the table, in UTF-8; unpacked first if it ends in .gz.
        required: its columns in lower case; no value may be empty.
        optional: columns that it may have.
        delimiters: between columns; of several, that which the header has most of.

    Raises:
        CorpusError: there is no such table.
    """
    expected = f"{NAMES[delimiters[0]]} columns {', '.join(required)}"
    if not file.is_file():
        raise CorpusError(f"{file}: not found; expected {expected}")
    content = file.read_bytes()
    if file.suffix == ".gz":
        content = gzip.decompress(content)
    delimiter = delimiters[0]
    try:
        first_line = content.split(b"\n", 1)[0].decode("utf-8-sig").rstrip("\r")
        delimiter = max(delimiters, key=first_line.count)
        told = [name.strip() for name in next(csv.reader([first_line], delimiter=delimiter), [])]
        header = [name.lower() for name in told]
        _check_header(file, told, header, required, optional)
        used = [name for name in (*required, *optional) if name in header]
        table = pyarrow.csv.read_csv(
            io.BytesIO(content),
            # Of several threads none knows in which line it is.
            pyarrow.csv.ReadOptions(column_names=header, skip_rows=1, use_threads=False),
            pyarrow.csv.ParseOptions(delimiter=delimiter),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                include_columns=used,
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise CorpusError(f"{file}: not a {NAMES[delimiter]} table: {error}") from error
    for place, name in enumerate(used):
        table = table.set_column(place, name, pc.utf8_trim_whitespace(table[name]))
    for name in required:
        empty = np.flatnonzero(pc.equal(table[name], "").to_numpy())
        if len(empty):
            raise CorpusError(
                f"{file}, line {line_of(file, int(empty[0]))}: column {name} is empty"
            )
    return table


def line_of(file: Path, row: int) -> int:
    """In which line of its file a row of a table stands; empty lines are no rows."""
    content = file.read_bytes()
    lines = (gzip.decompress(content) if file.suffix == ".gz" else content).splitlines()
    filled = [number for number, line in enumerate(lines, start=1) if line]
    return filled[row + 1]


def refuse_repeated(file: Path, values: pa.Array | pa.ChunkedArray) -> None:
    """Each value may stand in one row only.

    Raises:
        CorpusError: one stands in two; names both lines.
    """
    if pc.count_distinct(values).as_py() == len(values):
        return
    first: dict[str, int] = {}
    for row, value in enumerate(values.to_pylist()):
        if first.setdefault(value, row) != row:
            raise CorpusError(
                f"{file}, line {line_of(file, row)}: {value} stands in line "
                f"{line_of(file, first[value])} already"
            )


def _check_header(
    file: Path,
    told: Sequence[str],
    header: Sequence[str],
    required: Sequence[str],
    optional: Sequence[str],
) -> None:
    found = ", ".join(told)
    missing = [name for name in required if name not in header]
    if missing:
        raise CorpusError(f"{file}: no column {', '.join(missing)}; its columns are: {found}")
    known = [*required, *optional]
    twice = [name for name in known if header.count(name) > 1]
    if twice:
        raise CorpusError(f"{file}, line 1: two columns {twice[0]}, expected one; it has: {found}")
    extra = [name for name, low in zip(told, header, strict=True) if low not in known]
    for name in extra:
        # Passed over, a column "recordings" would put one recording into several folds.
        absent = [each for each in optional if each not in header]
        meant = difflib.get_close_matches(name.lower(), absent, n=1, cutoff=ALIKE)
        if meant:
            raise CorpusError(
                f"{file}, line 1: unknown column {name}, expected {meant[0]} or another name "
                f"(known are {', '.join(known)})"
            )
    if extra:
        logger.warning("%s: unknown column %s is not used", file, ", ".join(extra))
