"""Exporting a student: convert it, check its size, write its file, measure it."""

from audio.clips import Corpus
from disk import write_whole
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


def export_student(
    options: ExportOptions,
    store: LogitStore,
    corpus: Corpus,
    key: LogitKey,
    on_compared: OnCompared = lambda done, total: None,
) -> ExportMeasurements:
    """Write a student's file and measure it; never looks at the labels of the fold test.

    Args:
        options: how to export; store, corpus and member are the following arguments.
        store: the store that has the student.
        corpus: the corpus that the student was trained on.
        key: the key of its logits.
        on_compared: called during the comparison, which takes longest.

    Raises:
        OverBudget: the student's parameters or its RAM are larger than the limit; nothing is written.
        NoPlan: there is a limit of its RAM, and C has no form of it.
        NoStudent: the member is not a student with weights.
        UnfitExportOptions: a form other than int8 for a student that was fine-tuned in int8, or with a
            limit of its RAM.
    """
    if options.max_ram is not None and options.form != "onnx-int8":
        raise UnfitExportOptions(
            f"--max-ram {options.max_ram} with --form {options.form}: only the form onnx-int8 has a "
            "memory plan; leave one of them out"
        )
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
    write_whole(options.to, exported.content)
    return measure_export(exported, student, clips, on_compared, options)


def _check_ram(options: ExportOptions, key: LogitKey, exported: ExportedFile) -> None:
    if options.max_ram is None or exported.ram is None:
        return
    if isinstance(exported.ram, NoPlan):
        raise NoPlan(f"{key} has no memory plan: {exported.ram}") from exported.ram
    check_ram(exported.ram, student=key.member, max_ram=options.max_ram)
