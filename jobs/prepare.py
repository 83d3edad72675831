"""Decode a corpus once, check it, and write down in the store what its clips are."""

if not __package__:
    import _root  # noqa: F401

from dataclasses import dataclass

from audio import waveforms
from audio.clips import SPLITS
from audio.waveforms import BrokenAudio
from jobs.command import CorpusOptions, console, prepare, run
from jobs.plans import show_decoded
from jobs.tables import table


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(CorpusOptions):
    """Options of the command."""

    sample_rate: int = 32_000
    """What to decode to, in Hz; the published teachers and students take 32,000."""
    leave_out_broken: bool = False
    """Leave clips that cannot be read out of the corpus; this store then never has them."""
    dry_run: bool = False
    """Print how many clips there are and what they would take, and decode nothing."""


def main(options: PrepareOptions) -> int:
    """Decode a corpus once, check it, and write down in the store what its clips are."""
    store = options.open_store()
    corpus = options.open_corpus(store)
    if options.dry_run:
        console.print(f"{len(corpus):,} clips of {len(corpus.scenes)} scenes")
        show_decoded(corpus, options.sample_rate)
        return 0
    try:
        prepare(corpus, store, {options.sample_rate})
    except BrokenAudio as error:
        if not options.leave_out_broken:
            raise
        broken = {clip.file for clip in error.broken}
        for clip in error.broken:
            console.print(f"left out: {clip.file}: {clip.reason}", markup=False)
        files, clip_ids = (corpus.table[name].to_pylist() for name in ("file", "clip_id"))
        corpus = corpus.keep(i for i, f in zip(clip_ids, files, strict=True) if f not in broken)
        prepare(corpus, store, {options.sample_rate})
    rows = []
    for split in SPLITS:
        folds = corpus.table[f"fold_{split}"].to_pylist()
        if "fit" in folds:
            rows.append([str(split), *(f"{folds.count(f):,}" for f in ("fit", "select", "test"))])
    console.print(table(["split", "fit", "select", "test"], rows))
    console.print(f"{len(corpus):,} clips of {len(corpus.scenes)} scenes, decoded in")
    console.print(f"{waveforms.cache_folder()}", markup=False)
    console.print("next: python jobs/teachers.py --help")
    return 0


if __name__ == "__main__":
    run(main, PrepareOptions)
