"""TAU Urban Acoustic Scenes 2022 Mobile, and other corpora in its layout.

    ROOT/audio/<scene>-<city>-<location>-<segment>-<cut>-<recording device>.wav
    ROOT/meta.csv                    filename  scene_label  identifier  source_label    (tabs)
    ROOT/split_setup/split{5,10,25,50,100}.csv, test.csv        filename  scene_label   (tabs)

`split_setup` may also lie next to ROOT. Without it, the official lists are used, which are part of
the project. Source: Zenodo 6337421; lists of the DCASE 2024 task 1 baseline.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audio.clips import SPLITS, Corpus, assign_folds
from audio.corpora.tables import read_table, refuse_repeated
from audio.errors import CorpusError

META_COLUMNS = ("filename", "scene_label", "identifier", "source_label")
LIST_COLUMNS = ("filename", "scene_label")
OFFICIAL_LISTS = Path(__file__).parent / "tau_splits"


def read(root: Path, name: str = "tau") -> Corpus:
    """Return the corpus in `root`, in the order of its meta.csv.

    Raises:
        CorpusError: A file is missing or malformed, or the lists and meta.csv disagree.
    """
    meta_file = root / "meta.csv"
    meta = read_table(meta_file, META_COLUMNS)
    refuse_repeated(meta_file, meta["filename"])
    lists = _find_lists_folder(root)
    in_splits = {split: _read_list(lists, f"split{split}", meta_file, meta) for split in SPLITS}
    in_test = _read_list(lists, "test", meta_file, meta)
    if in_test is None or all(in_split is None for in_split in in_splits.values()):
        raise CorpusError(
            f"{lists}: needs test.csv and at least one of split5.csv ... split100.csv"
        )
    files = meta["filename"].to_pylist()
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "row": pa.array(np.arange(len(files), dtype=np.int32)),
        "clip_id": pa.array([Path(file).stem for file in files]),
        "file": meta["filename"],
        "scene": meta["scene_label"],
        "recording": meta["identifier"],
        "city": pc.list_element(pc.split_pattern(meta["identifier"], "-", max_splits=1), 0),
        "recording_device": meta["source_label"],
    }
    refuse_repeated(meta_file, columns["clip_id"])
    scenes, recordings = meta["scene_label"].to_numpy(), meta["identifier"].to_numpy()
    for split, in_split in in_splits.items():
        columns[f"fold_{split}"] = pa.nulls(len(files), pa.string())
        if in_split is not None:
            _refuse_leaks(lists / f"split{split}.csv", files, recordings, in_split, in_test)
            folds = assign_folds(scenes, recordings, in_split, in_test)
            columns[f"fold_{split}"] = pa.array(folds, pa.string())
    return Corpus(name=name, root=root, table=pa.table(columns))


def _find_lists_folder(root: Path) -> Path:
    for folder in (root / "split_setup", root.parent / "split_setup"):
        if folder.is_dir():
            return folder
    return OFFICIAL_LISTS


def _read_list(folder: Path, name: str, meta_file: Path, meta: pa.Table) -> np.ndarray | None:
    """Return which rows of meta.csv a split list names, bool [N]; None if there is no such list."""
    if folder == OFFICIAL_LISTS and name == "split100":
        file, listed = _build_official_split100()
    else:
        file = folder / f"{name}.csv{'.gz' if folder == OFFICIAL_LISTS else ''}"
        if not file.is_file():
            return None
        listed = read_table(file, LIST_COLUMNS)
    refuse_repeated(file, listed["filename"])
    rows = pc.index_in(listed["filename"], meta["filename"].combine_chunks())
    absent = np.flatnonzero(pc.is_null(rows).to_numpy())
    if len(absent):
        value = listed["filename"][int(absent[0])]
        raise CorpusError(
            f"{file}, line {absent[0] + 2}: {value} is not in {meta_file} "
            f"({len(absent)} in all); a list may only name clips of its own corpus"
        )
    differs = pc.not_equal(listed["scene_label"], meta["scene_label"].take(rows)).to_numpy()
    if differs.any():
        line = int(np.flatnonzero(differs)[0])
        raise CorpusError(
            f"{file}, line {line + 2}: scene_label {listed['scene_label'][line]} of "
            f"{listed['filename'][line]}, but {meta_file} says "
            f"{meta['scene_label'][rows[line].as_py()]}"
        )
    in_list = np.zeros(len(meta), dtype=bool)
    in_list[rows.to_numpy()] = True
    return in_list


def _build_official_split100() -> tuple[Path, pa.Table]:
    """Build split 100 from the training list of TAU 2020 Mobile: ten clips per 10 s recording."""
    file = OFFICIAL_LISTS / "m20_train.csv.gz"
    recordings = read_table(file, LIST_COLUMNS)
    names, scenes = [], []
    for name, scene in zip(
        *(recordings[column].to_pylist() for column in LIST_COLUMNS), strict=True
    ):
        stem, device = name.removesuffix(".wav").rsplit("-", 1)
        names += [f"{stem}-{cut}-{device}.wav" for cut in range(10)]
        scenes += [scene] * 10
    return file, pa.table({"filename": names, "scene_label": scenes})


def _refuse_leaks(
    file: Path, files: list[str], recordings: np.ndarray, in_split: np.ndarray, in_test: np.ndarray
) -> None:
    """Refuse a recording in training and test, because its clips are nearly the same clip."""
    test = set(recordings[in_test])
    is_test = np.fromiter((recording in test for recording in recordings), bool, len(recordings))
    leaking = np.flatnonzero(in_split & is_test)
    if len(leaking):
        row = int(leaking[0])
        raise CorpusError(
            f"{file}: {files[row]} belongs to recording {recordings[row]}, which is in test.csv "
            f"as well ({len(leaking)} in all); train and test may not share a recording"
        )
