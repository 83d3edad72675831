"""Small members of each class of students in int8, and C that is compiled and run on this machine.

Dimensions: N clips, C channels, F mel bands, T frames, K classes.

An export takes seconds, so the small students lie in golden/students_int8/: `python tests/c_students.py`
exports them again, and a slow test says when that is due.
"""

import gzip
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from students import build
from students.c.program import StudentFacts, make_program
from students.export import onnx_file
from students.export.onnx_int8 import convert_to_integers
from students.quantise import calibrate, quantise, remove_rounding

N_CLASSES = 3
GOLDEN = Path(__file__).parent / "golden" / "students_int8"
GCC = shutil.which("gcc")
needs_gcc = pytest.mark.skipif(GCC is None, reason="there is no gcc: apt-get install gcc")
_PROCESSOR = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
needs_vnni = pytest.mark.skipif(
    "avx" in _PROCESSOR and "vnni" not in _PROCESSOR,
    reason="this processor has no VNNI, so the sums of ONNX Runtime may saturate, and C's do not",
)
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off")
SANITIZERS = (
    "-O0",  # compiles in a third of the time of -O1, and instruments the same
    "-fsanitize=address,undefined,float-cast-overflow",
    "-fno-sanitize-recover=all",
)

HOST = """\
/* Reads log-mels from standard input and writes logits; the arena holds rubbish before each clip. */
#include <stdio.h>
#include <string.h>

#include "student.h"

static _Alignas(8) uint8_t arena[STUDENT_ARENA_BYTES];
static float log_mels[STUDENT_CHANNELS * STUDENT_BANDS * STUDENT_FRAMES];

int main(int count, char **words) {
  float logits[STUDENT_CLASSES];
  while (fread(log_mels, sizeof log_mels, 1, stdin) == 1) {
    memset(arena, count > 1 ? words[1][0] : 0, sizeof arena);
    for (int i = 0; i < STUDENT_CHANNELS * STUDENT_BANDS * STUDENT_FRAMES; i++)
      student_input(arena)[i] = student_quantise(log_mels[i]);
    student_compute_logits(arena, logits);
    if (fwrite(logits, sizeof logits, 1, stdout) != 1) return 1;
  }
  return 0;
}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallStudent:
    """An architecture of the catalogue with few channels, and the shape (1, C, F, T) of its clips."""

    model: str
    shape: tuple[int, int, int, int]
    arguments: Mapping[str, Any] = field(default_factory=dict)


_NARROW = {"base_channels": 8, "channels_multiplier": 1.5, "expansion_rate": 2.0}
SMALL_STUDENTS = {
    "isotropic": SmallStudent(
        model="isotropic",
        shape=(1, 1, 26, 19),
        arguments={"filters": 6, "depth": 2, "kernel": 4, "patch": 3},
    ),
    "recursive": SmallStudent(
        model="recursive",
        shape=(1, 1, 21, 18),
        arguments={"filters": 5, "depth": 2, "columns": 2, "kernel": 3, "patch": 3},
    ),
    "cp_mobile": SmallStudent(model="cp_mobile_2023", shape=(1, 1, 32, 20), arguments=_NARROW),
    "bcbl": SmallStudent(model="bcbl8", shape=(1, 1, 32, 21), arguments=_NARROW),
    "rep_mobile": SmallStudent(
        model="rep_mobile",
        shape=(1, 1, 32, 19),
        arguments={"base_channels": 8, "channels_multiplier": 1.5},
    ),
    "tf_sepnet": SmallStudent(
        model="tf_sepnet_40",
        shape=(1, 1, 37, 41),
        arguments={"channels": 4, "blocks": (2, 1, 1, 1)},
    ),
    "dsmn": SmallStudent(
        model="dsmn_model1",
        shape=(1, 2, 64, 33),
        arguments={
            "blocks": ("split", "plain", "split", "plain", "plain"),
            "channels": (4, 6, 4, 6, 4),
            "sixth_block": False,
        },
    ),
}
"""DSMN: both kinds of blocks in one network, as in the catalogue's model 3."""


def load_int8_model(name: str) -> onnx.ModelProto:
    """Return the int8 model of one of SMALL_STUDENTS, as it was exported."""
    return onnx.load_from_string(gzip.decompress((GOLDEN / f"{name}.onnx.gz").read_bytes()))


def export_int8_model(student: SmallStudent, seed: int = 0) -> onnx.ModelProto:
    """Return the int8 model of a student with fresh weights, whose norms and ranges have seen noise."""
    torch.manual_seed(seed)
    network = build(student.model, n_classes=N_CLASSES, **student.arguments)
    clips = torch.from_numpy(make_clips(student.shape, n_clips=8, seed=seed))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches, so that one batch settles the norms
    network(clips)
    simulated = quantise(network.eval(), student.shape)
    calibrate(simulated, [clips[:-1]])
    in_float32 = onnx_file.convert_student(remove_rounding(simulated), student.shape)
    return convert_to_integers(in_float32, simulated)


def make_clips(shape: Sequence[int], n_clips: int = 4, seed: int = 1) -> np.ndarray:
    """Return noise of many levels [N, C, F, T], float32; the last clip is far beyond all others."""
    generator = np.random.default_rng(seed)
    levels, spreads = generator.uniform(-2, 2, n_clips), generator.uniform(0.5, 2, n_clips)
    spreads[-1] = 30
    noise = generator.standard_normal((n_clips, *shape[1:]))
    return (levels + spreads * noise.T).T.astype(np.float32)


def compute_reference(model: onnx.ModelProto, clips: np.ndarray) -> np.ndarray:
    """Return ONNX Runtime's logits [N, K], clip by clip on one core, as students are measured."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: clip[None]})[0] for clip in clips])


def compile_c(folder: Path, *flags: str, sources: Sequence[str] = ("host.c", "student.c")) -> Path:
    """Compile files of a folder with gcc, every warning an error; return the program."""
    program = folder / "_".join(["run", *(flag.strip("-").replace("=", "_") for flag in flags)])
    command = [GCC, *WARNINGS, *flags, *sources, "-o", program.name, "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def compute_logits(program: Path, clips: np.ndarray, rubbish: str = "0") -> np.ndarray:
    """Return a compiled student's logits [N, K]; `rubbish` is a letter that fills the arena first."""
    command = [str(program), rubbish]
    done = subprocess.run(command, input=clips.tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return np.frombuffer(done.stdout, np.float32).reshape(len(clips), -1)


def write_program(model: onnx.ModelProto, folder: Path) -> None:
    """Write a student's C, and a program around it that takes log-mels."""
    classes = tuple(f"class {number}" for number in range(N_CLASSES))
    facts = StudentFacts(member="small", classes=classes, sample_rate=32_000, clip_samples=32_000)
    for name, content in make_program(model, facts).files.items():
        (folder / name).write_text(content)
    (folder / "host.c").write_text(HOST)


def _write_golden() -> None:
    for name, student in SMALL_STUDENTS.items():
        content = export_int8_model(student).SerializeToString(deterministic=True)
        (GOLDEN / f"{name}.onnx.gz").write_bytes(gzip.compress(content, mtime=0))


if __name__ == "__main__":
    _write_golden()
