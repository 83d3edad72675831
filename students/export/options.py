"""The options of an export."""

from dataclasses import dataclass
from typing import Literal

import tyro

from audio.corpora import CorpusName
from students.budget import MAX_BYTES
from students.cost import Precision
from students.recipe import CALIBRATION_CLIPS
from terminal.values import Address, Count, Folder, Name, NewPath, Size

ExportForm = Literal["onnx", "onnx-fp16", "onnx-int8", "c"]
PRECISIONS: dict[ExportForm, Precision] = {
    "onnx": "fp32",
    "onnx-fp16": "fp16",
    "onnx-int8": "int8",
    "c": "int8",
}
"""Of a student's parameters in each form."""


class UnfitExportOptions(ValueError):
    """Options that contradict each other, or the store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOptions:
    r"""Write a stored student as an ONNX file or as a program in C, and measure what it is worth there.

    Clips of the fold fit set the ranges of int8, unless the student was fine-tuned in int8. The
    file's logits are compared with torch's on the clips of the fold test, whose labels stay unread;
    its accuracy is measured on the fold select.

    Example:
        python -m students.export MEMBER --store runs/demo \
            --with-front-end --to student.onnx
    """

    member: tyro.conf.Positional[Name]
    """The student's name, or enough of its beginning to distinguish it from others."""
    store: Address
    """The logit store that has the student: a folder or s3://BUCKET/PREFIX."""
    to: NewPath
    """The file to write; an existing file is replaced. With --form c: the folder to write, which must be
    empty or new."""
    form: ExportForm = "onnx-int8"
    """onnx: float32; onnx-fp16: parameters in float16; onnx-int8: convolutions and linear layers in
    int8; c: a folder with the same in C11, for a microcontroller."""
    corpus: CorpusName = "demo"
    """The corpus whose clips calibrate (fold fit), judge (fold select) and compare (fold test)."""
    root: Folder | None = None
    """The corpus's folder (demo: needs none)."""
    with_front_end: bool = False
    """The file takes waveforms, not log-mels, as python -m students.classify needs it; a program in C
    takes 16-bit samples, in pieces."""
    calibration_clips: Count = CALIBRATION_CLIPS
    """At most this many clips of the fold fit set the ranges of int8; a student that was fine-tuned
    in int8 (python jobs/quantise.py) has its own."""
    max_bytes: Size | None = None
    """Limit for the student's parameters as the challenge counts them, their number times the bits of
    the form; if not given, no limit for float32, and 128,000 for the others."""
    max_ram: Size | None = None
    """Limit for the bytes of RAM that the student needs on a device, the peak of the memory plan of its
    C program: 256000; for onnx-int8, without the front-end, and for c; no limit if not given."""
    debug: bool = False
    """Show the traceback of an error."""

    @property
    def precision(self) -> Precision:
        """The precision of the student's parameters in this form."""
        return PRECISIONS[self.form]

    @property
    def byte_limit(self) -> int | None:
        """Largest size of the student's parameters at this precision; None is no limit."""
        if self.max_bytes is None and self.form != "onnx":
            return MAX_BYTES
        return self.max_bytes
