"""A stored student as a file for other runtimes: python -m students.export MEMBER --to FILE ....

Only the options are imported at once: an export needs torch and ONNX, `--help` does not.
"""

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from students.export.options import ExportOptions, UnfitExportOptions
from terminal import describe_error, parse_options, run_program

if TYPE_CHECKING:
    from audio.clips import Corpus
    from logit_store import LogitKey, LogitStore
    from students.export.measure import ExportMeasurements

PROGRAM = "python -m students.export"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 for a student that cannot be exported."""
    options = parse_options(ExportOptions, PROGRAM, ExportOptions.__doc__ or "", arguments)
    return _run(options)


def _run(options: ExportOptions) -> int:
    from audio.errors import BrokenAudio, CorpusError
    from disk import equip_user
    from logit_store import LogitStore, LogitStoreError
    from logit_store.show import find_member_keys
    from students.budget import OverBudget
    from students.c.front_end import UnfitFrontEnd
    from students.errors import NoPlan, NoStudent

    known = (
        *(LogitStoreError, CorpusError, BrokenAudio, UnfitExportOptions),
        *(NoStudent, NoPlan, OverBudget, UnfitFrontEnd),
    )
    equip_user()
    try:
        store = LogitStore(options.store)
        key = find_member_keys(store, options.member)[0]
        corpus = _read_corpus(options, store, key)
        measurements = _export_with_bar(options, store, corpus, key)
    except (*known, OSError) as error:
        if options.debug:
            raise
        sys.stderr.write(f"{PROGRAM}: {' '.join(describe_error(error).split())}\n")
        return 1
    sys.stdout.write(f"{options.to}: {key.member} as {options.form}\n{measurements.describe()}")
    sys.stdout.write(f"next: {shlex.join(_suggest_next(options, corpus, key))}\n")
    return 0


def _export_with_bar(
    options: ExportOptions, store: "LogitStore", corpus: "Corpus", key: "LogitKey"
) -> "ExportMeasurements":
    import torch
    from rich.console import Console

    from students.export.export import export_student
    from terminal import progress_bar

    # The latency is that of one core.
    torch.set_num_threads(1)
    with progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task("calibrate and convert", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, description="compare", completed=done, total=total)

        return export_student(options, store, corpus, key, show)


def _suggest_next(options: ExportOptions, corpus: "Corpus", key: "LogitKey") -> list[str]:
    """Return a command that runs the program, classifies a clip, or lists the student's scores."""
    if options.form == "c":
        program = str(options.to / "student.c")
        place = [] if options.corpus == "demo" else ["--corpus", options.corpus]
        place += ["--root", str(options.root)] if options.root else []
        return ["python", "-m", "students.device", program, "--board", "m7", *place]
    if not options.with_front_end:
        return ["python", "-m", "logit_store", "show", key.member, "--store", options.store]
    clip = corpus.root / corpus.table["file"][int(corpus.rows(key.split, "select")[0])].as_py()
    return ["python", "-m", "students.classify", "--model", str(options.to), str(clip)]


def _read_corpus(options: ExportOptions, store: "LogitStore", key: "LogitKey") -> "Corpus":
    """Read the corpus that was named, without the clips that the store leaves out."""
    from audio import corpora

    corpus = corpora.read(options.corpus, options.root)
    if corpus.name != key.corpus:
        raise UnfitExportOptions(
            f"{key}: a student of corpus {key.corpus}, and --corpus is {corpus.name}: name its own"
        )
    return corpus.keep(store.read_clips(corpus.name)["clip_id"].to_pylist())


if __name__ == "__main__":
    run_program(PROGRAM, main)
