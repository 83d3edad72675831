"""Recordings of one's own before they are clips: files, and what is told of them."""

import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from audio.clips import UNKNOWN, CorpusError
from audio.corpora.tables import line_of, read_table, refuse_repeated

REQUIRED = ("path", "label")
OPTIONAL = ("recording", "device", "split", "city")
WAYS_TO_SPLIT = (("train", "test"), ("fit", "select", "test"))


@dataclass(frozen=True, slots=True)
class Listing:
    """Files in the order of their paths, and what is told of each: lists [N]."""

    root: Path
    files: list[str]
    """Relative to the root."""
    scenes: list[str]
    recordings: list[str]
    """What each file belongs to; by itself, it is its own path without the ending."""
    recording_devices: list[str]
    cities: list[str]
    told: list[str] | None
    """`train` or `test` of each file, or its fold; None where nothing is told."""


def stems(files: Sequence[str]) -> list[str]:
    """The paths without their endings."""
    return [posixpath.splitext(file)[0] for file in files]


def read_csv(file: Path) -> Listing:
    """What a table of recordings tells; in the order of the paths, whatever that of its lines is.

    Raises:
        CorpusError: a value cannot be; names file, line, value and what is expected.
    """
    table = read_table(file, REQUIRED, OPTIONAL, delimiters=",;\t")
    if len(table) == 0:
        raise CorpusError(f"{file}: no line but the header, expected one for each recording")
    files = _paths(file, table["path"].to_pylist())
    told = _told(file, table["split"].to_pylist()) if "split" in table.column_names else None
    recordings = _filled(table, "recording", stems(files))
    if told is not None:
        _refuse_parted(file, recordings, told)
    unknown = [UNKNOWN] * len(files)
    columns = [
        files,
        table["label"].to_pylist(),
        recordings,
        _filled(table, "device", unknown),
        _filled(table, "city", unknown),
    ]
    order = sorted(range(len(files)), key=files.__getitem__)
    ordered = ([column[row] for row in order] for column in columns)
    return Listing(file.parent, *ordered, told=told and [told[row] for row in order])


def _filled(table: pa.Table, name: str, otherwise: Sequence[str]) -> list[str]:
    """A column's values; where it or a value is missing, another."""
    if name not in table.column_names:
        return list(otherwise)
    values = table[name].to_pylist()
    return [value or other for value, other in zip(values, otherwise, strict=True)]


def _paths(file: Path, told: list[str]) -> list[str]:
    """The paths as they are below the table's folder."""
    paths = [posixpath.normpath(path) for path in told]
    for row, path in enumerate(paths):
        if path.startswith(("/", "../")) or path in (".", ".."):
            raise CorpusError(
                f"{file}, line {line_of(file, row)}: path {told[row]}, expected one below "
                f"{file.parent}, without that folder: class/name.wav"
            )
    refuse_repeated(file, pa.array(paths, pa.string()))
    # One listing a folder: asking for each file would take minutes over a network.
    folders = {posixpath.dirname(path) for path in paths}
    there = {path for folder in folders for path in _files_in(file.parent, folder)}
    absent = [row for row, path in enumerate(paths) if path not in there]
    if absent:
        raise CorpusError(
            f"{file}, line {line_of(file, absent[0])}: path {told[absent[0]]}, but there is no "
            f"such file in {file.parent} ({len(absent)} such lines)"
        )
    return paths


def _files_in(root: Path, folder: str) -> list[str]:
    if not (root / folder).is_dir():
        return []
    with os.scandir(root / folder) as entries:
        return [posixpath.join(folder, entry.name) for entry in entries if not entry.is_dir()]


def _told(file: Path, words: list[str]) -> list[str]:
    """What the column split says, in lower case."""
    told = [word.lower() for word in words]
    ways = " or ".join("/".join(way) for way in WAYS_TO_SPLIT)
    for row, word in enumerate(told):
        if not any(word in way for way in WAYS_TO_SPLIT):
            raise CorpusError(
                f"{file}, line {line_of(file, row)}: split {words[row]!r}, expected {ways}"
            )
    used = set(told)
    way = next((way for way in WAYS_TO_SPLIT if used <= {*way}), None)
    if way is None:
        row = next(row for row, word in enumerate(told) if word not in WAYS_TO_SPLIT[1])
        raise CorpusError(
            f"{file}, line {line_of(file, row)}: split {words[row]!r}, but others are "
            f"{'/'.join(sorted(used & {'fit', 'select'}))}; expected {ways} throughout"
        )
    missing = [word for word in way if word not in used]
    if missing:
        raise CorpusError(
            f"{file}: no line has split {missing[0]}, expected {ways}; without the column split a "
            "fifth of the recordings is tested on"
        )
    return told


def _refuse_parted(file: Path, recordings: Sequence[str], told: Sequence[str]) -> None:
    """No recording may be in two folds: its clips are nearly the same clip."""
    first: dict[str, int] = {}
    for row, recording in enumerate(recordings):
        other = first.setdefault(recording, row)
        if told[other] != told[row]:
            raise CorpusError(
                f"{file}, line {line_of(file, row)}: recording {recording} is in {told[row]}, but "
                f"line {line_of(file, other)} has it in {told[other]}; expected one of them for "
                "all of a recording"
            )
