"""Exporting a student: convert it, check its size, write its file, measure it."""

from audio.clips import Corpus
from disk import write_whole
from logit_store import LogitKey, LogitStore
from students.complexity import check_file_bytes
from students.export.convert import check_form, convert
from students.export.measure import (
    ExportClips,
    ExportMeasurements,
    OnCompared,
    measure_export,
)
from students.export.options import ExportOptions
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
        OverBudget: the file is larger than the limit; nothing is written.
        NoStudent: the member is not a student with weights.
        UnfitExportOptions: a form other than int8 for a student that was fine-tuned in int8.
    """
    student = load_student(store, key, len(corpus.scenes))
    check_form(student, options.form)
    clips = ExportClips(corpus, student)
    exported = convert(options, student, clips.feed)
    if options.byte_limit is not None:
        without_front_end = len(exported.content) - exported.front_end_bytes
        for n_bytes in (exported.parameter_bytes, without_front_end):
            check_file_bytes(n_bytes, student=key.member, max_bytes=options.byte_limit)
    write_whole(options.to, exported.content)
    return measure_export(
        exported, student, clips, on_compared, with_front_end=options.with_front_end
    )
