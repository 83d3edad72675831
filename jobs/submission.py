"""Make a submission to DCASE 2024 or 2025 task 1 from the students in a store, and check it."""

if not __package__:
    import _root  # noqa: F401

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zipfile import ZipFile

from rich.table import Table

from audio.clips import Corpus
from audio.corpora import CorpusName, tau_evaluation
from jobs.command import run
from jobs.plan.options import CorpusOptions
from jobs.plan.several import refuse_several
from jobs.worker.where import is_address
from logit_store import LogitStore, folder
from students.complexity import Precision
from students.errors import NoStudent
from terminal.console import UserError, console, error_console, repeat_command, say_next
from terminal.tables import build_table
from terminal.values import Check, Count, File, Folder, NewFile, Pattern

if TYPE_CHECKING:
    from report.dcase.device_entrant import DeviceEntrant
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
    challenge: Literal[2024, 2025] = 2024
    """Year: 2024 takes a student for each split; 2025 takes one of split 25, which may have a network per
    recording device (jobs/students.py --per-device), and needs an inference package as well."""
    label: Annotated[str, Check(_find_fault_of_label)]
    """Label of the system: LASTNAME_INSTITUTE_task1_N, with N from 1 to 4."""
    students: tuple[Pattern, ...]
    """Names of students, with or without fingerprint, or globs. For each split, the one with the
    lowest log loss on its select clips is taken."""
    meta: File
    """YAML with authors and texts: docs/submission.md shows one."""
    to: NewFile = Path("submission.zip")
    """The ZIP to write; an existing file is replaced. The inference package of 2025 is written beside it:
    submission_inference.zip."""
    evaluation: Folder | None = None
    """Folder of the evaluation set; if not given, the published one beside --root."""
    evaluation_clips: Count | None = None
    """Number of clips of the evaluation set of 2024; if not given, the challenge's. Another one is to try
    things out."""
    precision: Precision = "fp16"
    """Precision to which the weights are rounded before they predict, and in which their bytes are
    counted. int8 predicts with the ONNX file of python -m students.export, on ONNX Runtime (2024 only)."""
    technical_report: File | None = None
    """PDF to put into the ZIP."""
    dry_run: bool = False
    """Check everything except the predictions, show the students, and write nothing."""

    def count_clips(self) -> int:
        """Return the number of clips of the evaluation set of 2024."""
        return self.evaluation_clips or tau_evaluation.N_CLIPS


def main(options: SubmissionOptions) -> int:
    r"""Make a submission to DCASE 2024 or 2025 task 1 from the students in a store, and check it.

    Example:
        python jobs/submission.py --root /data/tau --store /data/tutti \
            --label Doe_UNI_task1_1 \
            --students isotropic --meta meta.yaml --to submission.zip
    """
    report = options.technical_report.read_bytes() if options.technical_report else None
    store = options.open_store()
    corpus = options.open_corpus(store)
    refuse_several(corpus, "submission", "task 1 has one scene a clip")
    if options.challenge == 2025:
        if options.evaluation_clips is not None:
            raise UserError(
                f"--evaluation-clips {options.evaluation_clips}: the list of 2025 says how many there are; "
                "leave it out"
            )
        return _submit_of_2025(options, corpus, store, report)
    return _submit(options, corpus, store, report)


def _submit(
    options: SubmissionOptions, corpus: Corpus, store: LogitStore, report: bytes | None
) -> int:
    # Predicting needs torch, which takes seconds to import.
    from jobs.worker import entrants as students
    from report.dcase.challenge import name_output
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
    found = _find_evaluation_folder(options, tau_evaluation.FOLDER)
    evaluation = tau_evaluation.read(found, options.count_clips())
    console.print("accuracy on the test clips, as the students were trained, before any rounding:")
    console.print(_build_table_of(entrants, results))
    if options.dry_run:
        say_next(repeat_command(less="--dry-run"))
        return 0
    results = students.measure_entrants(entrants, corpus, store)
    console.print(f"the same in {options.precision}, as it is handed in:")
    console.print(_build_table_of(entrants, results))
    predicted = students.predict_evaluation(entrants, evaluation, corpus.scenes, store)
    outputs = {name_output(options.label, split): each for split, each in predicted.items()}
    meta = students.describe_entrants(options.label, options.meta, entrants, results)
    package = pack_system(options.label, meta, outputs, report)
    if _print_problems(check_package(package, options.count_clips())):
        return 1
    _write(options.to, package)
    _show_package(options.to, lacks_report=report is None)
    say_next(["python", "-m", "report.dcase", "check", str(options.to)])
    return 0


def _submit_of_2025(
    options: SubmissionOptions, corpus: Corpus, store: LogitStore, report: bytes | None
) -> int:
    # Predicting needs torch, which takes seconds to import.
    from jobs.worker import device_entrants as students
    from report.dcase.challenge import name_only_output
    from report.dcase.meta import SubmissionError
    from report.dcase.package import pack_files, pack_system
    from report.dcase.validate import check_package
    from report.dcase.validate_inference import check_inference_package
    from report.dcase.validate_meta import check_meta

    label = options.label
    try:
        entrant = students.load_best_entrant(store, corpus, options.students, options.precision)
        scores = students.read_stored_scores(entrant, corpus, store)
        meta = students.describe_entrant(label, options.meta, entrant, scores)
    except (SubmissionError, NoStudent) as error:
        raise UserError(str(error)) from error
    # Before the predictions, which take long.
    if _print_problems(check_meta(str(options.meta), meta, label, 2025)):
        return 1
    found = _find_evaluation_folder(options, tau_evaluation.FOLDER_OF_2025)
    evaluation = tau_evaluation.read_with_devices(found)
    console.print("accuracy on the test clips, as the student was trained, before any rounding:")
    console.print(_build_table_of_devices(entrant, scores))
    if options.dry_run:
        say_next(repeat_command(less="--dry-run"))
        return 0
    scores, test_accuracy = students.measure_entrant(entrant, corpus, store)
    console.print(f"the same in {options.precision}, as it is handed in:")
    console.print(_build_table_of_devices(entrant, scores))
    output = students.predict_output(entrant, evaluation, corpus.scenes, store)
    meta = students.describe_entrant(label, options.meta, entrant, scores)
    package = pack_system(label, meta, {name_only_output(label): output}, report)
    inference = pack_files(students.make_package_of(label, entrant, corpus, output, test_accuracy))
    samples = students.choose_samples(evaluation)
    broken = check_package(package, len(evaluation), 2025)
    if _print_problems([*broken, *check_inference_package(inference, samples, len(evaluation))]):
        return 1
    beside = options.to.with_name(f"{options.to.stem}_inference.zip")
    _write(options.to, package)
    _write(beside, inference)
    _show_package(options.to, lacks_report=report is None)
    _show_package(beside, lacks_report=False)
    console.print(
        "still to be done: publish what is in the inference package, at the address that the description "
        "names as system.inference_code"
    )
    check = ["python", "-m", "report.dcase"]
    say_next(
        [*check, "check", str(options.to), "--challenge", "2025"],
        [*check, "run", str(beside)],
    )
    return 0


def _find_evaluation_folder(options: SubmissionOptions, name: str) -> Path:
    if options.evaluation is not None:
        return options.evaluation.expanduser()
    if options.root is None or is_address(options.root):
        raise UserError(f"corpus {options.corpus}: say where the evaluation set is: --evaluation")
    return Path(options.root).expanduser().resolve().parent / name


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


def _build_table_of_devices(
    entrant: "DeviceEntrant", scores: Mapping[str, Mapping[str, Any]]
) -> Table:
    devices: Sequence[str] = list(scores["general"]["device_wise"])
    rows = [
        [
            name,
            f"{each['overall']['accuracy']:.2f}",
            *(f"{each['device_wise'][device]['accuracy']:.1f}" for device in devices),
        ]
        for name, each in scores.items()
    ]
    console.print(
        f"{entrant.key.member}: {1 + len(entrant.by_device)} network(s), each of "
        f"{entrant.parameter_bytes:,} bytes and {entrant.complexity.macs:,} MACs",
        markup=False,
    )
    return build_table(["networks", "acc. %", *devices], rows)


def _write(file: Path, content: bytes) -> None:
    target = file.expanduser().absolute()
    folder.Folder(target.parent).put(target.name, content)


def _show_package(file: Path, *, lacks_report: bool) -> None:
    """Print what is in a package, and what is left to do."""
    package = file.expanduser().absolute()
    with ZipFile(package) as archive:
        rows = [[Path(each.filename).name, f"{each.file_size:,}"] for each in archive.infolist()]
    console.print(build_table(["file", "bytes"], rows))
    console.print(f"{package}: {package.stat().st_size:,} bytes, follows the rules", markup=False)
    if lacks_report:
        console.print("still to be handed in with it: the technical report, --technical-report PDF")


if __name__ == "__main__":
    run(main, SubmissionOptions)
