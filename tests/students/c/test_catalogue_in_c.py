"""Every student of the catalogue as a program on this machine: takes minutes."""

import ctypes
import subprocess

import numpy as np
import onnxruntime
import pytest
from c_students import needs_gcc, needs_vnni

from students.c.graph import UnknownOperator
from students.c.program import StudentFacts, make_program
from students.c.ram import measure_ram
from students.catalogue import ARCHITECTURES
from students.ram import make_untrained_model

N_CLASSES = 10
RAM = {
    "isotropic": 62_504,
    "isotropic_v2": 57_856,
    "isotropic_v3": 57_856,
    "isotropic_noact": 62_504,
    "isotropic_mix": 62_504,
    "recursive": 305_472,
    "siren": 305_472,
    "recursive_2x2": 107_008,
    "recursive_2x3": 172_544,
    "recursive_3x2": 139_776,
    "dcase24_baseline": 182_528,
    "bcbl24": 136_896,
    "bcbl24_44k": 182_976,
    "bcbl16": 91_264,
    "bcbl8": 47_000,
    "cp_mobile_2023": 172_040,
    "rep_mobile": 147_712,
    "dsmn_model1": 198_168,
    "dsmn_model2": 450_584,
    "dsmn_model3": 239_712,
    "dsmn_model4": 247_936,
    "tf_sepnet": 296_232,
    "tf_sepnet_40": 99_624,
    "tf_sepnet_80": 181_544,
}
"""Bytes of the arena, without the front-end."""
REFUSED = {
    "cnn_gru": "operator GRU",
}
"""What C is not written for."""

pytestmark = [
    needs_vnni,
    pytest.mark.slow,
    needs_gcc,
]


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - set(REFUSED)))
def test_a_student_of_the_catalogue_is_a_program_with_the_logits_of_onnx_runtime(name, tmp_path):
    shape = ARCHITECTURES[name].input_shape
    model = make_untrained_model(name, {}, input_shape=shape, n_classes=N_CLASSES)
    ram = measure_ram(model)
    assert ram == RAM[name]
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


@pytest.mark.parametrize("name", REFUSED)
def test_students_that_c_is_not_written_for_are_refused_by_what_stops_it(name):
    shape = ARCHITECTURES[name].input_shape
    model = make_untrained_model(name, {}, input_shape=shape, n_classes=N_CLASSES)
    with pytest.raises(UnknownOperator, match=REFUSED[name]):
        measure_ram(model)


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
