"""Trains every kind of system on every split, with five seeds, and writes docs/results.md.

The work is done by jobs/teachers.py, jobs/ensemble.py and jobs/students.py, with a store for each corpus. What
is in a store is not done again, so that an interrupted proof continues where it stopped.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from audio.clips import SPLITS as ALL_SPLITS
from audio.clips import Corpus
from audio.errors import CorpusError
from benchmarks.proof_commands import SEEDS, SPLITS, Proof, have_teachers, refuse_other_teachers
from benchmarks.proof_estimate import Expected, estimate_proof
from benchmarks.proof_page import Proved, write_page
from disk import write_whole
from jobs.pipeline import PipelineOptions, Stages
from logit_store import LogitStore, LogitStoreError
from terminal import describe_error, run_program
from terminal.console import UserError, error_console
from terminal.tables import format_duration
from training.provenance import PROJECT

PROGRAM = "python benchmarks/proof.py"
STORES = "runs/proof"
PAGE = PROJECT / "docs" / "results.md"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    (demo_student,) = Stages.of(PipelineOptions(demo=True)).students.recipes
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    parser.add_argument("--scenes", metavar="FOLDER", help="a second corpus, in the layout of TAU")
    parser.add_argument("--splits", type=int, nargs="+", default=SPLITS, choices=ALL_SPLITS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of each student")
    parser.add_argument("--student", default=demo_student, help="recipe of the students")
    parser.add_argument("--max-steps", type=int, help="steps of each training, to try things out")
    parser.add_argument("--stores", default=STORES, help="folder of the stores, one a corpus")
    parser.add_argument("--page", type=Path, default=PAGE, help="file to write")
    parser.add_argument("--dry-run", action="store_true", help="estimate, and run nothing")
    return parser.parse_args(arguments)


def list_proofs(options: argparse.Namespace) -> list[Proof]:
    """Return the proof on each corpus."""
    shared = {
        "student": options.student,
        "splits": tuple(sorted(set(options.splits))),
        "seeds": tuple(options.seeds),
        "max_steps": options.max_steps,
    }
    proofs = [Proof(corpus="demo", root=None, store=f"{options.stores}/demo", **shared)]
    if options.scenes:
        scenes = Proof(corpus="tau", root=options.scenes, store=f"{options.stores}/tau", **shared)
        proofs.append(scenes)
    return proofs


def main(arguments: Sequence[str] | None = None) -> int:
    """Say how long it will take, run all commands, write the page."""
    options = parse_arguments(arguments)
    proofs = list_proofs(options)
    opened = [_open(proof) for proof in proofs]
    for proof, (corpus, store) in zip(proofs, opened, strict=True):
        refuse_other_teachers(proof, corpus, store)
    expected = sum(
        (estimate_proof(proof, *each) for proof, each in zip(proofs, opened, strict=True)),
        start=Expected(),
    )
    commands = [(each, words) for each in proofs for words in each.list_commands()]
    print(f"{len(commands)} commands, {expected}")
    if options.dry_run:
        print("\n".join(shlex.join(words) for _, words in commands))
        return 0
    clock = Clock(Path(options.stores) / "seconds.json")
    at = dict(zip(proofs, opened, strict=True))
    for number, (proof, words) in enumerate(commands, start=1):
        print(f"\n[{number}/{len(commands)}] {shlex.join(words)}", flush=True)
        # A teacher that diverges is a result too, and is written down: the others can still teach.
        trains_teachers = words == proof.list_commands()[0]
        may_fail = partial(have_teachers, proof, *at[proof]) if trains_teachers else lambda: False
        clock.run(words, may_fail)
    proved = [Proved.read(proof, *each) for proof, each in zip(proofs, opened, strict=True)]
    write_page(options.page, proved, clock.read())
    print(f"\nwrote {options.page}; all commands took {format_duration(clock.read())}")
    return 0


def _open(proof: Proof) -> tuple[Corpus, LogitStore]:
    store = proof.students.open_store()
    return proof.students.open_corpus(store), store


class Clock:
    """Runs commands, and adds up their seconds in a file, those of earlier attempts too."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> float:
        """Return the seconds of all commands so far."""
        return float(json.loads(self.file.read_text())) if self.file.exists() else 0.0

    def run(self, words: Sequence[str], may_fail: Callable[[], bool] = lambda: False) -> None:
        """Run a command and wait for it; an interrupt is passed on to it.

        Args:
            words: of the command.
            may_fail: asked if it has failed, whether the next one can do without what is missing.

        Raises:
            UserError: it failed, and the next one cannot go on.
        """
        began = time.monotonic()
        # In a session of its own: otherwise Ctrl-C would reach it twice, and the second ends it at once.
        process = subprocess.Popen([sys.executable, *words[1:]], start_new_session=True)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
        finally:
            content = json.dumps(self.read() + time.monotonic() - began)
            write_whole(self.file, content.encode())
        if code and not (code == 1 and may_fail()):
            raise UserError(
                f"{shlex.join(words)} ended with code {code}: correct that and start again; what is done "
                "is kept"
            )


def _show_errors() -> int:
    """Do the proof; what its user can correct is one line."""
    try:
        return main()
    except (UserError, CorpusError, LogitStoreError) as error:
        error_console.print(f"{PROGRAM}: {describe_error(error)}", markup=False)
        return 1


if __name__ == "__main__":
    run_program(PROGRAM, _show_errors)
