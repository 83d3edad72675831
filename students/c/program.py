"""From a student's int8 graph to the files of its program in C."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from audio.front_ends import FrontEnd
from students.c.folder import FolderFacts, make_folder_files
from students.c.front_end import FrontEndProgram, make_front_end
from students.c.lowering import lower
from students.c.memory import Plan, plan_memory
from students.c.order import order_steps
from students.c.printing import Printer
from students.c.reading import read_graph
from students.c.source import Clip, print_header, print_source
from students.c.splitting import split_layers
from students.c.statements import Lowered
from students.c.steps import Step, group_statements

_HERE = Path(__file__).parent
_COPIED = (
    "kernels.h",
    "convolution.h",
    "depthwise.h",
    "products.h",
    "rounding.h",
    "numbers.h",
)
_SMOOTHING = "smoothing.h"
"""Follows one class at a time, so students that name several do without."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentFacts:
    """What a student's file says of it."""

    member: str
    """The student's name in its store."""
    classes: tuple[str, ...]
    """Classes of the logits, in order."""
    sample_rate: int
    """Sample rate of its waveforms, in Hz."""
    clip_samples: int
    """Number of samples of a clip."""
    has_several_labels: bool = False
    """Whether a clip may have several labels, or none."""


@dataclass(frozen=True, eq=False, slots=True)
class Program:
    """The files of a student in C, by name, without its reference."""

    files: Mapping[str, str]
    arena_bytes: int
    """RAM beside the stack."""
    constant_bytes: int
    """Weights, scales and tables."""


@dataclass(frozen=True, eq=False, slots=True)
class PlannedProgram:
    """What a student does, step by step, and where everything lies."""

    lowered: Lowered
    steps: tuple[Step, ...]
    memory: Plan


def make_program(
    model: onnx.ModelProto, facts: StudentFacts, front_end: FrontEnd | None = None
) -> Program:
    """Write a student as a program in C.

    Args:
        model: from log-mels to logits, as `students.export.onnx_int8` writes it.
        facts: what the program says of itself.
        front_end: takes samples instead of log-mels, with this front-end.

    Raises:
        UnknownOperator: an operator that C is not written for.
        UnfitFrontEnd: a front-end that C is not written for.
    """
    lowered = lower(read_graph(model))
    ahead = None
    if front_end is not None:
        grid = lowered.grid
        ahead = make_front_end(front_end, facts.clip_samples, grid.scale, grid.zero)
    planned = _plan(lowered, ahead)
    printer = Printer(planned.memory)
    for number, step in enumerate(planned.steps):
        printer.print_step(number, step)
    constant_bytes = printer.constants.count_bytes + (ahead.constant_bytes if ahead else 0)
    title = f"{facts.member} in C: {' x '.join(map(str, lowered.input.shape))} log-mels to logits."
    clip = Clip(facts.sample_rate, facts.clip_samples) if ahead else None
    several = facts.has_several_labels
    copied = _COPIED if several else (*_COPIED, _SMOOTHING)
    sources = {
        "student.h": print_header(
            title, lowered, planned.memory, len(facts.classes), clip, several=several
        ),
        "student.c": print_source(title, lowered, planned.memory, printer, facts.classes),
        **{name: (_HERE / name).read_text() for name in copied},
        **(ahead.files if ahead else {}),
    }
    channels, bands, frames = lowered.input.shape
    folder_facts = FolderFacts(
        member=facts.member,
        classes=facts.classes,
        input_shape=(channels, bands, frames),
        arena_bytes=planned.memory.arena_bytes,
        constant_bytes=constant_bytes,
        sample_rate=facts.sample_rate,
        clip_samples=facts.clip_samples,
        has_front_end=ahead is not None,
        has_several_labels=several,
    )
    files = {**sources, **make_folder_files(folder_facts)}
    return Program(files, planned.memory.arena_bytes, constant_bytes)


def plan_program(model: onnx.ModelProto) -> PlannedProgram:
    """Plan a student without its front-end.

    Args:
        model: as for `make_program`.

    Raises:
        UnknownOperator: an operator that C is not written for.
    """
    return _plan(lower(read_graph(model)), None)


def _plan(lowered: Lowered, ahead: FrontEndProgram | None) -> PlannedProgram:
    grouped = group_statements(split_layers(lowered.statements))
    steps = tuple(order_steps(grouped, lowered.input, lowered.logits))
    around = ahead.scratch_bytes if ahead else 0
    return PlannedProgram(lowered, steps, plan_memory(steps, lowered.input, lowered.logits, around))
