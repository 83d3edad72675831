"""A folder of audio files per class, for recordings of one's own.

    ROOT/<class>/<any name>.wav                   or .flac, .ogg, .mp3: what libsndfile reads
    ROOT/{train,test}/<class>/<any name>.wav      the same, where it is settled what is tested on

A file is a clip and a recording of its own; all last as long as the first. `clip_id` is the path
below ROOT without the ending, since classes often number their files alike. Hidden files are
skipped.

Without `test`, a fifth of each class's recordings is the test fold. Split 100 is all the rest, and
splits 50, 25, 10 and 5 are so many percent of each class, each inside the next larger one; a split
that would leave a class fewer than two recordings has no clips. Who is taken is decided by hashes
of the names: the same on every machine, and hardly changed by new files.
"""

import hashlib
import logging
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
import soundfile

from audio.clips import SPLITS, Corpus, CorpusError, assign_folds, plain_table

logger = logging.getLogger(__name__)

SUFFIXES = frozenset(
    [".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64"]
    + [".snd", ".w64", ".wav"]
)
TEST_SHARE = 0.2
"""Share of each class's recordings that is tested on, where no folder says which."""
MIN_RECORDINGS = 2
"""Of each class in a split below 100: one to learn from, one for `select`."""


def read(root: Path) -> Corpus:
    """The corpus in `root`, in the order of its files' paths.

    Raises:
        CorpusError: the folders are not such a corpus, or none of the files can be read.
    """
    parts = ("test", "train") if _tells_test(root) else ("",)
    found = [file for part in parts for file in class_files(root / part, SUFFIXES)]
    files = [file.relative_to(root) for file in found]
    clip_ids = [file.with_suffix("").as_posix() for file in files]
    _refuse_twins(root, files, clip_ids)
    scenes = np.array([file.parent.name for file in files])
    if len(set(scenes)) == 1:
        raise CorpusError(
            f"{root}: {scenes[0]} is its only class, expected two or more; "
            "is it one folder too high or too low?"
        )
    in_test = np.array([len(parts) == 2 and file.parts[0] == "test" for file in files])
    if len(parts) == 2:
        _refuse_lone_classes(root, scenes, in_test)
    else:
        in_test = _draw_test(clip_ids, scenes)
    return Corpus(
        name="folder",
        root=root,
        table=plain_table(
            [file.as_posix() for file in files],
            clip_ids,
            scenes.tolist(),
            clip_ids,
            _folds(clip_ids, scenes, in_test),
        ),
        clip_duration_s=_first_duration_s(found),
        reference_device=None,
    )


def class_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The audio files of a folder of class folders, by class and name; hidden ones are skipped.

    Args:
        folder: holds a folder per class.
        suffixes: endings of audio files, in lower case; other files are said and not used.

    Raises:
        CorpusError: no such folder, no class in it, or a class folder that holds no audio.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder; expected one that holds a folder per class")
    classes, beside = _visible(folder)
    stray = [file for file in beside if file.suffix.lower() in suffixes]
    if stray or not classes:
        found = f"{stray[0].name} lies beside the class folders" if stray else "no class folder"
        raise CorpusError(f"{folder}: {found}; expected {folder}/<class>/<file>.wav")
    return [file for each in classes for file in _audio_files(each, suffixes)]


def _audio_files(class_folder: Path, suffixes: Collection[str]) -> list[Path]:
    folders, files = _visible(class_folder)
    if folders:
        raise CorpusError(
            f"{folders[0]}: a folder within a class; put its files into {class_folder} itself"
        )
    audio = [file for file in files if file.suffix.lower() in suffixes]
    if not audio:
        raise CorpusError(
            f"{class_folder}: no audio in this class ({', '.join(sorted(suffixes))}); "
            "add some or remove the folder"
        )
    others = sorted(set(files) - set(audio))
    if others:
        logger.warning("%s: no audio, not used (%d such files)", others[0], len(others))
    return audio


def _visible(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders and files in a folder, by name, but for hidden ones."""
    folders, files = [], []
    # Not Path.iterdir: with 76,000 files, a look at each would take seconds on a network disk.
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not entry.name.startswith("."):
                (folders if entry.is_dir() else files).append(Path(entry.path))
    return folders, files


def _tells_test(root: Path) -> bool:
    """Whether `train` and `test` lie between the root and the classes."""
    folders = {each.name: each for each in _visible(root)[0]} if root.is_dir() else {}
    # A folder of that name that holds files is a class: trains can be heard.
    parts = [name for name in ("test", "train") if name in folders and _visible(folders[name])[0]]
    if parts and sorted(folders) != ["test", "train"]:
        raise CorpusError(
            f"{root}: holds {', '.join(sorted(folders))} and {parts[0]} holds folders; expected "
            "train and test with a folder per class in each, or a folder per class alone"
        )
    return len(parts) == 2


def _refuse_twins(root: Path, files: list[Path], clip_ids: list[str]) -> None:
    first: dict[str, Path] = {}
    for file, clip_id in zip(files, clip_ids, strict=True):
        twin = first.setdefault(clip_id, file)
        if twin != file:
            raise CorpusError(
                f"{root}: {twin} and {file} differ in their ending alone; rename or remove one"
            )


def _refuse_lone_classes(root: Path, scenes: np.ndarray, in_test: np.ndarray) -> None:
    lone = sorted(set(scenes[in_test]) ^ set(scenes[~in_test]))
    if lone:
        lacks, has = ("train", "test") if lone[0] in scenes[in_test] else ("test", "train")
        raise CorpusError(
            f"{root}: class {lone[0]} is in {has}, but not in {lacks} ({len(lone)} such classes); "
            "every class must be in both"
        )


def _draw_test(clip_ids: list[str], scenes: np.ndarray) -> np.ndarray:
    """Which clips are tested on, bool [N]: one of each class at least, where there are two."""
    everything = np.ones(len(scenes), dtype=bool)
    place, total = _places(clip_ids, scenes, everything, purpose="test")
    count = np.where(total > 1, np.maximum(1, np.round(TEST_SHARE * total)), 0)
    return place < count


def _folds(
    clip_ids: list[str], scenes: np.ndarray, in_test: np.ndarray
) -> dict[int, list[str | None]]:
    """Fold of every clip in each split that there is."""
    # Not the order in which `select` is cut: else the small splits would all be its recordings.
    place, total = _places(clip_ids, scenes, ~in_test, purpose="split")
    folds = {}
    for split in SPLITS:
        count = np.round(total * split / 100)
        if split == 100 or count.min() >= MIN_RECORDINGS:
            in_split = ~in_test & (place < count)
            folds[split] = assign_folds(scenes, np.array(clip_ids), in_split, in_test)
    return folds


def _places(
    clip_ids: list[str], scenes: np.ndarray, among: np.ndarray, *, purpose: str
) -> tuple[np.ndarray, np.ndarray]:
    """Each clip's place in its class by the hash of its name, and how many are placed there.

    Args:
        clip_ids: what is hashed.
        scenes: class of each clip, [N].
        among: which clips are placed, bool [N].
        purpose: orders with different purposes have nothing in common.
    """
    digests = [hashlib.sha256(f"{purpose}/{clip_id}".encode()).digest() for clip_id in clip_ids]
    place, total = np.zeros(len(scenes), dtype=np.int64), np.zeros(len(scenes), dtype=np.int64)
    for scene in np.unique(scenes):
        rows = sorted(np.flatnonzero(among & (scenes == scene)), key=digests.__getitem__)
        place[rows] = np.arange(len(rows))
        total[scenes == scene] = len(rows)
    return place, total


def _first_duration_s(files: list[Path]) -> float:
    """How long the first readable file lasts, to the millisecond.

    Broken files before it are left for the decoder, which names them all.
    """
    for file in files:
        try:
            duration_s = round(soundfile.info(file).duration, 3)
        except (soundfile.LibsndfileError, OSError):
            continue
        if duration_s > 0:
            return duration_s
    raise CorpusError(
        f"{files[0]}: cannot be read as audio, nor can any other of the {len(files)} files; "
        "mend or fetch them again"
    )
