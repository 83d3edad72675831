"""From a stored student to the content of its file.

Dimensions: B clips in a batch, C channels, F mel bands, T frames.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import onnx

from audio.clips import Corpus
from audio.feed import Feed
from students.branches import fold_branches
from students.c.program import Program, StudentFacts, make_program
from students.c.ram import measure_ram
from students.errors import NoPlan
from students.export import onnx_file, onnx_int8
from students.export.options import ExportForm, ExportOptions, UnfitExportOptions
from students.int8 import simulate_int8
from students.quantise import remove_rounding
from students.recipe import CALIBRATION_CLIPS
from students.runtime import SEVERAL
from students.stored import StoredStudent


@dataclass(frozen=True, eq=False, slots=True)
class ExportedFile:
    """The content of a student's file, and of the same file with its front-end."""

    content: bytes
    """What is written: with its front-end if that was asked for."""
    with_front_end: bytes
    """The same with its front-end, to be timed from waveforms on."""
    parameter_bytes: int
    """Bytes of the student's numbers in the file."""
    front_end_bytes: int
    """Bytes of the front-end in the content: 0 if it is not inside."""
    ram: int | NoPlan | None
    """Bytes of RAM of its C program, or why it has none; None: it is not in int8. The front-end counts in
    the form c only, where it was asked for."""
    program: Program | None
    """The files of the form c."""


def check_form(student: StoredStudent, form: ExportForm) -> None:
    """Refuse a form that a student's weights are not made for.

    Raises:
        UnfitExportOptions: a form other than int8 for a student that was fine-tuned in int8.
    """
    if student.tuned_in_int8 and form not in ("onnx-int8", "c"):
        raise UnfitExportOptions(
            f"{student.key} was fine-tuned in int8 and is exact only there, not as {form}: choose "
            "onnx-int8 or c, or the student that it started from (quantised_from in its record)"
        )


def convert(options: ExportOptions, student: StoredStudent, feed: Feed) -> ExportedFile:
    """Convert a student to the content of its file; a program in C has that of onnx-int8 beside it.

    Raises:
        NoPlan: the form c, and an operator that C is not written for.
        UnfitFrontEnd: the form c, and a front-end that C is not written for.
    """
    form = "onnx-int8" if options.form == "c" else options.form
    model = convert_to_onnx(student, feed, form, options.calibration_clips)
    facts = collect_facts(student, feed.corpus, form)
    front_end = onnx_file.convert_front_end(student.front_end, facts["clip_samples"])
    whole = onnx_file.prepend_front_end(model, front_end)
    bare = onnx_file.serialise(model, facts | {"takes_waveforms": False})
    both = onnx_file.serialise(whole, facts | {"takes_waveforms": True})
    content = both if options.with_front_end else bare
    program = _write_program(options, student, facts, model) if options.form == "c" else None
    ram = program.arena_bytes if program else None
    if options.form == "onnx-int8":
        ram = _plan_ram(model)
    parameter_bytes = onnx_file.count_parameter_bytes(model)
    front_end_bytes = len(content) - len(bare)
    return ExportedFile(content, both, parameter_bytes, front_end_bytes, ram, program)


def _write_program(
    options: ExportOptions, student: StoredStudent, facts: Mapping[str, Any], model: onnx.ModelProto
) -> Program:
    said = StudentFacts(
        member=facts["member"],
        classes=tuple(facts["classes"]),
        sample_rate=facts["sample_rate"],
        clip_samples=facts["clip_samples"],
        has_several_labels=SEVERAL in facts,
    )
    return make_program(model, said, student.front_end if options.with_front_end else None)


def _plan_ram(model: onnx.ModelProto) -> int | NoPlan:
    try:
        return measure_ram(model)
    except NoPlan as error:
        return error


def convert_to_onnx(
    student: StoredStudent,
    feed: Feed,
    form: ExportForm,
    calibration_clips: int = CALIBRATION_CLIPS,
) -> onnx.ModelProto:
    """Convert a student to an ONNX model from log-mels [B, C, F, T] to logits.

    Args:
        student: the student, on the CPU.
        feed: the corpus that it was trained on, on the CPU.
        form: only int8 for a student that was fine-tuned in int8.
        calibration_clips: at most this many clips of the fold fit set the ranges of int8.
    """
    if form == "onnx-int8":
        simulated = simulate_int8(student, feed, calibration_clips)
        in_float32 = onnx_file.convert_student(remove_rounding(simulated), feed.input_shape)
        return onnx_int8.convert_to_integers(in_float32, simulated)
    model = onnx_file.convert_student(fold_branches(student.student), feed.input_shape)
    return onnx_file.convert_model_to_float16(model) if form == "onnx-fp16" else model


def collect_facts(student: StoredStudent, corpus: Corpus, form: ExportForm) -> dict[str, Any]:
    """Return the metadata of a student's file, except `takes_waveforms`."""
    sample_rate = student.front_end.sample_rate
    several = {SEVERAL: True} if corpus.has_several_labels else {}
    return {
        "member": student.key.member,
        "corpus": student.key.corpus,
        "split": student.key.split,
        "form": form,
        "classes": corpus.scenes,
        "sample_rate": sample_rate,
        "clip_samples": round(corpus.clip_duration_s * sample_rate),
        "front_end": asdict(student.front_end),
        **several,
    }
