"""What `jobs/prepare.py` tells of a corpus: its classes, its files, what is wrong with them.

Dimensions: N clips of the corpus.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from audio import headers, inspection
from audio.clips import SPLITS, Corpus
from audio.headers import Headers
from audio.inspection import CLIPPED_SHARE, SILENT_DB, Inspection
from audio.lengths import TOLERANCE
from audio.waveforms import Waveforms
from jobs.command import UserError, console, progress_bar
from jobs.tables import table

NAMED = 5
"""Of clips that have something in common, so many are named."""
CLASSES_SHOWN = 20
"""Of more classes than that, the smallest."""
WIDTH = 80


def show_classes(corpus: Corpus) -> None:
    """How many clips and recordings each class has, in how many of which fold."""
    counts = Counter(corpus.column("scene").tolist())
    pairs = set(zip(corpus.column("scene"), corpus.column("recording"), strict=True))
    recordings = Counter(scene for scene, _ in pairs)
    shown = sorted(counts, key=lambda scene: (counts[scene], scene))[:CLASSES_SHOWN]
    rows = [[scene, f"{counts[scene]:,}", f"{recordings[scene]:,}"] for scene in sorted(shown)]
    console.print(table(["class", "clips", "recordings"], rows))
    if len(shown) < len(counts):
        console.print(f"and {len(counts) - len(shown)} classes with more clips\n")


def show_splits(corpus: Corpus) -> None:
    """How many clips, and of how many recordings, are in each fold of each split."""
    rows = []
    recordings = corpus.column("recording")
    for split in splits_of(corpus):
        folds = corpus.column(f"fold_{split}")
        cells = [str(split)]
        for fold in ("fit", "select", "test"):
            inside = folds == fold
            cells.append(f"{inside.sum():,} ({len(np.unique(recordings[inside])):,})")
        rows.append(cells)
    console.print(table(["split", "fit", "select", "test"], rows))
    console.print("clips, and in brackets recordings: none is in two folds of a split")
    if len(corpus.table["file"].unique()) == len(np.unique(recordings)):
        console.print(
            "each file counts as a recording: if some were cut from the same one, a model\n"
            "is tested on what it has nearly heard; docs/own-data.md says how to tell"
        )


def splits_of(corpus: Corpus) -> list[int]:
    """The splits that can be learnt from."""
    return [s for s in SPLITS if "fit" in corpus.table[f"fold_{s}"].unique().to_pylist()]


def look_at(corpus: Corpus, decoded: Waveforms) -> Inspection:
    """Look at what was not looked at yet, with a bar."""
    with progress_bar() as bar:
        task = bar.add_task("look for clipping, silence, duplicates", total=None)
        return inspection.inspect(
            corpus,
            decoded,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def of_files(corpus: Corpus, sample_rate: int) -> dict[str, str]:
    """Rates, channels and lengths of the files, and what clips become of them."""
    files = corpus.table["file"].unique().to_pylist()
    found = headers.read(corpus.root, files)
    counts = Counter(corpus.column("scene").tolist())
    (largest, most), *_, (smallest, least) = counts.most_common()
    n_recordings = len(np.unique(corpus.column("recording")))
    mixed_down = "; decoded to their mean" if found.channels.max() > 1 else ""
    return {
        "clips": f"{len(corpus):,} of {len(counts)} classes, in {len(files):,} files of "
        f"{n_recordings:,} recordings",
        "imbalance": f"{most / least:.1f} ({largest} {most:,} clips, {smallest} {least:,})",
        "recording devices": _counted(corpus.column("recording_device")),
        "sample rates": f"{_counted(found.sample_rate, ' Hz')}; decoded to {sample_rate:,} Hz",
        "channels": f"{_counted(found.channels)}{mixed_down}",
        "lengths": _lengths(found),
        "a clip lasts": f"{corpus.clip_duration_s:g} s{_cuts(corpus, found)}",
    }


def of_clips(corpus: Corpus, found: Inspection, same: Sequence[Sequence[int]]) -> dict[str, str]:
    """Clips that are clipped, silent, or the same as others; the worst of each by name."""
    return {
        "clipping": _named(
            f"with {CLIPPED_SHARE:.1%} or more of their samples at full scale",
            [
                f"{_name(corpus, row)} ({found.full_scale_share[row]:.1%})"
                for row in found.clipped()
            ],
        ),
        "silence": _named(
            f"below {SILENT_DB:.0f} dB of full scale",
            [f"{_name(corpus, row)} ({_level(found.level_db[row])})" for row in found.silent()],
        ),
        "duplicates": _named(
            "times the same audio",
            [" = ".join(_name(corpus, row) for row in rows[:NAMED]) for rows in same],
        ),
    }


def check_folds(corpus: Corpus, same: Sequence[Sequence[int]]) -> None:
    """Make sure that no audio is in several folds.

    Args:
        corpus: whose clips.
        same: rows of clips with the same audio, group by group.

    Raises:
        UserError: own recordings hold such audio. What others published is taken as they split
            it, with a warning.
    """
    across = [told for rows in same if (told := _apart(corpus, rows))]
    if not across:
        return
    said = [
        "the same audio is in several folds, and what is learnt from may not be tested on:",
        *(f"  {each}" for each in across[:NAMED]),
    ]
    if len(across) > NAMED:
        said.append(f"  and {len(across) - NAMED} more")
    if corpus.name != "folder":
        console.print("\n".join(["WARNING: " + said[0], *said[1:]]), markup=False)
        return
    said.append(
        "Remove one of each; or write a clips.csv in which both belong to one recording, and to "
        "one split where it has that column"
    )
    raise UserError("\n".join(said))


def show_facts(facts: Mapping[str, str]) -> None:
    """Facts by name, in 80 columns."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, said in facts.items():
        grid.add_row(Text(name), Text(said))
    console.print(grid, width=min(WIDTH, console.width))


def _counted(values: np.ndarray, unit: str = "") -> str:
    """Values with how often there are, the most frequent first."""
    ordered = Counter(values.tolist()).most_common()
    told = [
        f"{value:,}{unit} ({n:,})" if isinstance(value, int) else f"{value} ({n:,})"
        for value, n in ordered[:NAMED]
    ]
    if len(ordered) > NAMED:
        told.append(f"{len(ordered) - NAMED} more")
    return ", ".join(told)


def _lengths(found: Headers) -> str:
    durations_s = found.durations_s
    low, middle, high = durations_s.min(), np.median(durations_s), durations_s.max()
    return f"{low:.2f} to {high:.2f} s, median {middle:.2f} s"


def _cuts(corpus: Corpus, found: Headers) -> str:
    """What becomes of files that last otherwise than a clip."""
    beyond_s = found.durations_s - corpus.clip_duration_s
    least_s = TOLERANCE * corpus.clip_duration_s
    n_short, n_long = int((beyond_s < -least_s).sum()), int((beyond_s > least_s).sum())
    told = [f"{n_short:,} shorter files are repeated"] * (n_short > 0)
    if n_long:
        n_clips = len(corpus) - (len(beyond_s) - n_long)  # of the others, each is one
        told.append(f"{n_long:,} longer files are cut into {n_clips:,} clips")
    return f"; {', '.join(told)}" if told else ""


def _named(what: str, names: Sequence[str]) -> str:
    """How many there are, and the first of them."""
    if not names:
        return "none"
    more = ", ..." if len(names) > NAMED else ""
    return f"{len(names):,} {what}: {', '.join(names[:NAMED])}{more}"


def _name(corpus: Corpus, row: int) -> str:
    file = corpus.table["file"][int(row)].as_py()
    start_s = corpus.table["start_s"][int(row)].as_py() if corpus.is_cut else None
    return f"{file} at {start_s:g} s" if start_s else file


def _level(level_db: float) -> str:
    return f"{level_db:.0f} dB" if np.isfinite(level_db) else "one value throughout"


def _apart(corpus: Corpus, rows: Sequence[int]) -> str | None:
    """Clips of a group that are in different folds of a split, or None."""
    for split in reversed(SPLITS):
        first: dict[str, int] = {}
        for row in rows:
            fold = corpus.table[f"fold_{split}"][row].as_py()
            if fold is not None:
                first.setdefault(fold, row)
        if len(first) > 1:
            told = " and ".join(f"{_name(corpus, row)} ({fold})" for fold, row in first.items())
            return f"split {split}: {told}"
    return None
