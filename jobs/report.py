"""Write a store's results as one HTML page: leaderboard, charts, clips to listen to."""

if not __package__:
    import _root  # noqa: F401

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from audio.clips import Corpus
from disk import write_whole
from jobs.command import run
from jobs.plan.options import CorpusOptions
from jobs.schedule.uploads import is_uploaded
from logit_store import LogitStore
from report.choice import MOST
from terminal.console import UserError, console, progress_bar
from terminal.tables import format_count
from terminal.values import Count, NewFile, NewFolder, find_fault_of_path
from training.provenance import find_commit

if TYPE_CHECKING:
    from report.parts import Section


@dataclass(frozen=True, kw_only=True)
class ReportOptions(CorpusOptions):
    """Options of the command."""

    to: NewFile | None = None
    """File of the page; runs/report-CORPUS.html if not given."""
    csv: NewFolder | None = None
    """Folder for the numbers of all figures, one CSV file for each."""
    most: Count = MOST
    """How many teachers, ensembles, taught students and other students of a split are shown: the
    best by their log loss on select. The page names those that it leaves out."""


def main(options: ReportOptions) -> int:
    """Write a store's results as one HTML page: leaderboard, charts, clips to listen to.

    The page needs no other file, so that it can be sent to somebody. Without --root (the demo needs
    none) it is made from the store alone, and has no clips to listen to.

    Example:
        python jobs/report.py --corpus demo --store runs/demo --csv tables
    """
    # Charts and kernels take seconds to import.
    from report.page import render_page, write_csv

    place = _find_place(options)
    store = options.open_store()
    corpus = _open_corpus(options, store)
    sections = _draw_sections(store, corpus, options.most)
    text = render_page(
        f"Report on {corpus.name}", _write_lead(corpus), sections, _write_footer(store)
    )
    write_whole(place, text.encode())
    console.print(f"{place}: {place.stat().st_size / 1e6:.1f} MB", markup=False)
    if options.csv is not None:
        folder = options.csv.expanduser()
        console.print(
            f"{folder}: {format_count(len(write_csv(sections, folder)), 'CSV file')}", markup=False
        )
    console.print(f"next: open {place.absolute().as_uri()} in a browser", markup=False)
    return 0


def _find_place(options: ReportOptions) -> Path:
    place = (options.to or Path(f"runs/report-{options.corpus}.html")).expanduser()
    if not place.is_absolute() and is_uploaded():
        raise UserError(
            f"--to {place}: this job runs in an uploaded copy of the project, which is thrown away; "
            "give an absolute path"
        )
    if fault := find_fault_of_path(place, is_folder=False, is_written=True):
        raise UserError(f"--to {place}: {fault}")
    return place


def _open_corpus(options: ReportOptions, store: LogitStore) -> Corpus:
    """Return the clips in the order of the store, with their files if their folder is known."""
    clips = store.read_clips(options.corpus)
    if options.root is None and options.corpus != "demo":
        return Corpus(options.corpus, Path(), clips)
    corpus = options.open_corpus(store)
    # This refuses other clips than those of the logits, and changes nothing else.
    store.write_clips(corpus.name, corpus.clips_table())
    return corpus


def _draw_sections(store: LogitStore, corpus: Corpus, most: int) -> "list[Section]":
    from report.contents import choose_contents
    from report.results import Results

    with progress_bar() as bar:
        judging = bar.add_task("judge on test", total=None)
        results = Results.of(
            store,
            corpus,
            most,
            on_progress=lambda done, total: bar.update(judging, completed=done, total=total),
        )
        if results.unshown:
            console.print(
                f"{len(results.unshown):,} systems are left out, as {most} of a kind and split are "
                "shown (--most); the page names them",
                markup=False,
            )
        contents = choose_contents(corpus)
        drawing = bar.add_task("draw", total=len(contents))
        sections = []
        for section in contents:
            sections.append(section(results))
            bar.advance(drawing)
    return sections


def _write_lead(corpus: Corpus) -> str:
    n_recordings = len(set(corpus.column("recording")))
    n_devices = len(set(corpus.column("recording_device")))
    n_unlabelled = int(corpus.find_unlabelled().sum())
    unlabelled = f" ({n_unlabelled:,} of them without a label)" if n_unlabelled else ""
    return (
        f"{len(corpus):,} clips{unlabelled} of {n_recordings:,} recordings by {n_devices} recording devices, "
        f"{len(corpus.scenes)} scenes: {', '.join(name.replace('_', ' ') for name in corpus.scenes)}."
    )


def _write_footer(store: LogitStore) -> str:
    commit = find_commit() or "unknown"
    return f"Made from {store.address} on {datetime.now(UTC):%Y-%m-%d, %H:%M} UTC, code of commit {commit}."


if __name__ == "__main__":
    run(main, ReportOptions)
