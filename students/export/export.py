"""Exporting a student: convert it, check its size, write its file, measure it."""

from audio.clips import Corpus
from disk import check_empty, write_whole, write_whole_folder
from logit_store import LogitKey, LogitStore
from students.budget import check_parameter_bytes, check_ram
from students.errors import NoPlan
from students.export.convert import ExportedFile, check_form, convert
from students.export.measure import (
    ExportClips,
    ExportMeasurements,
    OnCompared,
    measure_export,
)
from students.export.options import ExportOptions, UnfitExportOptions
from students.stored import load_student

REFERENCE = "student.onnx"
"""Beside a program in C: the same student for ONNX Runtime."""


def export_student(
    options: ExportOptions,
    store: LogitStore,
    corpus: Corpus,
    key: LogitKey,
    on_compared: OnCompared = lambda done, total: None,
) -> ExportMeasurements:
    """Write a student's file, or its folder, and measure it; never looks at the labels of the fold test.

    Args:
        options: how to export; store, corpus and member are the following arguments.
        store: the store that has the student.
        corpus: the corpus that the student was trained on.
        key: the key of its logits.
        on_compared: called during the comparison, which takes longest.

    Raises:
        OverBudget: the student's parameters or its RAM are larger than the limit; nothing is written.
        NoPlan: C has no form of it, and it is to be in C, or there is a limit of its RAM.
        OSError: the folder of a program in C is not empty.
        NoStudent: the member is not a student with weights.
        UnfitExportOptions: a form other than int8 for a student that was fine-tuned in int8, or with a
            limit of its RAM.
    """
    _check_options(options)
    student = load_student(store, key, len(corpus.scenes))
    check_form(student, options.form)
    if options.byte_limit is not None:
        check_parameter_bytes(
            student.params,
            student=key.member,
            precision=options.precision,
            max_bytes=options.byte_limit,
        )
    clips = ExportClips(corpus, student)
    exported = convert(options, student, clips.feed)
    _check_ram(options, key, exported)
    _write(options, exported)
    return measure_export(exported, student, clips, on_compared, options)


def _check_options(options: ExportOptions) -> None:
    if options.max_ram is not None and options.form not in ("onnx-int8", "c"):
        raise UnfitExportOptions(
            f"--max-ram {options.max_ram} with --form {options.form}: only the forms onnx-int8 and c have "
            "a memory plan; leave one of them out"
        )
    wants_folder = options.form == "c"
    if options.to.exists() and options.to.is_dir() != wants_folder:
        found, wanted = ("file", "folder") if wants_folder else ("folder", "file")
        raise UnfitExportOptions(
            f"--to {options.to}: is a {found}, and --form {options.form} writes a {wanted}: name another"
        )
    if wants_folder:
        check_empty(options.to)


def _write(options: ExportOptions, exported: ExportedFile) -> None:
    if exported.program is None:
        write_whole(options.to, exported.content)
        return
    files = {name: text.encode() for name, text in exported.program.files.items()}
    write_whole_folder(options.to, {**files, REFERENCE: exported.content})


def _check_ram(options: ExportOptions, key: LogitKey, exported: ExportedFile) -> None:
    if options.max_ram is None or exported.ram is None:
        return
    if isinstance(exported.ram, NoPlan):
        raise NoPlan(f"{key} has no memory plan: {exported.ram}") from exported.ram
    check_ram(exported.ram, student=key.member, max_ram=options.max_ram)
