"""CochlScene as it is published: about 76,000 clips of 10 s from 831 people's phones.

    ROOT/{Train,Val,Test}/<Class>/<Class>_user<id>_<recording>_<part>.wav
    ROOT/Data_info.tsv             path  class index  Train|Val|Test     (tabs, no header needed)

Train is `fit`, Val is `select` and Test is `test` of split 100, the only one. Without Val, some of
Train's recordings become `select`. Classes, Val and Test may be left out; Data_info.tsv too: the
folders say it all, and may not contradict it. Source: Zenodo 7080122; Jeong and Park 2022,
arXiv:2211.02289.
"""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

import numpy as np

from audio.clips import Corpus, CorpusError, assign_folds, plain_table
from audio.corpora.folder import class_files

PARTS = {"Train": "fit", "Val": "select", "Test": "test"}
SCENES = (
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
    """The corpus in `root`: Train, Val, Test, and in each by class and name.

    Raises:
        CorpusError: a folder or file is not where or what it should be, or Data_info.tsv says
            something else.
    """
    parts = [part for part in PARTS if part == "Train" or (root / part).is_dir()]
    found = [file for part in parts for file in class_files(root / part, {".wav"})]
    files = [file.relative_to(root).as_posix() for file in found]
    recordings = [_recording(file) for file in found]
    _refuse_leaks(root, files, recordings)
    if (root / "Data_info.tsv").exists():
        _refuse_contradictions(root / "Data_info.tsv", files)
    scenes = [file.parent.name for file in found]
    return Corpus(
        name="cochlscene",
        root=root,
        table=plain_table(
            files,
            [file.stem for file in found],
            scenes,
            recordings,
            {100: _folds(files, scenes, recordings)},
        ),
        clip_duration_s=CLIP_DURATION_S,
        reference_device=None,
    )


def _recording(file: Path) -> str:
    """Whose recording a file was cut from, and which: `user0419_14867701`."""
    scene = file.parent.name
    if scene not in SCENES:
        nearest = difflib.get_close_matches(scene, SCENES, n=1, cutoff=0)[0]
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
    """No recording may be in two folds: its clips are nearly the same clip."""
    first: dict[str, str] = {}
    for file, recording in zip(files, recordings, strict=True):
        other = first.setdefault(recording, file)
        if _part(other) != _part(file):
            raise CorpusError(
                f"{root}: {other} and {file} are of one recording, {recording}; Train, Val and "
                "Test may share none: move or remove its clips"
            )


def _folds(files: list[str], scenes: list[str], recordings: list[str]) -> list[str | None]:
    """Fold of every clip in split 100."""
    folds: list[str | None] = [PARTS[_part(file)] for file in files]
    if "select" in folds:
        return folds
    in_test = np.array([fold == "test" for fold in folds])
    return assign_folds(np.array(scenes), np.array(recordings), ~in_test, in_test)


def _part(file: str) -> str:
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
    """Data_info.tsv must say of each file what its folders say, and name them all."""
    place = {PurePosixPath(file).name: PurePosixPath(file) for file in files}
    folders = {path.parts[:2] for path in place.values()}
    scene_of: dict[str, str] = {}
    index_of: dict[str, str] = {}
    unnamed = dict.fromkeys(place)
    for line in _lines(info):
        path = place.get(line.path.name)
        if path is not None:
            _refuse_other_place(info, line, path)
            _refuse_other_index(info, line, scene_of, index_of)
            unnamed.pop(path.name, None)
        # Whole folders may be left out: a subset is a corpus too.
        elif (line.part, line.scene) in folders:
            _contradicts(info, line, f"{line.path} in {line.part}", "there is no such file")
    if unnamed:
        raise CorpusError(
            f"{info}: does not name {place[next(iter(unnamed))]} ({len(unnamed)} such files); "
            f"remove them, or {info.name} to go by the folders alone"
        )


def _lines(info: Path) -> list[_Line]:
    try:
        text = info.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{info}: not a tab-separated table: {error}") from error
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split("\t")
        if number == 1 and len(fields) == 3 and not fields[1].isdigit():
            continue  # whether the published file begins with a header is not known
        if len(fields) != 3 or not fields[1].isdigit() or fields[2] not in PARTS:
            raise CorpusError(
                f"{info}, line {number}: {line!r}, expected path, class index and one of "
                f"{', '.join(PARTS)}, with tabs between them"
            )
        lines.append(_Line(number, PurePosixPath(fields[0]), fields[1], fields[2]))
    return lines


def _refuse_other_place(info: Path, line: _Line, path: PurePosixPath) -> None:
    """The line's path may begin above Train, Val and Test, or below."""
    told = line.path.parts[-3:]
    if line.part != path.parts[0] or told != path.parts[-len(told) :]:
        _contradicts(info, line, f"{line.path} in {line.part}", f"it lies at {path}")


def _refuse_other_index(
    info: Path, line: _Line, scene_of: dict[str, str], index_of: dict[str, str]
) -> None:
    """One class, one index: where the count begins is not known."""
    scene = scene_of.setdefault(line.index, line.scene)
    index = index_of.setdefault(line.scene, line.index)
    if scene != line.scene or index != line.index:
        says = f"class index {line.index} for {line.scene}"
        but = f"{line.index} was {scene}" if scene != line.scene else f"{scene} was {index}"
        _contradicts(info, line, says, f"earlier {but}")


def _contradicts(info: Path, line: _Line, says: str, but: str) -> NoReturn:
    raise CorpusError(
        f"{info}, line {line.number}: says {says}, but {but}; mend the folders, or remove "
        f"{info.name} to go by them alone"
    )
