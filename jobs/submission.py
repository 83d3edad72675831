"""Make a submission to DCASE 2024 task 1 from the students in a store, and check it."""

if not __package__:
    import _root  # noqa: F401

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zipfile import ZipFile

from rich.table import Table

from audio.clips import Corpus
from audio.corpora import CorpusName, tau_evaluation
from jobs.command import run
from jobs.plan.options import CorpusOptions
from jobs.worker.where import is_address
from logit_store import LogitStore, folder
from students.complexity import Precision
from students.errors import NoStudent
from terminal.console import UserError, console, error_console, repeat_command, say_next
from terminal.tables import build_table
from terminal.values import Check, Count, File, Folder, NewFile, Pattern

if TYPE_CHECKING:
    from report.dcase.entrant import Entrant
    from report.dcase.problems import BrokenRule


def _find_fault_of_label(label: str) -> str | None:
    from report.dcase.challenge import LABEL_FORM, is_label

    return None if is_label(label) else f"expected {LABEL_FORM}"


@dataclass(frozen=True, kw_only=True)
class SubmissionOptions(CorpusOptions):
    """Options of the command."""

    corpus: CorpusName = "tau"
    """The development set; the results in the description are on its test clips."""
    label: Annotated[str, Check(_find_fault_of_label)]
    """Label of the system: LASTNAME_INSTITUTE_task1_N, with N from 1 to 4."""
    students: tuple[Pattern, ...]
    """Names of students, with or without fingerprint, or globs. For each split, the one with the
    lowest log loss on its select clips is taken."""
    meta: File
    """YAML with authors and texts: docs/submission.md shows one."""
    to: NewFile = Path("submission.zip")
    """The ZIP to write; an existing file is replaced."""
    evaluation: Folder | None = None
    """Folder of the evaluation set; if not given, the published one beside --root."""
    evaluation_clips: Count = tau_evaluation.N_CLIPS
    """Number of clips of the evaluation set; another than the challenge's is to try things out."""
    precision: Precision = "fp16"
    """Precision to which the weights are rounded before they predict, and in which their bytes are
    counted. int8 predicts with the ONNX file of python -m students.export, on ONNX Runtime."""
    technical_report: File | None = None
    """PDF to put into the ZIP."""
    dry_run: bool = False
    """Check everything except the predictions, show the students, and write nothing."""


def main(options: SubmissionOptions) -> int:
    r"""Make a submission to DCASE 2024 task 1 from the students in a store, and check it.

    Example:
        python jobs/submission.py --root /data/tau --store /data/tutti \
            --label Doe_UNI_task1_1 \
            --students isotropic --meta meta.yaml --to submission.zip
    """
    report = options.technical_report.read_bytes() if options.technical_report else None
    store = options.open_store()
    return _submit(options, options.open_corpus(store), store, report)


def _submit(
    options: SubmissionOptions, corpus: Corpus, store: LogitStore, report: bytes | None
) -> int:
    # Predicting needs torch, which takes seconds to import.
    from jobs.worker import entrants as students
    from report.dcase.meta import SubmissionError
    from report.dcase.package import pack_system
    from report.dcase.validate import check_package
    from report.dcase.validate_meta import check_meta

    keys = students.find_best_students(store, corpus.name, options.students)
    try:
        entrants = students.load_entrants(store, keys, corpus, options.precision)
        results = students.read_stored_results(corpus, store, keys)
        meta = students.describe_entrants(options.label, options.meta, entrants, results)
    except (SubmissionError, NoStudent) as error:
        raise UserError(str(error)) from error
    # Before the predictions, which take long.
    if _print_problems(check_meta(str(options.meta), meta, options.label)):
        return 1
    evaluation = tau_evaluation.read(_find_evaluation_folder(options), options.evaluation_clips)
    console.print("accuracy on the test clips, as the students were trained, before any rounding:")
    console.print(_build_table_of(entrants, results))
    if options.dry_run:
        say_next(repeat_command(less="--dry-run"))
        return 0
    results = students.measure_entrants(entrants, corpus, store)
    console.print(f"the same in {options.precision}, as it is handed in:")
    console.print(_build_table_of(entrants, results))
    outputs = students.predict_evaluation(entrants, evaluation, corpus.scenes, store)
    meta = students.describe_entrants(options.label, options.meta, entrants, results)
    package = pack_system(options.label, meta, outputs, report)
    if _print_problems(check_package(package, options.evaluation_clips)):
        return 1
    target = options.to.expanduser().absolute()
    folder.Folder(target.parent).put(target.name, package)
    _show_package(target, lacks_report=report is None)
    return 0


def _find_evaluation_folder(options: SubmissionOptions) -> Path:
    if options.evaluation is not None:
        return options.evaluation.expanduser()
    if options.root is None or is_address(options.root):
        raise UserError(f"corpus {options.corpus}: say where the evaluation set is: --evaluation")
    return Path(options.root).expanduser().resolve().parent / tau_evaluation.FOLDER


def _print_problems(problems: "Iterable[BrokenRule]") -> bool:
    """Print each problem on a line of its own; return whether there was any."""
    found = list(problems)
    for problem in found:
        error_console.print(f"error: {problem}", markup=False)
    return bool(found)


def _build_table_of(
    entrants: "Mapping[int, Entrant]", results: Mapping[int, Mapping[str, Any]]
) -> Table:
    rows = [
        [
            entrant.key.member,
            str(split),
            f"{entrant.parameter_bytes:,}",
            "-" if entrant.file_bytes is None else f"{entrant.file_bytes:,}",
            f"{entrant.complexity.macs:,}",
            f"{results[split]['overall']['accuracy']:.2f}",
        ]
        for split, entrant in entrants.items()
    ]
    return build_table(["student", "split", "bytes", "in the file", "MACs", "acc. %"], rows)


def _show_package(package: Path, *, lacks_report: bool) -> None:
    """Print what is in the package, and what is left to do."""
    with ZipFile(package) as archive:
        rows = [[Path(each.filename).name, f"{each.file_size:,}"] for each in archive.infolist()]
    console.print(build_table(["file", "bytes"], rows))
    console.print(f"{package}: {package.stat().st_size:,} bytes, follows the rules", markup=False)
    if lacks_report:
        console.print("still to be handed in with it: the technical report, --technical-report PDF")
    say_next(["python", "-m", "report.dcase", "check", str(package)])


if __name__ == "__main__":
    run(main, SubmissionOptions)
