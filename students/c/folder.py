"""The files around a student in C: programs, how they are built, and what the folder says of itself.

Dimensions: C channels, F mel bands, T frames.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

_TEMPLATES = Path(__file__).with_name("templates")
_AS_THEY_ARE = ("main.c", "start.c", "cortex_m.ld", "Makefile")
_README = "README.md"
_FRONT_END_FILES = (
    "| `front_end.h`, `front_end.c` | from 16-bit samples to what the student takes |\n"
)
_SMOOTHING_FILE = "| `smoothing.h` | decisions over time, from the logits of overlapping clips |\n"
_PUSHED = """\
/* From the microphone's callback, with 10 ms of samples; student_start(arena) once before the first. */
void hear(const int16_t *samples, size_t count) {
  while (count > 0) {
    size_t taken = student_push(arena, samples, count);
    samples += taken;
    count -= taken;
    if (student_ready(arena)) {
      float logits[STUDENT_CLASSES];
      student_compute_logits(arena, logits);
      student_start(arena);
    }
  }
}
"""
_GIVEN = """\
uint8_t *codes = student_input(arena); /* [channels][bands][frames] */
for (size_t i = 0; i < STUDENT_CHANNELS * STUDENT_BANDS * STUDENT_FRAMES; i++) {
  codes[i] = student_quantise(log_mels[i]);
}
float logits[STUDENT_CLASSES];
student_compute_logits(arena, logits); /* overwrites the codes */
"""


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
    has_smoothing: bool
    """Whether smoothing.h is in the folder."""


def make_folder_files(facts: FolderFacts) -> Mapping[str, str]:
    """Return the text of the files beside the student's own, by name."""
    files = {name: (_TEMPLATES / name).read_text() for name in _AS_THEY_ARE}
    return files | {_README: _describe(facts)}


def _describe(facts: FolderFacts) -> str:
    more = [_FRONT_END_FILES] * facts.has_front_end + [_SMOOTHING_FILE] * facts.has_smoothing
    return Template((_TEMPLATES / _README).read_text()).substitute(
        member=facts.member,
        shape=_describe_input(facts),
        n_classes=len(facts.classes),
        classes=", ".join(facts.classes),
        more_files="".join(more),
        usage=_PUSHED if facts.has_front_end else _GIVEN,
        arena_bytes=f"{facts.arena_bytes:,}",
        constant_bytes=f"{facts.constant_bytes:,}",
    )


def _describe_input(facts: FolderFacts) -> str:
    seconds = facts.clip_samples / facts.sample_rate
    clip = f"{seconds:g} s of sound at {facts.sample_rate:,} Hz"
    if facts.has_front_end:
        return f"16-bit samples of {clip}"
    channels, bands, frames = facts.input_shape
    return f"log-mels {channels} x {bands} x {frames} of {clip}"
