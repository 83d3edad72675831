"""Decode a corpus once, check it, and write the table of its clips to the store."""

if not __package__:
    import _root  # noqa: F401

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from rich.table import Table
from rich.text import Text

from audio import findings, inspection, waveforms
from audio.clips import LABELLED_FOLDS, POOL, Corpus
from audio.errors import BrokenAudio
from audio.findings import find_training_splits
from audio.inspection import Inspection
from audio.waveforms import Waveforms
from disk import find_cache_folder
from jobs.command import run
from jobs.plan.dry_run import show_decoded_size
from jobs.plan.next_steps import suggest_teachers
from jobs.plan.options import CorpusOptions
from jobs.worker.where import decode, prepare
from terminal.console import console, progress_bar, say_next
from terminal.tables import build_table
from terminal.values import SampleRate

CLASSES_SHOWN = 20
"""If there are more classes, the smallest ones are shown."""
WIDTH = 80


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(CorpusOptions):
    """Options of the command."""

    WRITES = True

    sample_rate: SampleRate = 32_000
    """Sample rate to decode to, in Hz; the published teachers and students take 32,000."""
    leave_out_broken: bool = False
    """Leave clips that cannot be read out of the corpus; then this store never has them."""
    dry_run: bool = False
    """Print the number of clips and their decoded size, and decode nothing."""


def main(options: PrepareOptions) -> int:
    """Decode a corpus once, check it, and write the table of its clips to the store.

    Example:
        python jobs/prepare.py --corpus demo --store runs/demo
    """
    store = options.open_store()
    with console.status("reading the list of files"):
        corpus = options.open_corpus(store)
    if options.dry_run:
        console.print(f"{len(corpus):,} clips of {len(corpus.scenes)} scenes")
        show_decoded_size(corpus, options.sample_rate)
        return 0
    corpus = _decode_readable(corpus, options)
    decoded = waveforms.load_waveforms(corpus, options.sample_rate)
    found = inspect_decoded(corpus, decoded)
    same = inspection.find_duplicates(found, decoded)
    show_classes(corpus)
    show_facts(
        findings.describe_files(corpus, options.sample_rate)
        | findings.describe_clips(corpus, found, same)
    )
    findings.check_folds(corpus, same)
    findings.check_splits(corpus)
    prepare(corpus, store, set())
    show_splits(corpus)
    console.print(f"{len(corpus):,} clips of {len(corpus.scenes)} scenes, decoded in")
    console.print(f"{find_cache_folder()}", markup=False)
    teachers = ["python", "jobs/teachers.py", *options.list_data_options()]
    say_next(*([*teachers, *suggested] for suggested in suggest_teachers(corpus)))
    return 0


def _decode_readable(corpus: Corpus, options: PrepareOptions) -> Corpus:
    """Decode a corpus; return it without clips that cannot be read, if they may be left out."""
    try:
        decode(corpus, {options.sample_rate})
    except BrokenAudio as error:
        if not options.leave_out_broken:
            raise
        broken = {clip.file for clip in error.broken}
        for clip in error.broken:
            console.print(f"left out: {clip.file}: {clip.reason}", markup=False)
        files, clip_ids = (corpus.table[name].to_pylist() for name in ("file", "clip_id"))
        corpus = corpus.keep(i for i, f in zip(clip_ids, files, strict=True) if f not in broken)
        decode(corpus, {options.sample_rate})
    return corpus


def show_classes(corpus: Corpus) -> None:
    """Print how many clips and recordings each class has."""
    counts, recordings = findings.count_clips(corpus), findings.count_recordings(corpus)
    shown = sorted(counts, key=lambda scene: (counts[scene], scene))[:CLASSES_SHOWN]
    rows = [[scene, f"{counts[scene]:,}", f"{recordings[scene]:,}"] for scene in sorted(shown)]
    console.print(build_table(["class", "clips", "recordings"], rows))
    if len(shown) < len(counts):
        console.print(f"and {len(counts) - len(shown)} classes with more clips\n")


def show_splits(corpus: Corpus) -> None:
    """Print how many clips and recordings are in each fold of each split, the pool only if it has some."""
    rows = []
    shown = (*LABELLED_FOLDS, POOL) if corpus.find_unlabelled().any() else LABELLED_FOLDS
    recordings = corpus.column("recording")
    for split in find_training_splits(corpus):
        folds = corpus.column(f"fold_{split}")
        cells = [str(split)]
        for fold in shown:
            inside = folds == fold
            cells.append(f"{inside.sum():,} ({len(np.unique(recordings[inside])):,})")
        rows.append(cells)
    console.print(build_table(["split", *shown], rows))
    console.print("clips, and in brackets recordings: none is in two folds of a split")
    if POOL in shown:
        console.print(
            "pool: clips without a label, which teach students (jobs/students.py --pool\n"
            "unlabelled) unless their recording judges; teachers predict them like all others"
        )
    for gap in findings.describe_gaps(corpus):
        console.print(f"WARNING: {gap}", markup=False)
    if len(corpus.table["file"].unique()) == len(np.unique(recordings)):
        console.print(
            "each file counts as a recording: if several were cut from the same one, a model\n"
            "is tested on nearly the same clips; docs/own-data.md says how to name recordings"
        )


def inspect_decoded(corpus: Corpus, decoded: Waveforms) -> Inspection:
    """Inspect the clips that were not inspected yet, with a bar."""
    with progress_bar() as bar:
        task = bar.add_task("find clipping, silence, duplicates", total=None)
        return inspection.inspect_clips(
            corpus,
            decoded,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def show_facts(facts: Mapping[str, str]) -> None:
    """Print facts by name, in 80 columns."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, fact in facts.items():
        grid.add_row(Text(name), Text(fact))
    console.print(grid, width=min(WIDTH, console.width))


if __name__ == "__main__":
    run(main, PrepareOptions)
