"""What a store holds as one HTML page: leaderboard, charts, clips to listen to, their numbers."""

if not __package__:
    import _root  # noqa: F401

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from audio.clips import Corpus
from jobs.command import CorpusOptions, UserError, console, is_uploaded, progress_bar, run
from logit_store import LogitStore
from report.contents import CONTENTS
from report.page import page, write_csv
from report.parts import Section
from report.results import Results
from training.provenance import code_commit


@dataclass(frozen=True, kw_only=True)
class ReportOptions(CorpusOptions):
    """Options of the command."""

    to: Path | None = None
    """The page; runs/report-CORPUS.html if not given."""
    csv: Path | None = None
    """Folder for the numbers of all figures, a CSV file each."""


def main(options: ReportOptions) -> int:
    """What a store holds as one HTML page: leaderboard, charts, clips to listen to, their numbers.

    It needs nothing else: it opens from disk, and can be sent to somebody. Without --root (the demo
    needs none) it is made of the store alone, and has no clips to listen to.

    Example:
        python jobs/report.py --corpus demo --store runs/demo --csv tables
    """
    place = _place(options)
    store = options.open_store()
    corpus = _corpus(options, store)
    sections = _sections(store, corpus)
    text = page(f"Report on {corpus.name}", _lead(corpus), sections, _footer(store))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    console.print(f"{place}: {place.stat().st_size / 1e6:.1f} MB", markup=False)
    if options.csv is not None:
        folder = options.csv.expanduser()
        console.print(f"{folder}: {len(write_csv(sections, folder))} CSV files", markup=False)
    console.print(f"next: open {place.absolute().as_uri()} in a browser", markup=False)
    return 0


def _place(options: ReportOptions) -> Path:
    place = (options.to or Path(f"runs/report-{options.corpus}.html")).expanduser()
    if not place.is_absolute() and is_uploaded():
        raise UserError(
            f"--to {place}: this job runs in an uploaded copy of the project, which is thrown away; "
            "give an absolute path"
        )
    return place


def _corpus(options: ReportOptions, store: LogitStore) -> Corpus:
    """The clips in the order of the store, with their files where it is known where these are."""
    clips = store.clips(options.corpus)
    if options.root is None and options.corpus != "demo":
        return Corpus(options.corpus, Path(), clips)
    corpus = options.open_corpus(store)
    # It refuses clips that are not those that the logits are of, and else changes nothing.
    store.write_clips(corpus.name, corpus.clips_table())
    return corpus


def _sections(store: LogitStore, corpus: Corpus) -> list[Section]:
    with progress_bar() as bar:
        judging = bar.add_task("judge on test", total=None)
        results = Results.of(
            store,
            corpus,
            on_progress=lambda done, total: bar.update(judging, completed=done, total=total),
        )
        drawing = bar.add_task("draw", total=len(CONTENTS))
        sections = []
        for section in CONTENTS:
            sections.append(section(results))
            bar.advance(drawing)
    return sections


def _lead(corpus: Corpus) -> str:
    n_recordings = len(set(corpus.column("recording")))
    n_devices = len(set(corpus.column("recording_device")))
    return (
        f"{len(corpus):,} clips of {n_recordings:,} recordings by {n_devices} recording devices, "
        f"{len(corpus.scenes)} scenes: {', '.join(name.replace('_', ' ') for name in corpus.scenes)}."
    )


def _footer(store: LogitStore) -> str:
    commit = code_commit() or "unknown"
    return f"Made of {store.address} on {datetime.now(UTC):%Y-%m-%d, %H:%M} UTC, code of commit {commit}."


if __name__ == "__main__":
    run(main, ReportOptions)
