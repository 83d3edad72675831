"""List the user's own recordings: files with the labels, recordings and folds given for them."""

import os
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from audio.clips import POOL, UNKNOWN, UNLABELLED
from audio.corpora.tables import find_line, read_table, read_text, refuse_repeated
from audio.errors import CorpusError
from audio.several import parse_labels
from audio.sound_folders import is_folder

REQUIRED = ("path", "label")
SEVERAL = "labels"
"""The column that takes the place of `label` if a clip may have several, or none: `dog|rain`."""
OPTIONAL = ("recording", "device", "split", "city", "source")
WAYS_TO_SPLIT = (("train", "test"), ("fit", "select", "test"))


@dataclass(frozen=True, slots=True)
class Listing:
    """Files with a label, then those without, in the order of their paths: lists [N]."""

    root: Path
    files: list[str]
    """Relative to the root."""
    scenes: list[str]
    """The label of each file, or the list of its labels (`audio.several`); UNLABELLED for one without."""
    recordings: list[str]
    """The recording that each file belongs to; if not given, its own path without the suffix."""
    recording_devices: list[str]
    cities: list[str]
    given_folds: list[str] | None
    """`train` or `test` for each file, or its fold; None if not given."""
    sources: list[str] | None = None
    """What the recording of each file comes from; None if not given."""


def strip_suffixes(files: Sequence[str]) -> list[str]:
    """Return the paths without their suffixes."""
    return [posixpath.splitext(file)[0] for file in files]


def read_listing(file: Path) -> Listing:
    """Read a table of recordings, and sort it by path; those without a label come last.

    Raises:
        CorpusError: A value is wrong; names the file, line and value, and what is expected.
    """
    several = _has_column_of_several(file)
    table = _read_recordings(file, ("path", SEVERAL) if several else REQUIRED, OPTIONAL)
    files = _check_paths(file, table["path"].to_pylist())
    scenes = _parse_several(file, table) if several else table["label"].to_pylist()
    recordings = _fill_column(table, "recording", strip_suffixes(files))
    given_folds = None
    if "split" in table.column_names:
        given_folds = _check_split(file, table["split"].to_pylist(), scenes)
        _refuse_divided_recordings(file, recordings, given_folds)
    sources = None
    if "source" in table.column_names:
        sources = _fill_column(table, "source", recordings)
        _refuse_second_sources(file, recordings, sources)
    unknown = [UNKNOWN] * len(files)
    columns = [
        files,
        scenes,
        recordings,
        _fill_column(table, "device", unknown),
        _fill_column(table, "city", unknown),
    ]
    order = sorted(range(len(files)), key=lambda row: (scenes[row] == UNLABELLED, files[row]))
    ordered = ([column[row] for row in order] for column in columns)
    return Listing(
        file.parent,
        *ordered,
        given_folds=given_folds and [given_folds[row] for row in order],
        sources=sources and [sources[row] for row in order],
    )


def read_pool_listing(file: Path) -> Listing:
    """Read a table of recordings for a pool, sorted by path: its labels and split are not read.

    Raises:
        CorpusError: A value is wrong; names the file, line and value, and what is expected.
    """
    label = SEVERAL if _has_column_of_several(file) else "label"
    table = _read_recordings(file, ("path",), (label, *OPTIONAL))
    files = _check_paths(file, table["path"].to_pylist())
    order = sorted(range(len(files)), key=files.__getitem__)
    unknown = [UNKNOWN] * len(files)
    columns = [
        files,
        [UNLABELLED] * len(files),
        _fill_column(table, "recording", strip_suffixes(files)),
        _fill_column(table, "device", unknown),
        _fill_column(table, "city", unknown),
    ]
    ordered = ([column[row] for row in order] for column in columns)
    return Listing(file.parent, *ordered, given_folds=None)


def _read_recordings(file: Path, required: Sequence[str], optional: Sequence[str]) -> pa.Table:
    table = read_table(file, required, optional, delimiters=",;\t", may_be_empty=("label", SEVERAL))
    if len(table) == 0:
        raise CorpusError(f"{file}: no line but the header, expected one for each recording")
    return table


def _has_column_of_several(file: Path) -> bool:
    """Return whether the table says that a clip may have several labels: a column `labels`."""
    if not file.is_file():
        return False
    names = re.split("[,;\t]", read_text(file).split("\n", 1)[0].lower())
    return SEVERAL in [name.strip(' "') for name in names]


def _parse_several(file: Path, table: pa.Table) -> list[str]:
    """Return the lists of labels of a column `labels`."""
    scenes = []
    for row, cell in enumerate(table[SEVERAL].to_pylist()):
        try:
            scenes.append(parse_labels(cell))
        except ValueError as error:
            line = find_line(file, row)
            raise CorpusError(f"{file}, line {line}: labels {cell!r} hold {error}") from error
    return scenes


def _fill_column(table: pa.Table, name: str, otherwise: Sequence[str]) -> list[str]:
    """Return a column's values, replaced by others where the column or a value is missing."""
    if name not in table.column_names:
        return list(otherwise)
    values = table[name].to_pylist()
    return [value or other for value, other in zip(values, otherwise, strict=True)]


def _check_paths(file: Path, written: list[str]) -> list[str]:
    """Return the normalised paths, which must be files below the table's folder."""
    paths = [posixpath.normpath(path) for path in written]
    for row, path in enumerate(paths):
        if path.startswith(("/", "../")) or path in (".", ".."):
            raise CorpusError(
                f"{file}, line {find_line(file, row)}: path {written[row]}, expected one below "
                f"{file.parent}, without that folder: class/name.wav"
            )
    refuse_repeated(file, pa.array(paths, pa.string()))
    # One listing per folder: asking for each file would take minutes over a network.
    folders = {posixpath.dirname(path) for path in paths}
    present = {path for folder in folders for path in _list_files(file.parent, folder)}
    absent = [row for row, path in enumerate(paths) if path not in present]
    if absent:
        raise CorpusError(
            f"{file}, line {find_line(file, absent[0])}: path {written[absent[0]]}, but there is no "
            f"such file in {file.parent} ({len(absent)} in all)"
        )
    return paths


def _list_files(root: Path, folder: str) -> list[str]:
    if not (root / folder).is_dir():
        return []
    with os.scandir(root / folder) as entries:
        return [posixpath.join(folder, entry.name) for entry in entries if not is_folder(entry)]


def _check_split(file: Path, words: list[str], scenes: list[str]) -> list[str]:
    """Return the column split in lower case, after checking its words; POOL where no label is."""
    lower = [word.lower() for word in words]
    ways = " or ".join("/".join(way) for way in WAYS_TO_SPLIT)
    for row, (word, scene) in enumerate(zip(lower, scenes, strict=True)):
        if scene == UNLABELLED and word not in ("", POOL):
            raise CorpusError(
                f"{file}, line {find_line(file, row)}: split {words[row]!r} without a label, expected "
                "a label, or no split: clips without one only teach"
            )
        if scene != UNLABELLED and not any(word in way for way in WAYS_TO_SPLIT):
            raise CorpusError(
                f"{file}, line {find_line(file, row)}: split {words[row]!r}, expected {ways}"
            )
    given_folds = [word or POOL for word in lower]
    used = set(given_folds) - {POOL}
    way = next((way for way in WAYS_TO_SPLIT if used <= {*way}), None)
    if way is None:
        row = next(
            row for row, word in enumerate(given_folds) if word not in (*WAYS_TO_SPLIT[1], POOL)
        )
        raise CorpusError(
            f"{file}, line {find_line(file, row)}: split {words[row]!r}, but others are "
            f"{'/'.join(sorted(used & {'fit', 'select'}))}; expected {ways} throughout"
        )
    missing = [word for word in way if word not in used]
    if missing:
        raise CorpusError(
            f"{file}: no line has split {missing[0]}, expected {ways}; without the column split, "
            "a fifth of the recordings become test recordings"
        )
    return given_folds


def _refuse_divided_recordings(
    file: Path, recordings: Sequence[str], given_folds: Sequence[str]
) -> None:
    """Refuse a recording in two folds, because its clips are nearly the same clip."""
    first: dict[str, int] = {}
    for row, recording in enumerate(recordings):
        if given_folds[row] == POOL:
            continue
        other = first.setdefault(recording, row)
        if given_folds[other] != given_folds[row]:
            raise CorpusError(
                f"{file}, line {find_line(file, row)}: recording {recording} is in "
                f"{given_folds[row]}, but line {find_line(file, other)} has it in "
                f"{given_folds[other]}; expected the same for all files of a recording"
            )


def _refuse_second_sources(file: Path, recordings: Sequence[str], sources: Sequence[str]) -> None:
    """Refuse a recording that comes from two sources: intervals could not draw them apart."""
    first: dict[str, int] = {}
    for row, recording in enumerate(recordings):
        other = first.setdefault(recording, row)
        if sources[other] != sources[row]:
            raise CorpusError(
                f"{file}, line {find_line(file, row)}: recording {recording} comes from source "
                f"{sources[row]}, but in line {find_line(file, other)} from {sources[other]}; expected "
                "the same for all files of a recording"
            )
