"""The evaluation sets of DCASE 2024 and 2025 task 1: unlabelled clips that a submission classifies.

    ROOT/audio/<n>.wav                            n = 0 ... 135729
    ROOT/evaluation_setup/fold1_test.csv          filename: audio/<n>.wav, in any order

An earlier description of the challenge calls the list meta.csv, which is accepted too. That of 2025 has a
second column, device_id: the recording device, which is known for all clips.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pyarrow as pa

from audio.clips import UNKNOWN, Corpus, build_clips_table
from audio.corpora.tables import read_text
from audio.errors import CorpusError

FOLDER = "TAU-urban-acoustic-scenes-2024-mobile-evaluation"
"""Folder name as published, next to that of the development set."""
FOLDER_OF_2025 = "TAU-urban-acoustic-scenes-2025-mobile-evaluation"
N_CLIPS = 135_730
LISTS = ("evaluation_setup/fold1_test.csv", "meta.csv")
_HEADER, _DEVICE = "filename", "device_id"

_FILE = re.compile(r"audio/(0|[1-9][0-9]*)\.wav")


def read(root: Path, n_clips: int = N_CLIPS) -> Corpus:
    """Return the clips in `root` in the order of their numbers, in no fold, with scene `UNKNOWN`.

    Args:
        root: Folder of the evaluation set.
        n_clips: Number of clips; other numbers than the challenge's are for tests.

    Raises:
        CorpusError: A file is missing or malformed, or the list does not hold 0 ... n_clips - 1.
    """
    numbers = _read_numbers(_find_list(root), n_clips)
    files = [f"audio/{number}.wav" for number in sorted(numbers)]
    _refuse_absent(root, files)
    ids = [Path(file).stem for file in files]
    table = build_clips_table(files, ids, [UNKNOWN] * len(ids), ids, {})
    return Corpus(name="tau_evaluation", root=root, table=table)


def read_with_devices(root: Path) -> Corpus:
    """Return the clips of the evaluation set of 2025 in `root`, in the order of its list.

    Args:
        root: Folder of the evaluation set.

    Raises:
        CorpusError: A file is missing or malformed, or a clip is listed twice.
    """
    file = _find_list(root)
    header, *lines = read_text(file).splitlines() or [""]
    if header.split("\t") != [_HEADER, _DEVICE]:
        _refuse(file, 1, header, f"the columns {_HEADER} and {_DEVICE}, with a tab between them")
    device_of: dict[str, str] = {}
    for line, text in enumerate(lines, start=2):
        name, _, recording_device = text.partition("\t")
        if not _FILE.fullmatch(name) or not recording_device or "\t" in recording_device:
            _refuse(file, line, text, "audio/<n>.wav, a tab and a recording device")
        if name in device_of:
            raise CorpusError(f"{file}, line {line}: {name} is there twice")
        device_of[name] = recording_device
    if not device_of:
        raise CorpusError(f"{file}: lists no clip")
    files = list(device_of)
    _refuse_absent(root, files)
    ids = [Path(each).stem for each in files]
    table = build_clips_table(files, ids, [UNKNOWN] * len(ids), ids, {})
    place = table.column_names.index("recording_device")
    devices = pa.array(device_of.values(), pa.string())
    table = table.set_column(place, "recording_device", devices)
    return Corpus(name="tau_evaluation", root=root, table=table)


def _find_list(root: Path) -> Path:
    for name in LISTS:
        if (root / name).is_file():
            return root / name
    raise CorpusError(
        f"{root}: neither {' nor '.join(LISTS)} is there; expected the evaluation set as "
        f"published in {FOLDER}, with audio/0.wav and so on"
    )


def _read_numbers(file: Path, n_clips: int) -> set[int]:
    """Return the numbers in a list, which must be 0 ... n_clips - 1, each once."""
    header, *lines = read_text(file).splitlines() or [""]
    if header != _HEADER:
        _refuse(file, 1, ", ".join(header.split("\t")), f"the one column {_HEADER}")
    line_of: dict[int, int] = {}
    for line, text in enumerate(lines, start=2):
        found = _FILE.fullmatch(text)
        if not found or int(found[1]) >= n_clips:
            _refuse(file, line, text, f"audio/<n>.wav with n = 0 ... {n_clips - 1}")
        first = line_of.setdefault(int(found[1]), line)
        if first != line:
            raise CorpusError(f"{file}, line {line}: {text} is in line {first} already")
    absent = sorted(set(range(n_clips)) - set(line_of))
    if absent:
        raise CorpusError(
            f"{file}: lists {len(line_of):,} clips, expected {n_clips:,}; the first missing one "
            f"is audio/{absent[0]}.wav"
        )
    return set(line_of)


def _refuse(file: Path, line: int, value: str, expected: str) -> NoReturn:
    raise CorpusError(f"{file}, line {line}: {value!r}, expected {expected}")


def _refuse_absent(root: Path, files: Sequence[str]) -> None:
    # One listing: asking for each file would take seconds on a disk and minutes over a network.
    present = {f"audio/{file.name}" for file in (root / "audio").glob("*.wav")}
    absent = [file for file in files if file not in present]
    if absent:
        raise CorpusError(
            f"{root}: {len(absent):,} of {len(files):,} clips are missing, the first is "
            f"{absent[0]}; a submission classifies all of them, so download these again"
        )
