"""What files of other programs declare, checked before their data is read (R rows, K classes).

A small file may declare, or unpack to, more than any memory holds.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MOST_OTHER_ROWS = 1_000_000
"""Rows of clips that the corpus lacks; the largest published corpora have fewer clips."""
LONGEST_NAME = 4096
"""Characters; in arrays of numpy each takes four bytes."""
LARGEST_NAMES_BYTES = 2**28
MOST_LISTED = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file can hold of a corpus."""

    n_clips: int
    scenes: tuple[str, ...]

    @property
    def most_rows(self) -> int:
        """The largest number of rows that are read."""
        return self.n_clips + MOST_OTHER_ROWS

    @property
    def most_bytes(self) -> int:
        """The largest size of a file, with numbers as text and long file names."""
        return 2**24 + self.most_rows * (32 * len(self.scenes) + 512)


@dataclass(frozen=True, slots=True)
class Declared:
    """An array, as the head of its file describes it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_text: bool
    """Whether its elements can be names."""


def check_declared(arrays: dict[str, Declared], held: list[str], wanted: Wanted) -> None:
    """Make sure that logits, file names and classes can be those of the corpus.

    Args:
        arrays: those of `filenames`, `logits` and `classes` that the file has.
        held: the names of all its arrays.
        wanted: what the corpus lets it hold.

    Raises:
        ValueError: they cannot; names array, shape and what was expected.
    """
    absent = [name for name in ("filenames", "logits") if name not in arrays]
    if absent:
        listed = list_some(held) or "none"
        raise ValueError(f"no array {' and '.join(absent)}; its arrays are: {listed}")
    logits = arrays["logits"]
    if logits.dtype.kind != "f":
        raise ValueError(f"logits of type {logits.dtype}, expected floats")
    check_logits_shape(logits.shape, wanted)
    n_rows, n_classes = logits.shape
    _check_texts(arrays["filenames"], "filenames", "file names", n_rows, "rows")
    if "classes" in arrays:
        _check_texts(arrays["classes"], "classes", "classes", n_classes, "columns")


def check_logits_shape(shape: tuple[int, ...], wanted: Wanted) -> None:
    """Make sure that logits of this shape can be those of the corpus's clips.

    Raises:
        ValueError: they cannot.
    """
    expected = f"expected ({wanted.n_clips}, {len(wanted.scenes)}): a row per clip"
    if len(shape) != 2:
        raise ValueError(f"logits of shape {shape}, {expected} and a column per scene")
    if shape[1] != len(wanted.scenes):
        raise ValueError(
            f"logits of shape {shape}, {expected}; {shape[1]} columns, expected "
            f"{len(wanted.scenes)}: one per scene, sorted"
        )
    if shape[0] > wanted.most_rows:
        raise ValueError(
            f"logits of shape {shape}, {expected}, and at most {MOST_OTHER_ROWS:,} of other clips"
        )


def list_some(names: list[str]) -> str:
    """Return the first names of a list that may be long, for a message."""
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more:,} more" if more > 0 else "")


def find_packed_record(file: Path | BinaryIO) -> str | None:
    """Return what is compressed in a file of `torch.save`, in words; None if nothing is.

    torch compresses nothing, but reads what is compressed, whatever it unpacks to.

    Raises:
        zipfile.BadZipFile: it is a damaged archive.
    """
    if not zipfile.is_zipfile(file):
        return None
    with zipfile.ZipFile(file) as archive:
        packed = [each for each in archive.infolist() if each.compress_type != zipfile.ZIP_STORED]
    if not packed:
        return None
    return (
        f"has compressed records ({packed[0].filename} unpacks to {packed[0].file_size:,} bytes), "
        "which torch.save never writes"
    )


def _check_texts(array: Declared, name: str, what: str, n: int, of: str) -> None:
    if not array.is_text:
        raise ValueError(
            f"{name} of type {array.dtype}, expected text; Python objects are not read"
        )
    if len(array.shape) != 1 or array.shape[0] != n:
        count = array.shape[0] if len(array.shape) == 1 else f"array of shape {array.shape}:"
        raise ValueError(
            f"{count} {what} for {n} {of} of logits: {name} has shape {array.shape}, expected ({n},)"
        )
    n_bytes = array.dtype.itemsize
    if n_bytes > 4 * LONGEST_NAME or n * n_bytes > LARGEST_NAMES_BYTES:
        raise ValueError(
            f"{name}: {n:,} texts of {n_bytes:,} bytes, expected at most {4 * LONGEST_NAME:,} each and "
            f"{LARGEST_NAMES_BYTES:,} in all"
        )
