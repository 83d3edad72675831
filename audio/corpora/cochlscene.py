"""CochlScene as published: about 76,000 clips of 10 s, recorded with the phones of 831 people.

    ROOT/{Train,Val,Test}/<Class>/<Class>_user<id>_<recording>_<part>.wav
    ROOT/Data_info.tsv             path  class index  Train|Val|Test     (tabs, no header needed)

Train is `fit`, Val is `select` and Test is `test` of split 100, the only one. Without Val, some of
Train's recordings become `select`. Classes, Val and Test may be missing. Data_info.tsv may be
missing too, because the folders hold the same information; if it is there, it must agree with them.
Source: Zenodo 7080122; Jeong and Park 2022, arXiv:2211.02289.
"""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

import numpy as np

from audio.clips import Corpus, assign_folds, build_clips_table
from audio.corpora.folder import list_class_files
from audio.corpora.tables import read_text
from audio.errors import CorpusError

PARTS = {"Train": "fit", "Val": "select", "Test": "test"}
_SCENES = (
    "Bus",
    "Cafe",
    "Car",
    "CrowdedIndoor",
    "Elevator",
    "Kitchen",
    "Park",
    "ResidentialArea",
    "Restaurant",
    "Restroom",
    "Street",
    "Subway",
    "SubwayStation",
)
CLIP_DURATION_S = 10.0

_NAME = re.compile(r"(?P<scene>[A-Za-z]+)_(?P<recording>user[^_]+_[^_]+)_[^_]+\.wav")


def read(root: Path) -> Corpus:
    """Return the corpus in `root`: Train, Val and Test, each in the order of classes and names.

    Raises:
        CorpusError: A folder or file has the wrong place or name, or Data_info.tsv contradicts it.
    """
    parts = [part for part in PARTS if part == "Train" or (root / part).is_dir()]
    paths = [file for part in parts for file in list_class_files(root / part, {".wav"})]
    files = [file.relative_to(root).as_posix() for file in paths]
    recordings = [_parse_recording(file) for file in paths]
    _refuse_leaks(root, files, recordings)
    if (root / "Data_info.tsv").exists():
        _refuse_contradictions(root / "Data_info.tsv", files)
    scenes = [file.parent.name for file in paths]
    return Corpus(
        name="cochlscene",
        root=root,
        table=build_clips_table(
            files,
            [file.stem for file in paths],
            scenes,
            recordings,
            {100: _choose_folds(files, scenes, recordings)},
        ),
        clip_duration_s=CLIP_DURATION_S,
        reference_device=None,
    )


def _parse_recording(file: Path) -> str:
    """Return the recording that a file was cut from, with its user: `user0419_14867701`."""
    scene = file.parent.name
    if scene not in _SCENES:
        nearest = difflib.get_close_matches(scene, _SCENES, n=1, cutoff=0)[0]
        raise CorpusError(
            f"{file.parent}: CochlScene has no class {scene}, the nearest is {nearest}; "
            "rename or remove the folder, or read your own classes with --corpus folder"
        )
    match = _NAME.fullmatch(file.name)
    if not match or match["scene"] != scene:
        raise CorpusError(
            f"{file}: expected a name like {scene}_user0419_14867701_002.wav; "
            "move, rename or remove it"
        )
    return match["recording"]


def _refuse_leaks(root: Path, files: list[str], recordings: list[str]) -> None:
    """Refuse a recording in two folds, because its clips are nearly the same clip."""
    first: dict[str, str] = {}
    for file, recording in zip(files, recordings, strict=True):
        other = first.setdefault(recording, file)
        if _find_part(other) != _find_part(file):
            raise CorpusError(
                f"{root}: {other} and {file} are of one recording, {recording}; Train, Val and "
                "Test may not share a recording: move or remove its clips"
            )


def _choose_folds(files: list[str], scenes: list[str], recordings: list[str]) -> list[str | None]:
    """Return the fold of every clip in split 100."""
    folds: list[str | None] = [PARTS[_find_part(file)] for file in files]
    if "select" in folds:
        return folds
    in_test = np.array([fold == "test" for fold in folds])
    return assign_folds(np.array(scenes), np.array(recordings), ~in_test, in_test)


def _find_part(file: str) -> str:
    return file.split("/", 1)[0]


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of Data_info.tsv."""

    number: int
    path: PurePosixPath
    index: str
    part: str

    @property
    def scene(self) -> str:
        return self.path.name.split("_", 1)[0]


def _refuse_contradictions(info: Path, files: list[str]) -> None:
    """Refuse a Data_info.tsv that contradicts the folders or does not name all files."""
    path_of = {PurePosixPath(file).name: PurePosixPath(file) for file in files}
    folders = {path.parts[:2] for path in path_of.values()}
    scene_of: dict[str, str] = {}
    index_of: dict[str, str] = {}
    unnamed = dict.fromkeys(path_of)
    for line in _read_lines(info):
        path = path_of.get(line.path.name)
        if path is not None:
            _refuse_other_place(info, line, path)
            _refuse_other_index(info, line, scene_of, index_of)
            unnamed.pop(path.name, None)
        # Whole folders may be missing: a subset is a corpus too.
        elif (line.part, line.scene) in folders:
            _refuse_line(info, line, f"{line.path} in {line.part}", "there is no such file")
    if unnamed:
        raise CorpusError(
            f"{info}: does not name {path_of[next(iter(unnamed))]} ({len(unnamed)} in all); "
            f"remove them, or remove {info.name} to use the folders alone"
        )


def _read_lines(info: Path) -> list[_Line]:
    lines = []
    for number, line in enumerate(read_text(info).splitlines(), start=1):
        fields = line.split("\t")
        if number == 1 and len(fields) == 3 and not fields[1].isdigit():
            continue  # it is not known whether the published file begins with a header
        if len(fields) != 3 or not fields[1].isdigit() or fields[2] not in PARTS:
            raise CorpusError(
                f"{info}, line {number}: {line!r}, expected path, class index and one of "
                f"{', '.join(PARTS)}, with tabs between them"
            )
        lines.append(_Line(number, PurePosixPath(fields[0]), fields[1], fields[2]))
    return lines


def _refuse_other_place(info: Path, line: _Line, path: PurePosixPath) -> None:
    """Refuse another place; the line's path may begin above or below Train, Val and Test."""
    parts = line.path.parts[-3:]
    if line.part != path.parts[0] or parts != path.parts[-len(parts) :]:
        _refuse_line(info, line, f"{line.path} in {line.part}", f"it lies at {path}")


def _refuse_other_index(
    info: Path, line: _Line, scene_of: dict[str, str], index_of: dict[str, str]
) -> None:
    """Refuse two indices for one class; it is not known where the count begins."""
    scene = scene_of.setdefault(line.index, line.scene)
    index = index_of.setdefault(line.scene, line.index)
    if scene != line.scene or index != line.index:
        says = f"class index {line.index} for {line.scene}"
        but = f"{line.index} was {scene}" if scene != line.scene else f"{scene} was {index}"
        _refuse_line(info, line, says, f"earlier {but}")


def _refuse_line(info: Path, line: _Line, says: str, but: str) -> NoReturn:
    raise CorpusError(
        f"{info}, line {line.number}: says {says}, but {but}; correct the folders, or "
        f"remove {info.name} to use them alone"
    )
