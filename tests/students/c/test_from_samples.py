"""A student in C from samples to logits, against its file with the front-end on ONNX Runtime.

Dimensions: N clips, S samples of a clip, K classes.
"""

import subprocess
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from c_students import needs_vnni
from hand_made_students import need
from torch import nn

from audio.decoding import FULL_SCALE
from audio.front_ends import FrontEnd
from audio.log_mel import LogMel
from students import build
from students.c.program import StudentFacts, make_program
from students.export import onnx_file
from students.export.onnx_int8 import convert_to_integers
from students.quantise import calibrate, quantise, remove_rounding

RATE, N_CLASSES = 8_000, 3
PLAIN = FrontEnd(
    sample_rate=RATE, n_fft=512, window_samples=400, hop_samples=250, mel_bands=32, max_hz=4_000
)
EMPHASISED = replace(PLAIN, pre_emphasis=0.97, mel_bank="kaldi", mel_bands=24, scale=5.0)
WHOLE_CLIP = replace(
    PLAIN, mel_bands=64, hop_samples=250, n_fft=1024, delta=True, standardise=True, log="log10"
)
DSMN = {"blocks": ("split",) * 5, "channels": (4, 6, 4, 6, 4), "sixth_block": False}
MAIN = """
#include <stdio.h>
#include "student.h"

static _Alignas(8) uint8_t arena[STUDENT_ARENA_BYTES];

int main(void) {
  int16_t samples[80];
  float logits[STUDENT_CLASSES];
  student_start(arena);
  for (size_t count; (count = fread(samples, 2, 80, stdin)) > 0;) {
    for (size_t taken = 0; taken < count;) {
      taken += student_push(arena, samples + taken, count - taken);
      if (student_ready(arena)) {
        student_compute_logits(arena, logits);
        if (fwrite(logits, sizeof logits, 1, stdout) != 1) return 1;
        student_start(arena);
      }
    }
  }
  return 0;
}
"""
"""Takes one stream; a clip begins where the last one ended."""

pytestmark = [pytest.mark.slow, needs_vnni]


@pytest.mark.parametrize(
    ("model", "arguments", "front_end"),
    [
        ("isotropic", {"filters": 6, "depth": 2, "kernel": 4, "patch": 3}, PLAIN),
        ("isotropic", {"filters": 6, "depth": 2, "kernel": 4, "patch": 3}, EMPHASISED),
        ("dsmn_model1", DSMN, WHOLE_CLIP),
    ],
    ids=["plain", "emphasised", "whole clip"],
)
def test_logits_from_samples_are_those_of_the_file(model, arguments, front_end, tmp_path):
    need("gcc")
    samples_NS = make_samples()
    waveforms_NS = torch.tensor(samples_NS) / FULL_SCALE
    in_integers = export_in_integers(model, arguments, front_end, waveforms_NS)
    facts = StudentFacts(member=model, classes=("a", "b", "c"), sample_rate=RATE, clip_samples=RATE)
    for name, text in make_program(in_integers, facts, front_end).files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "main.c").write_text(MAIN)
    built = tmp_path / "student"
    sources = [tmp_path / name for name in ("main.c", "student.c", "front_end.c")]
    flags = ("-std=c11", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror")
    subprocess.run(["gcc", *flags, "-o", built, *sources, "-lm"], check=True)
    said = subprocess.run([built], input=samples_NS.tobytes(), capture_output=True, check=True)
    logits_NK = np.frombuffer(said.stdout, np.float32).reshape(-1, N_CLASSES)
    whole = onnx_file.prepend_front_end(in_integers, onnx_file.convert_front_end(front_end, RATE))
    expected_NK = run_onnx(whole, waveforms_NS.numpy())
    apart_N = np.abs(logits_NK - expected_NK).max(axis=1)
    # Most clips have the same codes; in others one in some thousands is another, by one step.
    assert np.median(apart_N) == 0
    assert apart_N.max() < 0.5 * expected_NK.std(axis=0).max()


def make_samples() -> np.ndarray:
    """Return clips of noise and tones of many levels, int16 [N, S]; one has a pause."""
    generator = np.random.default_rng(0)
    levels, pitches = 10 ** generator.uniform(1, 4, 8), generator.uniform(0.05, 1.5, 8)
    noise_NS = generator.standard_normal((8, RATE)) + 4 * np.sin(np.outer(pitches, np.arange(RATE)))
    noise_NS[0, :5_000] = 0
    return (levels[:, None] * noise_NS).clip(-32_768, 32_767).astype("<i2")


def export_in_integers(model, arguments, front_end, waveforms_NS) -> onnx.ModelProto:
    """Return a student with fresh weights, whose norms and ranges have seen the clips."""
    torch.manual_seed(0)
    student = build(model, n_classes=N_CLASSES, **arguments)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        log_mels = LogMel(front_end)(waveforms_NS)
        student(log_mels)
    shape = (1, *log_mels.shape[1:])
    simulated = quantise(student.eval(), shape)
    calibrate(simulated, [log_mels])
    in_float32 = onnx_file.convert_student(remove_rounding(simulated), shape)
    return convert_to_integers(in_float32, simulated)


def run_onnx(model: onnx.ModelProto, waveforms_NS: np.ndarray) -> np.ndarray:
    """Return ONNX Runtime's logits, clip by clip, [N, K]."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: clip[None]})[0] for clip in waveforms_NS])
