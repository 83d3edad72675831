"""The front-end in C on QEMU's Cortex-M: the host's codes, for a known number of instructions."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hand_made_students import need

from audio.front_ends import ASCDOMAIN_CNN, CP_MOBILE, DSMN_FRONT_END
from students.c import front_end as front_end_in_c
from students.device.boards import BOARDS
from students.device.build import build_program
from students.device.run import run_clips

N_SUMS = 8
HEADER = """
#define STUDENT_CLASSES 8
#define STUDENT_HAS_FRONT_END
#define STUDENT_SAMPLE_RATE FRONT_END_SAMPLE_RATE
#define STUDENT_CLIP_SAMPLES FRONT_END_CLIP_SAMPLES
#define STUDENT_ARENA_BYTES (FRONT_END_SCRATCH_BYTES + FRONT_END_CODE_BYTES)
#include "front_end.h"
void student_start(void *arena);
size_t student_push(void *arena, const int16_t *samples, size_t count);
int student_ready(const void *arena);
void student_compute_logits(void *arena, float logits[STUDENT_CLASSES]);
"""
SOURCE = """
#include "student.h"
static uint8_t *find_codes(void *arena) { return (uint8_t *)arena + FRONT_END_SCRATCH_BYTES; }
void student_start(void *arena) { front_end_start(arena); }
size_t student_push(void *arena, const int16_t *samples, size_t count) {
  return front_end_push(arena, find_codes(arena), samples, count);
}
int student_ready(const void *arena) { return front_end_ready(arena); }
void student_compute_logits(void *arena, float logits[STUDENT_CLASSES]) {
  for (int k = 0; k < STUDENT_CLASSES; k++) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < FRONT_END_CODE_BYTES; i++) {
      sum = sum * 31u + find_codes(arena)[i] * (i % 8u == (uint32_t)k);
    }
    logits[k] = (float)(sum >> 8);
  }
}
"""
"""A student whose logits are check sums of its codes, exact in float32."""
TEMPLATES = Path(front_end_in_c.__file__).parent / "templates"

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("front_end", "most"),
    [(ASCDOMAIN_CNN, 16.6e6), (CP_MOBILE, 16.6e6), (DSMN_FRONT_END, 13.8e6)],
    ids=["ASCDomain", "CP-Mobile", "DSMN"],
)
def test_codes_are_the_same_on_every_board_for_few_instructions(front_end, most, tmp_path):
    need("gcc", "arm-none-eabi-gcc", "qemu-system-arm")
    n_samples = front_end.sample_rate
    program = front_end_in_c.make_front_end(front_end, n_samples, 0.08, 120)
    written = program.files | {"student.h": HEADER, "student.c": SOURCE}
    for name, text in written.items():
        (tmp_path / name).write_text(text)
    for name in ("start.c", "cortex_m.ld"):
        shutil.copy(TEMPLATES / name, tmp_path)
    noise = np.random.default_rng(0).normal(size=n_samples) * 3_000
    clip = noise.clip(-32_768, 32_767).astype("<i2").tobytes()
    results = {}
    for name, board in BOARDS.items():
        into = tmp_path / name
        into.mkdir()
        built = build_program(tmp_path, board, into)
        results[name] = run_clips(built, board, [clip], N_SUMS, into)
        np.testing.assert_array_equal(results[name].logits_NK, results["m7"].logits_NK)
    assert results["m7"].front_end_N[0] <= most
    # The processor without floating point.
    assert results["m3"].front_end_N[0] <= 27 * most
