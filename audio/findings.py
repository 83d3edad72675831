"""Describe a corpus in words: its files, its clips, and what is wrong with them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from audio.clips import LABELLED_FOLDS, POOL, SPLITS, Corpus
from audio.headers import Headers, read_headers
from audio.inspection import CLIPPED_SHARE, SILENT_DB, Inspection
from audio.lengths import TOLERANCE
from terminal.console import UserError, console

NEEDED = 3
"""Fewest recordings of a class that is in all folds."""
NAMES_SHOWN = 5
"""Number of clips, values or groups that a description names."""


def count_clips(corpus: Corpus) -> Counter[str]:
    """Count the clips of each scene."""
    scenes = corpus.scenes
    return Counter(scenes[label] for label in corpus.find_labels()[1].tolist())


def count_recordings(corpus: Corpus) -> Counter[str]:
    """Count the recordings of each scene."""
    scenes, (rows, classes) = corpus.scenes, corpus.find_labels()
    pairs = set(zip(classes.tolist(), corpus.column("recording")[rows], strict=True))
    return Counter(scenes[label] for label, _ in pairs)


def find_training_splits(corpus: Corpus) -> list[int]:
    """Return the splits that have training clips."""
    return [s for s in SPLITS if "fit" in corpus.table[f"fold_{s}"].unique().to_pylist()]


def find_complete_splits(corpus: Corpus) -> list[int]:
    """Return the splits that have clips to train on, to select by and to test on."""
    return [split for split in SPLITS if not _find_empty_folds(corpus, split)]


def check_splits(corpus: Corpus) -> None:
    """Make sure that there is a split to train on, to select by and to test on.

    Raises:
        UserError: There is none; names the classes with too few recordings.
    """
    if find_complete_splits(corpus):
        return
    split = max(find_training_splits(corpus), default=100)
    raise UserError(
        f"no split can be learnt from: split {split} has no clip in "
        f"{' and '.join(_find_empty_folds(corpus, split))}; {_describe_need(corpus)}"
    )


def describe_gaps(corpus: Corpus) -> list[str]:
    """Describe the classes that have no clip in some fold of a complete split, a line for each fold."""
    lines = []
    scenes, (rows, classes) = np.array(corpus.scenes), corpus.find_labels()
    for split in find_complete_splits(corpus):
        folds = corpus.column(f"fold_{split}")
        for fold in LABELLED_FOLDS:
            present = set(scenes[classes[folds[rows] == fold]])
            if lacking := sorted(set(scenes) - present):
                lines.append(
                    f"split {split} has no clip of {_list_some(lacking)} in {fold}; "
                    f"{_describe_need(corpus, lacking)}"
                )
    return lines


def describe_files(corpus: Corpus, sample_rate: int) -> dict[str, str]:
    """Describe sample rates, channels and lengths of the files, and the clips made from them."""
    files = corpus.table["file"].unique().to_pylist()
    headers = read_headers(corpus.root, files)
    counts = count_clips(corpus)
    (largest, most), *_, (smallest, least) = counts.most_common()
    n_recordings = len(np.unique(corpus.column("recording")))
    n_unlabelled = int(corpus.find_unlabelled().sum())
    unlabelled = f"; {n_unlabelled:,} of them without a label" if n_unlabelled else ""
    mixed_down = "; decoded to their mean" if headers.channels.max() > 1 else ""
    return {
        "clips": f"{len(corpus):,} of {len(counts)} classes, in {len(files):,} files of "
        f"{n_recordings:,} recordings{unlabelled}",
        "imbalance": f"{most / least:.1f} ({largest} {most:,} clips, {smallest} {least:,})",
        "recording devices": _count_values(corpus.column("recording_device")),
        "sample rates": f"{_count_values(headers.sample_rate, ' Hz')}; decoded to {sample_rate:,} Hz",
        "channels": f"{_count_values(headers.channels)}{mixed_down}",
        "lengths": _describe_lengths(headers),
        "a clip lasts": f"{corpus.clip_duration_s:g} s{_describe_cuts(corpus, headers)}",
    }


def describe_clips(
    corpus: Corpus, inspection: Inspection, same: Sequence[Sequence[int]]
) -> dict[str, str]:
    """Describe clips that are clipped, silent, or the same as others; name the worst of each."""
    return {
        "clipping": _describe_group(
            f"with {CLIPPED_SHARE:.1%} or more of their samples at full scale",
            [
                f"{_name_clip(corpus, row)} ({inspection.full_scale_share[row]:.1%})"
                for row in inspection.find_clipped()
            ],
        ),
        "silence": _describe_group(
            f"below {SILENT_DB:.0f} dB of full scale",
            [
                f"{_name_clip(corpus, row)} ({_format_level(inspection.level_db[row])})"
                for row in inspection.find_silent()
            ],
        ),
        "duplicates": _describe_group(
            "times the same audio",
            [" = ".join(_name_clip(corpus, row) for row in rows[:NAMES_SHOWN]) for rows in same],
        ),
    }


def check_folds(corpus: Corpus, same: Sequence[Sequence[int]]) -> None:
    """Make sure that no audio is in several folds; a pool may have audio of `fit`.

    Args:
        corpus: The corpus.
        same: Groups of rows of clips with the same audio.

    Raises:
        UserError: The user's own recordings contain such audio. For published corpora, whose splits
            are fixed, this prints a warning instead.
    """
    across = [text for rows in same if (text := _describe_crossing(corpus, rows))]
    if not across:
        return
    lines = [
        "the same audio is in several folds, but training and test clips must differ:",
        *(f"  {each}" for each in across[:NAMES_SHOWN]),
    ]
    if len(across) > NAMES_SHOWN:
        lines.append(f"  and {len(across) - NAMES_SHOWN} more")
    if corpus.name != "folder":
        console.print("\n".join(["WARNING: " + lines[0], *lines[1:]]), markup=False)
        return
    lines.append(
        "Remove one of each, or write a clips.csv that assigns both to one recording, and to one "
        "split if it has that column"
    )
    raise UserError("\n".join(lines))


def _find_empty_folds(corpus: Corpus, split: int) -> list[str]:
    folds = corpus.table[f"fold_{split}"].unique().to_pylist()
    return [fold for fold in LABELLED_FOLDS if fold not in folds]


def _describe_need(corpus: Corpus, among: Sequence[str] | None = None) -> str:
    """Say how many recordings a class needs, and which classes (of these) have fewer."""
    counts = count_recordings(corpus)
    short = [
        f"{scene} ({counts[scene]})" for scene in among or corpus.scenes if counts[scene] < NEEDED
    ]
    need = f"a class needs {NEEDED} recordings, one for each of fit, select and test"
    return f"{need}; fewer have {_list_some(short)}" if short else need


def _list_some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _count_values(values: np.ndarray, unit: str = "") -> str:
    """List values with the number of their occurrences, the most frequent first."""
    ordered = Counter(values.tolist()).most_common()
    parts = [
        f"{value:,}{unit} ({n:,})" if isinstance(value, int) else f"{value} ({n:,})"
        for value, n in ordered[:NAMES_SHOWN]
    ]
    if len(ordered) > NAMES_SHOWN:
        parts.append(f"{len(ordered) - NAMES_SHOWN} more")
    return ", ".join(parts)


def _describe_lengths(headers: Headers) -> str:
    durations_s = headers.durations_s
    low, middle, high = durations_s.min(), np.median(durations_s), durations_s.max()
    return f"{low:.2f} to {high:.2f} s, median {middle:.2f} s"


def _describe_cuts(corpus: Corpus, headers: Headers) -> str:
    """Describe what happens to files that are shorter or longer than a clip."""
    beyond_s = headers.durations_s - corpus.clip_duration_s
    least_s = TOLERANCE * corpus.clip_duration_s
    n_short, n_long = int((beyond_s < -least_s).sum()), int((beyond_s > least_s).sum())
    parts = [f"{n_short:,} shorter files are repeated"] * (n_short > 0)
    if n_long:
        n_clips = len(corpus) - (len(beyond_s) - n_long)  # each other file is one clip
        parts.append(f"{n_long:,} longer files are cut into {n_clips:,} clips")
    return f"; {', '.join(parts)}" if parts else ""


def _describe_group(what: str, names: Sequence[str]) -> str:
    """Return the number of names with the first of them."""
    if not names:
        return "none"
    more = ", ..." if len(names) > NAMES_SHOWN else ""
    return f"{len(names):,} {what}: {', '.join(names[:NAMES_SHOWN])}{more}"


def _name_clip(corpus: Corpus, row: int) -> str:
    file = corpus.table["file"][int(row)].as_py()
    start_s = corpus.table["start_s"][int(row)].as_py() if corpus.is_cut else None
    return f"{file} at {start_s:g} s" if start_s else file


def _format_level(level_db: float) -> str:
    return f"{level_db:.0f} dB" if np.isfinite(level_db) else "one value throughout"


def _describe_crossing(corpus: Corpus, rows: Sequence[int]) -> str | None:
    """Describe clips of a group that are in different folds of a split; None if there are none."""
    for split in reversed(SPLITS):
        first: dict[str, int] = {}
        for row in rows:
            fold = corpus.table[f"fold_{split}"][row].as_py()
            if fold is not None:
                first.setdefault(fold, row)
        if len(first) > 1 and first.keys() != {"fit", POOL}:
            clips = " and ".join(
                f"{_name_clip(corpus, row)} ({fold})" for fold, row in first.items()
            )
            return f"split {split}: {clips}"
    return None
