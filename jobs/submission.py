"""Make a submission to DCASE 2024 task 1 of the students in a store, and check it."""

if not __package__:
    import _root  # noqa: F401

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch
from rich.table import Table

from audio.clips import SPLITS, Corpus
from audio.corpora import CorpusName, tau_evaluation
from audio.waveforms import BrokenAudio
from jobs.command import (
    CorpusOptions,
    UserError,
    again,
    console,
    decode,
    errors,
    is_address,
    progress_bar,
    run,
    say_next,
)
from jobs.tables import table
from logit_store import LogitKey, LogitStore
from logit_store.exporters import as_csv, chosen
from logit_store.folder import Folder
from report.dcase import (
    Entrant,
    Problem,
    SubmissionError,
    check,
    check_meta,
    development_logits,
    development_results,
    evaluation_logits,
    filled,
    load,
    packed,
    read_texts,
)
from report.dcase.challenge import LABEL_FORM, is_label
from students.complexity import Precision
from students.stored import NoStudent


@dataclass(frozen=True, kw_only=True)
class SubmissionOptions(CorpusOptions):
    """Options of the command."""

    corpus: CorpusName = "tau"
    """The development set, whose test clips the results in the description are of."""
    label: str
    """Of the system: LASTNAME_INSTITUTE_task1_N, with N from 1 to 4."""
    students: tuple[str, ...]
    """Names of students, with or without fingerprint, or globs. Of those that match, each split
    takes the one with the lowest log loss on its select clips."""
    meta: Path
    """YAML with authors and texts: docs/submission.md shows one."""
    to: Path = Path("submission.zip")
    """The ZIP to write; one of that name is replaced."""
    evaluation: Path | None = None
    """Folder of the evaluation set; if not given, the published one beside --root."""
    evaluation_clips: int = tau_evaluation.N_CLIPS
    """Clips of the evaluation set; another number than the challenge's for trying things out."""
    precision: Precision = "fp16"
    """To which the weights are rounded before they predict, and in which their bytes are counted.
    int8 predicts with the ONNX file of python -m students.export, on ONNX Runtime."""
    technical_report: Path | None = None
    """PDF to put into the ZIP."""
    dry_run: bool = False
    """Check everything but the predictions, show who would predict, and write nothing."""


def main(options: SubmissionOptions) -> int:
    r"""Make a submission to DCASE 2024 task 1 of the students in a store, and check it.

    Example:
        python jobs/submission.py --root /data/tau --store /data/tutti \
            --label Doe_UNI_task1_1 \
            --students isotropic --meta meta.yaml --to submission.zip
    """
    if not is_label(options.label):
        raise UserError(f"--label {options.label}: expected {LABEL_FORM}")
    report = options.technical_report.read_bytes() if options.technical_report else None
    store = options.open_store()
    corpus = options.open_corpus(store)
    keys = best_of_each_split(store, corpus.name, options.students)
    try:
        entrants = {
            split: load(store, key, corpus, options.precision) for split, key in keys.items()
        }
        results = _results_as_stored(corpus, store, keys)
        meta = _described(options, entrants, results)
    except (SubmissionError, NoStudent) as error:
        raise UserError(str(error)) from error
    # Before the predictions, which take long.
    if _any_told(check_meta(str(options.meta), meta, options.label)):
        return 1
    evaluation = tau_evaluation.read(_evaluation_folder(options), options.evaluation_clips)
    console.print("accuracy on the test clips, as the students were taught, before any rounding:")
    console.print(_who_predicts(entrants, results))
    if options.dry_run:
        say_next(again(less="--dry-run"))
        return 0
    results = measure_all(entrants, corpus, store)
    console.print(f"the same in {options.precision}, as it is handed in:")
    console.print(_who_predicts(entrants, results))
    outputs = predict_all(entrants, evaluation, corpus.scenes, store)
    package = packed(options.label, _described(options, entrants, results), outputs, report)
    if _any_told(check(package, options.evaluation_clips)):
        return 1
    target = options.to.expanduser().absolute()
    Folder(target.parent).put(target.name, package)
    _show(target, lacks_report=report is None)
    return 0


def best_of_each_split(
    store: LogitStore, corpus: str, patterns: Sequence[str]
) -> dict[int, LogitKey]:
    """The student of each split that is best on `select`, of those that match a pattern.

    Raises:
        UserError: a split has none.
        LogitStoreError: the store does not know the corpus, or no member matches a pattern.
    """
    names = {key.member for key in chosen(store, corpus, None, patterns)}
    members = store.members(corpus).to_pylist()
    found: dict[int, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for row in members:
        if _is_student(row) and row["member"] in names:
            found[row["split"]].append(row)
    lacking = [str(split) for split, rows in found.items() if not rows]
    if lacking:
        raise UserError(
            f"--students {' '.join(patterns)}: no student of split {', '.join(lacking)} has such a "
            f"name; students in {store.address}: {_students(members)}"
        )
    best = {split: min(rows, key=_loss_on_select) for split, rows in found.items()}
    return {split: LogitKey(corpus, split, row["member"]) for split, row in best.items()}


def _loss_on_select(member: Mapping[str, Any]) -> float:
    loss = member["log_loss_select"]
    return math.inf if loss is None else loss


def _students(members: Sequence[Mapping[str, Any]]) -> str:
    names = (f"{row['member']} (split {row['split']})" for row in members if _is_student(row))
    return ", ".join(names) or "none"


def _is_student(member: Mapping[str, Any]) -> bool:
    return member["kind"] == "student" and member["view"] == 0


def _results_as_stored(
    corpus: Corpus, store: LogitStore, keys: Mapping[int, LogitKey]
) -> dict[int, dict[str, Any]]:
    """What each split's student was worth on the test clips when it was taught.

    They stand for the results until these are measured, which takes long.
    """
    clip_ids = corpus.table["clip_id"].to_pylist()
    results = {}
    for split, key in keys.items():
        (logits_NK,) = store.read([key], clip_ids=clip_ids)
        results[split] = development_results(corpus, split, logits_NK[corpus.rows(split, "test")])
    return results


def _described(
    options: SubmissionOptions,
    entrants: Mapping[int, Entrant],
    results: Mapping[int, dict[str, Any]],
) -> bytes:
    return filled(
        read_texts(options.meta),
        label=options.label,
        sample_rates=_sample_rates(entrants),
        complexity=[(each.complexity, each.parameter_bytes) for each in entrants.values()],
        results=results,
    )


def _evaluation_folder(options: SubmissionOptions) -> Path:
    if options.evaluation is not None:
        return options.evaluation.expanduser()
    if options.root is None or is_address(options.root):
        raise UserError(f"corpus {options.corpus}: say where the evaluation set is: --evaluation")
    return Path(options.root).expanduser().resolve().parent / tau_evaluation.FOLDER


def measure_all(
    entrants: Mapping[int, Entrant], corpus: Corpus, store: LogitStore
) -> dict[int, dict[str, Any]]:
    """What each split's entrant is worth on the test clips of the development set.

    Raises:
        BrokenAudio: some clips cannot be read.
    """
    decode(corpus, _sample_rates(entrants))
    totals = {split: len(corpus.rows(split, "test")) for split in entrants}
    logits = _predicted("test", development_logits, entrants, corpus, store, totals)
    return {
        split: development_results(corpus, split, logits_NK) for split, logits_NK in logits.items()
    }


def predict_all(
    entrants: Mapping[int, Entrant],
    evaluation: Corpus,
    scenes: Sequence[str],
    store: LogitStore,
) -> dict[int, bytes]:
    """The file of each split's predictions; logits that are in the store are not made again.

    Raises:
        UserError: some clips cannot be read.
    """
    try:
        decode(evaluation, _sample_rates(entrants))
    except BrokenAudio as error:
        raise UserError(
            f"{len(error.broken)} of {error.n_clips} clips in {error.root} cannot be read, the "
            f"first is {error.broken[0].file}: {error.broken[0].reason}; a submission predicts "
            "all clips, so fetch these again"
        ) from error
    totals = dict.fromkeys(entrants, len(evaluation))
    logits = _predicted("predict", evaluation_logits, entrants, evaluation, store, totals)
    with progress_bar() as bar:
        return {
            split: as_csv(logits[split], evaluation.table, scenes)
            for split in bar.track(logits, description="predictions as CSV")
        }


def _sample_rates(entrants: Mapping[int, Entrant]) -> set[int]:
    return {entrant.front_end.sample_rate for entrant in entrants.values()}


def _predicted(
    what: str,
    logits_of: Callable[..., np.ndarray],
    entrants: Mapping[int, Entrant],
    clips: Corpus,
    store: LogitStore,
    totals: Mapping[int, int],
) -> dict[int, np.ndarray]:
    """Each split's logits of clips, so many, with a bar."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    logits = {}
    with progress_bar() as bar:
        for split, entrant in entrants.items():
            shown = bar.add_task(f"{what}, split {split}", total=totals[split])
            logits[split] = logits_of(
                entrant,
                clips,
                store,
                device,
                lambda n, shown=shown: bar.advance(shown, n),
            )
    return logits


def _any_told(problems: Iterable[Problem]) -> bool:
    """Say what is wrong, each on a line of its own; whether there was anything."""
    found = list(problems)
    for problem in found:
        errors.print(f"error: {problem}", markup=False)
    return bool(found)


def _who_predicts(
    entrants: Mapping[int, Entrant], results: Mapping[int, Mapping[str, Any]]
) -> Table:
    rows = [
        [
            entrant.key.member,
            str(split),
            f"{entrant.parameter_bytes:,}",
            f"{entrant.complexity.macs:,}",
            f"{results[split]['overall']['accuracy']:.2f}",
        ]
        for split, entrant in entrants.items()
    ]
    return table(["student", "split", "bytes", "MACs", "acc. %"], rows)


def _show(package: Path, *, lacks_report: bool) -> None:
    """What is in the package, and what is left to do."""
    with ZipFile(package) as archive:
        rows = [[Path(each.filename).name, f"{each.file_size:,}"] for each in archive.infolist()]
    console.print(table(["file", "bytes"], rows))
    console.print(f"{package}: {package.stat().st_size:,} bytes, follows the rules", markup=False)
    if lacks_report:
        console.print("still to be handed in with it: the technical report, --technical-report PDF")
    say_next(["python", "-m", "report.dcase", "check", str(package)])


if __name__ == "__main__":
    run(main, SubmissionOptions)
