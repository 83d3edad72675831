"""A corpus of the user's own recordings: a folder of audio files per class, or a table of files.

    ROOT/<class>/<any name>.wav                   or .flac, .ogg, .mp3: what libsndfile reads
    ROOT/{train,test}/<class>/<any name>.wav      the same, with the test clips given
    ROOT/unlabelled/**/<any name>.wav             clips without labels, which only teach
    ROOT/clips.csv                                path, label; if known, recording, device, split,
                                                  city and source. ROOT may also be such a file;
                                                  clips without a label only teach. With a column
                                                  labels instead of label, a clip may have several,
                                                  or none of the classes: dog|rain, |

Without a table, each file is a recording, and hidden files are skipped. In the table, `path` is
relative to its folder, and `split` holds either train and test, or fit, select and test. `clip_id`
is the path below ROOT without the suffix, because the files of different classes often have the
same names. Files of different durations are cut into clips of the same duration: `cuts.py`. It is
chosen by the files with labels. Those without come last, and are in the fold `pool` of every split,
unless their recording (or its source) is one that judges in it.

If no test clips are given, they are a fifth of each class's recordings. Split 100 is the rest, and
splits 50, 25, 10 and 5 are these percentages of each class's recordings, each split within the next
larger one. A split that would leave a class fewer than two recordings has no clips. Of several
labels a clip, shares are of all recordings, as one may hold every class; a split in which a class has
no clip in `fit`, or in which `select` has no class or a single recording, has no clips.
"""

import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa

from audio.clips import POOL, SPLITS, UNKNOWN, UNLABELLED, Corpus, build_clips_table
from audio.corpora import cuts
from audio.corpora.listing import Listing, read_listing, read_pool_listing, strip_suffixes
from audio.corpora.own_folds import draw_own_folds
from audio.errors import CorpusError
from audio.headers import read_headers
from audio.several import find_classes
from audio.sound_folders import (
    SUFFIXES,
    check_name,
    has_suffix,
    list_folder,
    show_name,
    walk_sound_files,
)

logger = logging.getLogger(__name__)

TABLE = "clips.csv"
UNLABELLED_FOLDER = "unlabelled"


def read(root: Path) -> Corpus:
    """Return the corpus in `root`, in the order of its files' paths; those without labels last.

    Args:
        root: The folder, or a table in it.

    Raises:
        CorpusError: There is no such corpus, or none of the files can be read.
    """
    listing = _list_recordings(root)
    _check_classes(root, {*find_classes(listing.scenes)})
    durations_s = read_headers(listing.root, listing.files).durations_s
    labelled_N = np.array(listing.scenes) != UNLABELLED
    clip_s = cuts.choose_clip_duration_s(_find_readable(listing, durations_s, labelled_N))
    table = _make_table(listing, draw_own_folds(root, listing))
    return Corpus(
        name="folder",
        root=listing.root,
        table=_cut_table(table, durations_s, clip_s),
        clip_duration_s=clip_s,
        reference_device=None,
    )


def read_pool(root: Path, clip_duration_s: float) -> Corpus:
    """Return all sound below `root`, or in its table, as clips of this duration without labels.

    Raises:
        CorpusError: There is no sound, or none of the files can be read.
    """
    if (table := _find_table(root)) is not None:
        listing = read_pool_listing(table)
    else:
        if not root.is_dir():
            raise CorpusError(f"{root}: no such folder; expected one with sound files")
        listing = _list_without_labels(root, root)
    if not listing.files:
        suffixes = ", ".join(sorted(SUFFIXES))
        raise CorpusError(f"{root}: no sound file in it or in its folders ({suffixes})")
    durations_s = read_headers(listing.root, listing.files).durations_s
    _find_readable(listing, durations_s, np.ones(len(durations_s), dtype=bool))
    everything: list[str | None] = [POOL] * len(listing.files)
    table = _make_table(listing, dict.fromkeys(SPLITS, everything))
    return Corpus(
        name="folder",
        root=listing.root,
        table=_cut_table(table, durations_s, clip_duration_s),
        clip_duration_s=clip_duration_s,
        reference_device=None,
    )


def _make_table(listing: Listing, folds: dict[int, list[str | None]]) -> pa.Table:
    """Return the table of a corpus with one row per file."""
    clip_ids = strip_suffixes(listing.files)
    _refuse_twins(listing.root, listing.files, clip_ids)
    table = build_clips_table(listing.files, clip_ids, listing.scenes, listing.recordings, folds)
    for name, values in (
        ("city", listing.cities),
        ("recording_device", listing.recording_devices),
    ):
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(values, pa.string()))
    if listing.sources is not None:
        table = table.append_column("source", pa.array(listing.sources, pa.string()))
    return table


def _check_classes(root: Path, scenes: set[str]) -> None:
    if not scenes:
        raise CorpusError(f"{root}: no clip has a label, expected two classes or more")
    if len(scenes) == 1:
        raise CorpusError(
            f"{root}: {min(scenes)} is its only class, expected two or more; "
            "is it one folder too high or too low?"
        )


def _find_readable(listing: Listing, durations_s: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return the durations of those of some files that can be read; the decoder reports the others.

    Raises:
        CorpusError: There are none.
    """
    readable_s = durations_s[among & (durations_s >= cuts.SHORTEST_S)]
    if len(readable_s) == 0:
        first = listing.files[int(np.argmax(among))]
        raise CorpusError(
            f"{listing.root / first}: cannot be read as audio, nor can any other of "
            f"the {among.sum()} files; repair or download them again"
        )
    return readable_s


def _list_recordings(root: Path) -> Listing:
    table = _find_table(root)
    return _list_class_folders(root) if table is None else read_listing(table)


def _find_table(root: Path) -> Path | None:
    """Return the table that lists a corpus: the root itself, or one in it; None if there is none."""
    if root.suffix.lower() == ".csv" and not root.is_dir():
        return root
    return root / TABLE if (root / TABLE).is_file() else None


def _list_class_folders(root: Path) -> Listing:
    parts = ("test", "train") if _has_test_folder(root) else ("",)
    misplaced = [root / part / UNLABELLED_FOLDER for part in parts if part]
    for each in misplaced:
        if each.is_dir():
            raise CorpusError(f"{each}: clips without labels are in no split; move it to {root}")
    paths = [
        file
        for part in parts
        for file in list_class_files(root / part, SUFFIXES, no_classes=(UNLABELLED_FOLDER,))
    ]
    files = [path.relative_to(root) for path in paths]
    names = [file.as_posix() for file in files]
    unknown = [UNKNOWN] * len(files)
    given_folds = [file.parts[0] for file in files] if len(parts) == 2 else None
    scenes = [file.parent.name for file in files]
    labelled = Listing(root, names, scenes, strip_suffixes(names), unknown, unknown, given_folds)
    return _join(labelled, _list_without_labels(root, root / UNLABELLED_FOLDER))


def _list_without_labels(root: Path, folder: Path) -> Listing:
    """List all sound in a folder and its folders, below `root`, by path."""
    names = []
    # As texts: the paths of a million files take 400 MB.
    for path in walk_sound_files(folder) if folder.is_dir() else ():
        check_name(path)
        names.append(path.relative_to(root).as_posix())
    names.sort()
    unknown, none = [UNKNOWN] * len(names), [UNLABELLED] * len(names)
    return Listing(root, names, none, strip_suffixes(names), unknown, unknown, None)


def _join(labelled: Listing, others: Listing) -> Listing:
    given = labelled.given_folds
    return Listing(
        labelled.root,
        labelled.files + others.files,
        labelled.scenes + others.scenes,
        labelled.recordings + others.recordings,
        labelled.recording_devices + others.recording_devices,
        labelled.cities + others.cities,
        given and given + [POOL] * len(others.files),
    )


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


def list_class_files(
    folder: Path, suffixes: Collection[str], no_classes: Collection[str] = ()
) -> list[Path]:
    """List the audio files below a folder by class and name, without hidden files.

    Args:
        folder: A folder that contains one folder per class.
        suffixes: Suffixes of audio files, in lower case; other files are skipped with a warning.
        no_classes: Names of folders that are no classes.

    Raises:
        CorpusError: There is no such folder, no class in it, no audio in a class, or a name that is
            not UTF-8.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder; expected one that holds a folder per class")
    folders, files = list_folder(folder)
    classes = [each for each in folders if each.name not in no_classes]
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
    if parts and sorted(folders.keys() - {UNLABELLED_FOLDER}) != ["test", "train"]:
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
