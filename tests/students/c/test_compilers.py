"""What a student's C computes, whatever the compiler makes of it.

Why it has to be each level: docs/decisions/0022-memory-is-read-as-what-was-written.md.
"""

import numpy as np
import pytest
from c_students import (
    SANITIZERS,
    SMALL_STUDENTS,
    compile_c,
    compute_logits,
    compute_reference,
    load_int8_model,
    make_clips,
    needs_gcc,
    needs_vnni,
    write_program,
)

LEVELS = {"O1": ("-O1",), "O2": ("-O2",), "O3": ("-O3",), "sanitizers": SANITIZERS}
pytestmark = [needs_gcc, needs_vnni]


QUICK = {"rep_mobile": {"O1"}, "tf_sepnet": {"O1", "sanitizers"}}
"""Levels outside of which a student is a slow test: a folded one has the layers of cp_mobile, and TF-SepNet has most code."""
CASES = [
    pytest.param(name, level, marks=[] if level in QUICK.get(name, LEVELS) else [pytest.mark.slow])
    for name in SMALL_STUDENTS
    for level in LEVELS
]


@pytest.fixture(scope="module")
def small(request, tmp_path_factory):
    """A small student's folder in C, some clips, and ONNX Runtime's logits for them."""
    folder = tmp_path_factory.mktemp(request.param)
    model = load_int8_model(request.param)
    write_program(model, folder)
    clips = make_clips(SMALL_STUDENTS[request.param].shape)
    return folder, clips, compute_reference(model, clips)


@pytest.mark.parametrize(("small", "level"), CASES, indirect=["small"])
def test_logits_are_those_of_onnx_runtime_at_every_level_whatever_the_arena_held(small, level):
    folder, clips, expected = small
    assert len({row.tobytes() for row in expected}) == len(clips)
    program = compile_c(folder, *LEVELS[level])
    for rubbish in ("\x01", "\x7f"):
        np.testing.assert_array_equal(compute_logits(program, clips, rubbish), expected)
