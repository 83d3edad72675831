"""The README of a student's folder says code that compiles, and headers are C++ as well."""

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from hand_made_students import need
from int8_graphs import make_small_graph

from audio.front_ends import FrontEnd
from students.c.program import StudentFacts, make_program

FACTS = StudentFacts(
    member="small", classes=("bus", "park", "tram"), sample_rate=8_000, clip_samples=8_000
)
# 6 mel bands and 6 frames, as the small graph has.
FRONT_END = FrontEnd(
    sample_rate=8_000,
    n_fft=512,
    window_samples=400,
    hop_samples=1_600,
    mel_bands=6,
    max_hz=4_000,
)


@pytest.fixture(params=[None, FRONT_END], ids=["from log-mels", "from samples"])
def folder(request, tmp_path):
    program = make_program(make_small_graph(), FACTS, request.param)
    for name, text in program.files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_the_readme_shows_compiles(folder):
    need("gcc")
    usage, smoothing = re.findall(r"```c\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    if "student_push" not in usage:
        usage = usage.replace("uint8_t *codes", "void run(const float *log_mels) {\nuint8_t *codes")
        usage += "}\n"
    after = f"int decide(const float *logits) {{\n{smoothing}return on;\n}}\n"
    (folder / "mine.c").write_text(f'{usage}#include "smoothing.h"\n{after}')
    compile_strictly("gcc", "-std=c11", folder / "mine.c")


def test_the_headers_are_cpp_as_well(folder):
    need("gcc")
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler here: apt install g++")
    (folder / "mine.cpp").write_text(
        '#include "student.h"\n#include "smoothing.h"\n'
        "alignas(8) static uint8_t arena[STUDENT_ARENA_BYTES];\n"
        "uint8_t *find() { return student_input(arena); }\n"
    )
    compile_strictly("g++", "-std=c++17", folder / "mine.cpp")
    symbols = subprocess.run(["nm", folder / "mine.o"], check=True, capture_output=True, text=True)
    assert "U student_input\n" in symbols.stdout


def test_the_readme_says_the_share_of_its_clips_and_a_ring_of_a_tenth_of_a_second(folder):
    readme = (folder / "README.md").read_text()
    assert "0.86466472f" in readme
    assert ("#define RING 1024" in readme) == ("student_push" in readme)


def test_a_student_names_all_classes_of_a_clip_that_may_have_several(tmp_path):
    need("gcc")
    program = make_program(make_small_graph(), replace(FACTS, has_several_labels=True))
    assert "smoothing.h" not in program.files
    assert "smoothing" not in program.files["README.md"]
    for name, text in program.files.items():
        (tmp_path / name).write_text(text)
    np.random.default_rng(0).normal(size=(8, 36)).astype("<f4").tofile(tmp_path / "clips.bin")
    strict = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run([*strict, "main.c", "student.c", "-lm", "-o", "run"], cwd=tmp_path, check=True)
    said = subprocess.run(
        ["./run", "clips.bin"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    answers = []
    for line in said.stdout.splitlines():
        _, _, answer, logits = line.split("\t")
        above = [float(each) > 0 for each in logits.split()]
        named = [name for name, is_above in zip(FACTS.classes, above, strict=True) if is_above]
        assert answer == ("|".join(named) or "none of them")
        answers.append(answer)
    assert any("|" in answer for answer in answers)


def compile_strictly(compiler, standard, source):
    """Compile a file, and stop at any warning."""
    strict = [standard, "-Wall", "-Wextra", "-Werror", "-pedantic", "-c"]
    target = source.with_suffix(".o")
    subprocess.run([compiler, *strict, f"-I{source.parent}", source, "-o", target], check=True)
