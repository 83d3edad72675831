"""A corpus of the user's own recordings: a folder of audio files per class, or a table of files.

    ROOT/<class>/<any name>.wav                   or .flac, .ogg, .mp3: what libsndfile reads
    ROOT/{train,test}/<class>/<any name>.wav      the same, with the test clips given
    ROOT/clips.csv                                path, label; if known, recording, device, split
                                                  and city. ROOT may also be such a file

Without a table, each file is a recording, and hidden files are skipped. In the table, `path` is
relative to its folder, and `split` holds either train and test, or fit, select and test. `clip_id`
is the path below ROOT without the suffix, because the files of different classes often have the
same names. Files of different durations are cut into clips of the same duration: `cuts.py`.

If no test clips are given, they are a fifth of each class's recordings. Split 100 is the rest, and
splits 50, 25, 10 and 5 are these percentages of each class's recordings, each split within the next
larger one. A split that would leave a class fewer than two recordings has no clips.
"""

import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa

from audio.clips import UNKNOWN, Corpus, build_clips_table
from audio.corpora import cuts, draw
from audio.corpora.listing import Listing, read_listing, strip_suffixes
from audio.errors import CorpusError
from audio.headers import read_headers
from audio.sound_folders import SUFFIXES, check_name, has_suffix, list_folder, show_name

logger = logging.getLogger(__name__)

TABLE = "clips.csv"


def read(root: Path) -> Corpus:
    """Return the corpus in `root`, in the order of its files' paths.

    Args:
        root: The folder, or a table in it.

    Raises:
        CorpusError: There is no such corpus, or none of the files can be read.
    """
    listing = _list_recordings(root)
    clip_ids = strip_suffixes(listing.files)
    _refuse_twins(listing.root, listing.files, clip_ids)
    if len(set(listing.scenes)) == 1:
        raise CorpusError(
            f"{root}: {listing.scenes[0]} is its only class, expected two or more; "
            "is it one folder too high or too low?"
        )
    folds = _draw_folds(root, listing)
    table = build_clips_table(listing.files, clip_ids, listing.scenes, listing.recordings, folds)
    for name, values in (
        ("city", listing.cities),
        ("recording_device", listing.recording_devices),
    ):
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(values, pa.string()))
    durations_s = read_headers(listing.root, listing.files).durations_s
    # The decoder reports files that cannot be read.
    readable_s = durations_s[durations_s >= cuts.SHORTEST_S]
    if len(readable_s) == 0:
        raise CorpusError(
            f"{listing.root / listing.files[0]}: cannot be read as audio, nor can any other of "
            f"the {len(listing.files)} files; repair or download them again"
        )
    clip_s = cuts.choose_clip_duration_s(readable_s)
    return Corpus(
        name="folder",
        root=listing.root,
        table=_cut_table(table, durations_s, clip_s),
        clip_duration_s=clip_s,
        reference_device=None,
    )


def _list_recordings(root: Path) -> Listing:
    if root.suffix.lower() == ".csv" and not root.is_dir():
        return read_listing(root)
    if (root / TABLE).is_file():
        return read_listing(root / TABLE)
    return _list_class_folders(root)


def _list_class_folders(root: Path) -> Listing:
    parts = ("test", "train") if _has_test_folder(root) else ("",)
    paths = [file for part in parts for file in list_class_files(root / part, SUFFIXES)]
    files = [path.relative_to(root) for path in paths]
    names = [file.as_posix() for file in files]
    unknown = [UNKNOWN] * len(files)
    given_folds = [file.parts[0] for file in files] if len(parts) == 2 else None
    scenes = [file.parent.name for file in files]
    return Listing(root, names, scenes, strip_suffixes(names), unknown, unknown, given_folds)


def _cut_table(table: pa.Table, durations_s: np.ndarray, clip_s: float) -> pa.Table:
    """Turn a table with one row per file into one with one row per clip."""
    files_M, starts_M = cuts.cut_files(durations_s, clip_s)
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


def _draw_folds(root: Path, listing: Listing) -> dict[int, list[str | None]]:
    """Return the fold of every file in each split that is possible."""
    recordings, scenes = np.array(listing.recordings), np.array(listing.scenes)
    if listing.given_folds is None:
        in_test = draw.draw_test_clips(recordings, scenes)
        _refuse_untrained_classes(root, scenes, in_test)
        return draw.draw_folds(recordings, scenes, in_test)
    given_folds = np.array(listing.given_folds)
    _refuse_lone_classes(root, scenes, given_folds)
    if "fit" in given_folds:
        return draw.draw_folds_within(recordings, scenes, given_folds)
    return draw.draw_folds(recordings, scenes, given_folds == "test")


def list_class_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """List the audio files below a folder by class and name, without hidden files.

    Args:
        folder: A folder that contains one folder per class.
        suffixes: Suffixes of audio files, in lower case; other files are skipped with a warning.

    Raises:
        CorpusError: There is no such folder, no class in it, no audio in a class, or a name that is
            not UTF-8.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder; expected one that holds a folder per class")
    classes, files = list_folder(folder)
    stray = [file for file in files if has_suffix(file, suffixes)]
    if stray or not classes:
        found = (
            f"{show_name(Path(stray[0].name))} lies next to the class folders"
            if stray
            else "no class folder"
        )
        raise CorpusError(f"{folder}: {found}; expected {folder}/<class>/<file>.wav")
    return [file for each in classes for file in _list_audio(each, suffixes)]


def _list_audio(class_folder: Path, suffixes: Collection[str]) -> list[Path]:
    check_name(class_folder)
    folders, files = list_folder(class_folder)
    if folders:
        raise CorpusError(
            f"{show_name(folders[0])}: a folder within a class; put its files into {class_folder} itself"
        )
    audio = [file for file in files if has_suffix(file, suffixes)]
    if not audio:
        raise CorpusError(
            f"{class_folder}: no audio in this class ({', '.join(sorted(suffixes))}); "
            "add some or remove the folder"
        )
    others = sorted(set(files) - set(audio))
    if others:
        logger.warning("%s: no audio file, skipped (%d in all)", show_name(others[0]), len(others))
    for file in audio:
        check_name(file)
    return audio


def _has_test_folder(root: Path) -> bool:
    """Return whether `train` and `test` lie between the root and the classes."""
    folders = {each.name: each for each in list_folder(root)[0]} if root.is_dir() else {}
    for folder in folders.values():
        check_name(folder)
    # A folder `train` that contains files is a class: the sound of trains.
    parts = [
        name for name in ("test", "train") if name in folders and list_folder(folders[name])[0]
    ]
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
                f"{root}: {twin} and {file} differ only in their suffix; rename or remove one"
            )


def _refuse_lone_classes(root: Path, scenes: np.ndarray, given_folds: np.ndarray) -> None:
    training = "fit" if "fit" in given_folds else "train"
    lone = sorted(set(scenes[given_folds == "test"]) ^ set(scenes[given_folds == training]))
    if lone:
        in_test = lone[0] in scenes[given_folds == "test"]
        lacks, has = (training, "test") if in_test else ("test", training)
        raise CorpusError(
            f"{root}: class {lone[0]} is in {has}, but not in {lacks} ({len(lone)} in all); "
            "every class must be in both"
        )


def _refuse_untrained_classes(root: Path, scenes: np.ndarray, in_test: np.ndarray) -> None:
    """Refuse a class without training clips: all classes in a test recording are test clips."""
    lacking = sorted(set(scenes) - set(scenes[~in_test]))
    if lacking:
        raise CorpusError(
            f"{root}: class {lacking[0]} occurs only in recordings that were drawn as test "
            f"recordings ({len(lacking)} in all); add a column split with train and test"
        )
