"""The text of student.h and student.c around the steps of a student."""

from dataclasses import dataclass
from string import Template

from students.c.memory import Plan
from students.c.memory_map import describe_arena
from students.c.printing import Printer
from students.c.statements import Lowered
from students.c.text import print_float


@dataclass(frozen=True, slots=True)
class Clip:
    """What a front-end takes."""

    sample_rate: int
    """In Hz."""
    samples: int


_HEADER = Template("""\
/* $title */
#ifndef STUDENT_H
#define STUDENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define STUDENT_CLASSES $n_classes
#define STUDENT_CHANNELS $channels
#define STUDENT_BANDS $bands
#define STUDENT_FRAMES $frames
/* RAM: all that the student needs beside a small stack. Align it to 8 bytes. */
#define STUDENT_ARENA_BYTES $arena_bytes
/* The code of a log-mel is log-mel / scale, rounded half to even, + zero, within 0...255. */
#define STUDENT_INPUT_SCALE $scale
#define STUDENT_INPUT_ZERO $zero
$several$front_end_sizes
/* In the order of the logits. */
extern const char *const student_classes[STUDENT_CLASSES];

/* Where the codes [channels][bands][frames] of a clip go, before each run: running overwrites them. */
uint8_t *student_input(void *arena);

/* The code of a log-mel. */
uint8_t student_quantise(float log_mel);

/* Computes the logits of the clip that is in the arena. */
void student_compute_logits(void *arena, float logits[STUDENT_CLASSES]);
$front_end_functions
#ifdef __cplusplus
}
#endif

#endif
""")
_SEVERAL = """\
/* Logits are log odds: a clip has each class whose logit is above 0, one, several or none. */
#define STUDENT_HAS_SEVERAL_LABELS
"""
_FRONT_END_SIZES = Template("""\
#define STUDENT_HAS_FRONT_END
#define STUDENT_SAMPLE_RATE $sample_rate
#define STUDENT_CLIP_SAMPLES $clip_samples
""")
_FRONT_END_FUNCTIONS = """
/* Not re-entrant, and too slow for a microphone's callback: let it fill a buffer of your own, which the main loop
   pushes. Nothing may push between student_ready and the next student_start. */

/* Begins a clip: also after each student_compute_logits. */
void student_start(void *arena);

/* Takes samples, as many at a time as there are; returns how many it took: no more than the clip still lacks,
   and none before student_start. */
size_t student_push(void *arena, const int16_t *samples, size_t count);

/* Whether the clip is complete: then its logits can be computed. */
int student_ready(const void *arena);
"""
_SOURCE = Template("""\
/* $title
 *
 * Maps are codes 0...255, [channels][rows][columns]; numbers are float32. All lies in the arena. Each step
 * is named after its layers; the numbers beside `arena` are the memory plan, which is above the steps.
 */
#include "student.h"

#include <math.h>
#include <string.h>

$include#include "kernels.h"
#include "numbers.h"

const char *const student_classes[STUDENT_CLASSES] = {$names};

$constants

/* The arena: offset, bytes, and what lies there, from its first step to its last one: "begin" is before all steps,
 * "end" behind them. "turn" is what a loop needs for some channels at a time. A map whose channels lie apart
 * counts with the gaps between them.
 *
$memory
 */

$functions

uint8_t *student_input(void *arena) { return (uint8_t *)arena + $input; }

uint8_t student_quantise(float log_mel) {
  return quantise(log_mel, STUDENT_INPUT_SCALE, STUDENT_INPUT_ZERO);
}

void student_compute_logits(void *given, float logits[STUDENT_CLASSES]) {
  uint8_t *const arena = given;
$calls
  memcpy(logits, arena + $logits, STUDENT_CLASSES * sizeof *logits);
$stop}
$front_end""")
_STOP = Template("""\
  /* What a clip had begun with is overwritten: nothing may be pushed until the next start. */
  front_end_stop(arena + $scratch);
""")
_FRONT_END = Template("""
void student_start(void *arena) { front_end_start((uint8_t *)arena + $scratch); }

size_t student_push(void *arena, const int16_t *samples, size_t count) {
  return front_end_push((uint8_t *)arena + $scratch, student_input(arena), samples, count);
}

int student_ready(const void *arena) { return front_end_ready((const uint8_t *)arena + $scratch); }
""")


def print_header(
    title: str,
    lowered: Lowered,
    plan: Plan,
    n_classes: int,
    clip: Clip | None,
    *,
    several: bool,
) -> str:
    """Return the text of student.h."""
    channels, bands, frames = lowered.input.shape
    sizes = {}
    if clip is not None:
        sizes = {"sample_rate": clip.sample_rate, "clip_samples": clip.samples}
    return _HEADER.substitute(
        title=title,
        n_classes=n_classes,
        channels=channels,
        bands=bands,
        frames=frames,
        arena_bytes=plan.arena_bytes,
        scale=print_float(lowered.grid.scale),
        zero=lowered.grid.zero,
        several=_SEVERAL * several,
        front_end_sizes=_FRONT_END_SIZES.substitute(sizes) if sizes else "",
        front_end_functions=_FRONT_END_FUNCTIONS if sizes else "",
    )


def print_source(
    title: str,
    lowered: Lowered,
    plan: Plan,
    printer: Printer,
    classes: tuple[str, ...],
) -> str:
    """Return the text of student.c."""
    ahead = plan.ahead
    return _SOURCE.substitute(
        title=title,
        include='#include "front_end.h"\n' * (ahead is not None),
        names=", ".join(map(print_text, classes)),
        constants="\n\n".join(printer.constants.texts),
        memory="\n".join(f" * {each}".rstrip() for each in describe_arena(plan, printer.names)),
        functions="\n\n".join(printer.functions),
        input=plan.find(lowered.input).offset,
        calls="\n".join(f"  {name}(arena);" for name in printer.names),
        logits=plan.find(lowered.logits).offset,
        stop="" if ahead is None else _STOP.substitute(scratch=ahead),
        front_end="" if ahead is None else _FRONT_END.substitute(scratch=ahead),
    )


def print_text(text: str) -> str:
    """Return a C string of a text, in UTF-8."""
    escaped = [
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in text.encode()
    ]
    return f'"{"".join(escaped)}"'
