"""Recordings of one's own: a folder of audio files per class, or a table of files.

    ROOT/<class>/<any name>.wav                   or .flac, .ogg, .mp3: what libsndfile reads
    ROOT/{train,test}/<class>/<any name>.wav      the same, where it is settled what is tested on
    ROOT/clips.csv                                path, label; recording, device, split, city
                                                  if known. ROOT may be such a file itself

Without a table, a file is a recording of its own, and hidden files are skipped. In the table `path`
is relative to its folder, and `split` says train or test, or else fit, select or test. `clip_id` is
the path below ROOT without the ending, since classes often number their files alike. Files that
last differently become clips that last alike: `cuts.py`.

Where nobody says what is tested on, a fifth of each class's recordings is. Split 100 is all the
rest, and splits 50, 25, 10 and 5 are so many percent of each class's recordings, each inside the
next larger one; a split that would leave a class fewer than two recordings has no clips.
"""

import logging
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa

from audio import headers
from audio.clips import UNKNOWN, Corpus, CorpusError, plain_table
from audio.corpora import cuts, draw
from audio.corpora.listing import Listing, read_csv, stems

logger = logging.getLogger(__name__)

SUFFIXES = frozenset(
    [".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64"]
    + [".snd", ".w64", ".wav"]
)
TABLE = "clips.csv"


def read(root: Path) -> Corpus:
    """The corpus in `root`, in the order of its files' paths.

    Args:
        root: the folder, or a table in it.

    Raises:
        CorpusError: it holds no such corpus, or none of the files can be read.
    """
    listing = _listing(root)
    clip_ids = stems(listing.files)
    _refuse_twins(listing.root, listing.files, clip_ids)
    if len(set(listing.scenes)) == 1:
        raise CorpusError(
            f"{root}: {listing.scenes[0]} is its only class, expected two or more; "
            "is it one folder too high or too low?"
        )
    folds = _folds(root, listing)
    table = plain_table(listing.files, clip_ids, listing.scenes, listing.recordings, folds)
    for name, values in (
        ("city", listing.cities),
        ("recording_device", listing.recording_devices),
    ):
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(values, pa.string()))
    durations_s = headers.read(listing.root, listing.files).durations_s
    # Files that cannot be read are left for the decoder, which names them all.
    readable_s = durations_s[durations_s >= cuts.SHORTEST_S]
    if len(readable_s) == 0:
        raise CorpusError(
            f"{listing.root / listing.files[0]}: cannot be read as audio, nor can any other of "
            f"the {len(listing.files)} files; mend or fetch them again"
        )
    clip_s = cuts.clip_duration_s(readable_s)
    return Corpus(
        name="folder",
        root=listing.root,
        table=_cut(table, durations_s, clip_s),
        clip_duration_s=clip_s,
        reference_device=None,
    )


def _listing(root: Path) -> Listing:
    if root.suffix.lower() == ".csv" and not root.is_dir():
        return read_csv(root)
    if (root / TABLE).is_file():
        return read_csv(root / TABLE)
    return _class_folders(root)


def _class_folders(root: Path) -> Listing:
    parts = ("test", "train") if _tells_test(root) else ("",)
    found = [file for part in parts for file in class_files(root / part, SUFFIXES)]
    files = [file.relative_to(root) for file in found]
    names = [file.as_posix() for file in files]
    unknown = [UNKNOWN] * len(files)
    told = [file.parts[0] for file in files] if len(parts) == 2 else None
    scenes = [file.parent.name for file in files]
    return Listing(root, names, scenes, stems(names), unknown, unknown, told)


def _cut(table: pa.Table, durations_s: np.ndarray, clip_s: float) -> pa.Table:
    """From a row a file to a row a clip."""
    files_M, starts_M = cuts.cut(durations_s, clip_s)
    if np.isnan(starts_M).all():
        return table
    of_file_N = np.bincount(files_M)
    ids = [
        f"{name}@{start_s:.3f}" if of_file_N[file] > 1 else name
        for name, file, start_s in zip(
            table["clip_id"].take(files_M).to_pylist(), files_M, starts_M, strict=True
        )
    ]
    clips = table.take(files_M)
    clips = clips.set_column(0, "row", pa.array(np.arange(len(ids), dtype=np.int32)))
    clips = clips.set_column(1, "clip_id", pa.array(ids, pa.string()))
    return clips.append_column("start_s", pa.array(starts_M, from_pandas=True))


def _folds(root: Path, listing: Listing) -> dict[int, list[str | None]]:
    """Fold of every file in each split that there is."""
    recordings, scenes = np.array(listing.recordings), np.array(listing.scenes)
    if listing.told is None:
        in_test = draw.test_clips(recordings, scenes)
        _refuse_untaught(root, scenes, in_test)
        return draw.folds(recordings, scenes, in_test)
    told = np.array(listing.told)
    _refuse_lone_classes(root, scenes, told)
    if "fit" in told:
        return draw.folds_within(recordings, scenes, told)
    return draw.folds(recordings, scenes, told == "test")


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


def _refuse_twins(root: Path, files: list[str], clip_ids: list[str]) -> None:
    first: dict[str, str] = {}
    for file, clip_id in zip(files, clip_ids, strict=True):
        twin = first.setdefault(clip_id, file)
        if twin != file:
            raise CorpusError(
                f"{root}: {twin} and {file} differ in their ending alone; rename or remove one"
            )


def _refuse_lone_classes(root: Path, scenes: np.ndarray, told: np.ndarray) -> None:
    learnt = "fit" if "fit" in told else "train"
    lone = sorted(set(scenes[told == "test"]) ^ set(scenes[told == learnt]))
    if lone:
        in_test = lone[0] in scenes[told == "test"]
        lacks, has = (learnt, "test") if in_test else ("test", learnt)
        raise CorpusError(
            f"{root}: class {lone[0]} is in {has}, but not in {lacks} ({len(lone)} such classes); "
            "every class must be in both"
        )


def _refuse_untaught(root: Path, scenes: np.ndarray, in_test: np.ndarray) -> None:
    """A recording that is tested on for one class is so for all that are heard in it."""
    untaught = sorted(set(scenes) - set(scenes[~in_test]))
    if untaught:
        raise CorpusError(
            f"{root}: class {untaught[0]} is heard only in recordings that other classes are "
            f"tested on ({len(untaught)} such classes); say train and test in a column split"
        )
