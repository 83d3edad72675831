"""Decode a corpus once, check it, and write down in the store what its clips are."""

if not __package__:
    import _root  # noqa: F401

from dataclasses import dataclass

from audio import inspection, waveforms
from audio.clips import SPLITS, Corpus
from audio.corpora.cuts import LONGEST_S
from audio.waveforms import BrokenAudio
from jobs import findings
from jobs.command import CorpusOptions, console, decode, prepare, run, say_next
from jobs.plans import show_decoded


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
    """Decode a corpus once, check it, and write down in the store what its clips are.

    Example:
        python jobs/prepare.py --corpus demo --store runs/demo
    """
    store = options.open_store()
    with console.status("look at the files"):
        corpus = options.open_corpus(store)
    if options.dry_run:
        console.print(f"{len(corpus):,} clips of {len(corpus.scenes)} scenes")
        show_decoded(corpus, options.sample_rate)
        return 0
    corpus = _decoded(corpus, options)
    decoded = waveforms.load(corpus, options.sample_rate)
    found = findings.look_at(corpus, decoded)
    same = inspection.same_audio(found, decoded)
    findings.show_classes(corpus)
    findings.show_facts(
        findings.of_files(corpus, options.sample_rate) | findings.of_clips(corpus, found, same)
    )
    findings.check_folds(corpus, same)
    prepare(corpus, store, set())
    findings.show_splits(corpus)
    console.print(f"{len(corpus):,} clips of {len(corpus.scenes)} scenes, decoded in")
    console.print(f"{waveforms.cache_folder()}", markup=False)
    say_next(_next(options, corpus))
    return 0


def _decoded(corpus: Corpus, options: PrepareOptions) -> Corpus:
    """Decode a corpus; the corpus, less what cannot be read where that may be left out."""
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


def _next(options: PrepareOptions, corpus: Corpus) -> list[str]:
    """The command that teaches the corpus's splits to teachers, as a plan first."""
    words = ["python", "jobs/teachers.py", *options.data()]
    splits = findings.splits_of(corpus)
    if len(splits) < len(SPLITS):
        words += ["--splits", *map(str, splits)]
    if corpus.clip_duration_s > LONGEST_S:
        words += ["--length", f"crop:{LONGEST_S:g}"]
    return [*words, "--dry-run"]


if __name__ == "__main__":
    run(main, PrepareOptions)
