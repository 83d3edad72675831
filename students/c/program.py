"""From a student's int8 graph to the text of its program in C."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from students.c.graph import read_graph
from students.c.lowering import Lowered, lower
from students.c.memory import Plan, plan_memory
from students.c.printing import Printer
from students.c.steps import group_statements
from students.c.text import print_float

_HERE = Path(__file__).parent


@dataclass(frozen=True, eq=False, slots=True)
class Program:
    """The files of a student in C."""

    files: Mapping[str, str | bytes]
    arena_bytes: int
    """RAM beside the stack."""
    constant_bytes: int
    """Weights, scales and tables."""


def make_program(model: onnx.ModelProto, classes: tuple[str, ...]) -> Program:
    lowered = lower(read_graph(model))
    steps = group_statements(lowered.statements)
    plan = plan_memory(steps, lowered.input, lowered.logits)
    printer = Printer(plan)
    for number, step in enumerate(steps):
        printer.print_step(number, step)
    files = {
        "student.h": _print_header(lowered, plan, classes),
        "student.c": _print_source(lowered, plan, printer, classes),
        "kernels.h": (_HERE / "kernels.h").read_text(),
        "numbers.h": (_HERE / "numbers.h").read_text(),
    }
    return Program(files, plan.arena_bytes, printer.constant_bytes)


def _print_header(lowered: Lowered, plan: Plan, classes: tuple[str, ...]) -> str:
    channels, bands, frames = lowered.input.shape
    return f"""\
#ifndef STUDENT_H
#define STUDENT_H

#include <stddef.h>
#include <stdint.h>

#define STUDENT_CLASSES {len(classes)}
#define STUDENT_CHANNELS {channels}
#define STUDENT_BANDS {bands}
#define STUDENT_FRAMES {frames}
#define STUDENT_ARENA_BYTES {plan.arena_bytes} /* RAM beside a small stack; align it to 8 */
#define STUDENT_INPUT_SCALE {print_float(lowered.grid.scale)}
#define STUDENT_INPUT_ZERO {lowered.grid.zero}

extern const char *const student_classes[STUDENT_CLASSES];

/* Where the codes [channels][bands][frames] of a clip go, before each run: running overwrites them. */
uint8_t *student_input(void *arena);

/* The code of a log-mel. */
uint8_t student_quantise(float log_mel);

void student_compute_logits(void *arena, float logits[STUDENT_CLASSES]);

#endif
"""


def _print_source(
    lowered: Lowered, plan: Plan, printer: Printer, classes: tuple[str, ...]
) -> str:
    names = ", ".join(f'"{each}"' for each in classes)
    constants = "\n\n".join(printer.constants.values())
    functions = "\n\n".join(printer.functions)
    calls = "\n".join(f"  {call}" for call in printer.calls)
    logits = plan.find(lowered.logits).offset
    return f"""\
#include "student.h"

#include <math.h>
#include <string.h>

#include "kernels.h"
#include "numbers.h"

const char *const student_classes[STUDENT_CLASSES] = {{{names}}};

{constants}

{functions}

uint8_t *student_input(void *arena) {{ return (uint8_t *)arena + {plan.find(lowered.input).offset}; }}

uint8_t student_quantise(float log_mel) {{
  return quantise(log_mel, STUDENT_INPUT_SCALE, STUDENT_INPUT_ZERO);
}}

void student_compute_logits(void *arena_given, float logits[STUDENT_CLASSES]) {{
  uint8_t *const arena = arena_given;
{calls}
  memcpy(logits, arena + {logits}, STUDENT_CLASSES * sizeof *logits);
}}
"""
