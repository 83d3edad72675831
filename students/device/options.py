"""The options of a device's run."""

from dataclasses import dataclass
from typing import Literal

import tyro

from audio.corpora import CorpusName
from terminal.values import Count, File, Folder

BoardName = Literal["m7", "m4", "m3", "host"]


class UnfitDevice(ValueError):
    """A student that cannot be built or run on a board here; the message says what is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceOptions:
    """Build a student in C, run it on an emulated Cortex-M, and say what it costs there.

    Prints flash, RAM, instructions, agreement with ONNX Runtime and accuracy on the fold select, and
    writes them into the README of the student's folder. Labels of the fold test stay unread. Needs
    Debian's gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm; for host only gcc.

    Example:
        python -m students.device student_c/student.c --board m4 --mhz 168
    """

    student: tyro.conf.Positional[File]
    """The student.c that python -m students.export --form c wrote, in its folder."""
    board: BoardName = "m7"
    """m7, m4, m3: a Cortex-M7, M4 or M3 in QEMU; host: this computer, which counts no instructions."""
    clips: Count = 100
    """At most this many clips of the fold select (judged and compared), and of test (compared)."""
    mhz: Count | None = None
    """Clock of the processor, to turn instructions into milliseconds; 480 for m7, 168 for m4 and 100
    for m3 if not given. On the host, time is measured."""
    corpus: CorpusName = "demo"
    """The corpus that the student was trained on."""
    root: Folder | None = None
    """The corpus's folder (demo: needs none)."""
    debug: bool = False
    """Show the traceback of an error."""
