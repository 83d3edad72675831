"""Every student of the catalogue as a program on this machine: takes minutes."""

import ctypes
import shutil
import subprocess

import numpy as np
import onnxruntime
import pytest

from students.c.program import StudentFacts, make_program
from students.c.ram import measure_ram
from students.catalogue import ARCHITECTURES
from students.ram import make_untrained_model

N_CLASSES = 10
LARGEST_RAM = {
    "isotropic": 63_000,
    "isotropic_v2": 58_000,
    "isotropic_v3": 58_000,
    "recursive": 306_000,
    "recursive_2x2": 108_000,
    "recursive_2x3": 141_000,
    "recursive_3x2": 174_000,
    "dcase24_baseline": 183_000,
    "bcbl24": 138_000,
    "bcbl24_44k": 184_000,
    "bcbl16": 108_000,
    "bcbl8": 74_000,
    "cp_mobile_2023": 173_000,
    "dsmn_model1": 199_000,
    "dsmn_model2": 543_000,
    "dsmn_model3": 274_000,
    "dsmn_model4": 257_000,
    # Without an activation, and with one in training only: the graphs of isotropic, or smaller ones.
    "isotropic_noact": 63_000,
    "isotropic_mix": 63_000,
}
"""Bytes, rounded up to thousands."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_student_of_the_catalogue_is_a_program_with_the_logits_of_onnx_runtime(name, tmp_path):
    shape = ARCHITECTURES[name].input_shape
    model = make_untrained_model(name, {}, input_shape=shape, n_classes=N_CLASSES)
    ram = measure_ram(model)
    assert LARGEST_RAM[name] - 1000 < ram <= LARGEST_RAM[name]
    facts = StudentFacts(
        member=name,
        classes=tuple(map(str, range(N_CLASSES))),
        sample_rate=32_000,
        clip_samples=32_000,
    )
    for file, text in make_program(model, facts).files.items():
        (tmp_path / file).write_text(text)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    random = np.random.default_rng(0)
    program = _compile(tmp_path)
    for level in (0.5, 2.0):
        clip = (level * random.standard_normal(shape)).astype(np.float32)
        expected = np.asarray(session.run(None, {session.get_inputs()[0].name: clip})[0])
        np.testing.assert_array_equal(_compute(program, clip, ram), expected[0])


def _compile(folder):
    flags = [
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-ffp-contract=off",
        "-O2",
        "-shared",
        "-fPIC",
    ]
    subprocess.run(["gcc", *flags, "-o", "student.so", "student.c", "-lm"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "student.so"))


def _compute(program, clip, ram):
    program.student_input.restype = ctypes.POINTER(ctypes.c_uint8)
    program.student_quantise.restype = ctypes.c_uint8
    program.student_quantise.argtypes = [ctypes.c_float]
    arena = (ctypes.c_uint64 * (ram // 8))()
    codes = np.frompyfunc(program.student_quantise, 1, 1)(clip.reshape(-1)).astype(np.uint8)
    ctypes.memmove(program.student_input(arena), codes.tobytes(), codes.size)
    logits = (ctypes.c_float * N_CLASSES)()
    program.student_compute_logits(arena, logits)
    return np.array(logits)
