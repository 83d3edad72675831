"""The files around a student in C: programs, how they are built, and what the folder says of itself.

Dimensions: C channels, F mel bands, T frames.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from students.smoothing import SMOOTHING_S, compute_share

_TEMPLATES = Path(__file__).with_name("templates")
_AS_THEY_ARE = ("main.c", "start.c", "cortex_m.ld", "Makefile")
_README = "README.md"
_FRONT_END_FILES = (
    "| `front_end.h`, `front_end.c` | from 16-bit samples to what the student takes |\n"
)
_SMOOTHING_FILE = "| `smoothing.h` | decisions over time, from the logits of overlapping clips |\n"
_PUSHED = """\
/* Samples wait here while logits are computed. A power of 2. */
#define RING $ring
static int16_t ring[RING];
static volatile size_t heard; /* samples so far */

/* The microphone's callback: it only copies. */
void hear(const int16_t *samples, size_t count) {
  for (size_t i = 0; i < count; i++) ring[(heard + i) % RING] = samples[i];
  heard += count;
}

/* The main loop: it alone calls the student. */
void listen(void) {
  size_t pushed = 0;
  student_start(arena);
  for (;;) {
    size_t count = heard - pushed, to_end = RING - pushed % RING;
    if (count > to_end) count = to_end;
    pushed += student_push(arena, ring + pushed % RING, count);
    if (student_ready(arena)) {
      float logits[STUDENT_CLASSES];
      student_compute_logits(arena, logits);
      student_start(arena);
    }
  }
}
"""
_WHY_A_RING = """
Computing takes long: never call `student_push` or `student_compute_logits` in the callback, which would lose the
samples of that time. The callback (or DMA) only fills a ring or a double buffer of your own, and the main loop
pushes and computes. The ring must hold computing time x sample rate samples, and a callback's piece more: $ring
are enough for $ring_ms ms. `python -m students.device` says the time at `--mhz`; a slow core, or slow memory, needs
a larger ring. If `heard - pushed` is ever above `RING`, samples were lost. The functions are not re-entrant: they share the arena, so nothing
may push between `student_ready` and the next `student_start`.
"""
_GIVEN = """\
uint8_t *codes = student_input(arena); /* [channels][bands][frames] */
for (size_t i = 0; i < STUDENT_CHANNELS * STUDENT_BANDS * STUDENT_FRAMES; i++) {
  codes[i] = student_quantise(log_mels[i]);
}
float logits[STUDENT_CLASSES];
student_compute_logits(arena, logits); /* overwrites the codes */
"""
_SMOOTHED = """
## Decide over time

`smoothing.h` names the class that is on: it begins at its upper threshold, and ends below its lower one.

```c
float begins_at[STUDENT_CLASSES], ends_at[STUDENT_CLASSES];            /* thresholds of each class */
for (int k = 0; k < STUDENT_CLASSES; k++) begins_at[k] = 0.5f;         /* change those of single classes here */
for (int k = 0; k < STUDENT_CLASSES; k++) ends_at[k] = 0.7f * begins_at[k];
static smoothing state;
smoothing_start(&state, begins_at, ends_at, ${share}f);          /* 1 - exp(-$seconds / $constant) */
int on = smoothing_push(&state, logits); /* after each clip: a class, or SMOOTHING_NONE_OF_THEM */
```

Clips come one after the other, each $seconds s. Clips that overlap need a ring of a clip's samples of your own,
pushed anew at each hop, and take as many times the computing; the share is then 1 - exp(-hop / $constant).

A quiet room is a class as well: a student knows only what it was trained on, so record your background as a class
of its own.
"""
_SEVERAL = """
Logits are log odds of each class by itself: a clip has the classes whose logits are above 0, one, several or none.
The probability of a class is 1 / (1 + exp(-logit)).
"""
_PARITY = "of clips in the same class"
_PARITY_OF_SEVERAL = "of clips and classes that both decide alike"
_LONGEST_WAIT = 0.1
"""Seconds that the ring of the example holds at least: about what a Cortex-M7 of 480 MHz takes for the largest
students of the catalogue, at one instruction a cycle."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderFacts:
    """What a student's folder says of itself."""

    member: str
    """The student's name in its store."""
    classes: tuple[str, ...]
    """Classes of the logits, in order."""
    input_shape: tuple[int, int, int]
    """(C, F, T) of the log-mels of a clip."""
    arena_bytes: int
    """RAM that the student needs beside its stack."""
    constant_bytes: int
    """Bytes of weights, scales and tables."""
    sample_rate: int
    """Sample rate of its waveforms, in Hz."""
    clip_samples: int
    """Number of samples of a clip."""
    has_front_end: bool
    """Whether it takes samples, not log-mels."""
    has_several_labels: bool
    """Whether a clip may have several labels, or none; then smoothing.h is not in the folder."""


def make_folder_files(facts: FolderFacts) -> Mapping[str, str]:
    """Return the text of the files beside the student's own, by name."""
    files = {name: (_TEMPLATES / name).read_text() for name in _AS_THEY_ARE}
    return files | {_README: _describe(facts)}


def _describe(facts: FolderFacts) -> str:
    more = [_FRONT_END_FILES] * facts.has_front_end + [_SMOOTHING_FILE] * (
        not facts.has_several_labels
    )
    return Template((_TEMPLATES / _README).read_text()).substitute(
        member=facts.member,
        shape=_describe_input(facts),
        n_classes=len(facts.classes),
        classes=", ".join(facts.classes),
        more_files="".join(more),
        usage=_describe_usage(facts),
        smoothing=_SEVERAL if facts.has_several_labels else _describe_smoothing(facts),
        parity=_PARITY_OF_SEVERAL if facts.has_several_labels else _PARITY,
        arena_bytes=f"{facts.arena_bytes:,}",
        constant_bytes=f"{facts.constant_bytes:,}",
    )


def _describe_usage(facts: FolderFacts) -> str:
    if not facts.has_front_end:
        return f"{_GIVEN}```\n"
    ring = 1 << math.ceil(math.log2(facts.sample_rate * _LONGEST_WAIT))
    ring_ms = f"{1_000 * ring / facts.sample_rate:.0f}"
    return Template(f"{_PUSHED}```\n{_WHY_A_RING}").substitute(ring=ring, ring_ms=ring_ms)


def _describe_smoothing(facts: FolderFacts) -> str:
    seconds = facts.clip_samples / facts.sample_rate
    share = f"{compute_share(seconds, SMOOTHING_S):.8g}"
    numbers = {
        "seconds": f"{seconds:g}",
        "constant": f"{SMOOTHING_S:g}",
        "share": share if "." in share else f"{share}.0",
    }
    return Template(_SMOOTHED).substitute(numbers)


def _describe_input(facts: FolderFacts) -> str:
    seconds = facts.clip_samples / facts.sample_rate
    clip = f"{seconds:g} s of sound at {facts.sample_rate:,} Hz"
    if facts.has_front_end:
        return f"16-bit samples of {clip}"
    channels, bands, frames = facts.input_shape
    return f"log-mels {channels} x {bands} x {frames} of {clip}"
