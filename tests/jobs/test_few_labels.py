"""The five commands of docs/own-data.md for few labelled clips and many others, on a smaller folder."""

import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from tiny_backbone import RATE, write_backbone
from tiny_student import TINY_STUDENT
from typed_commands import blocks

from students import RECIPES

SCENES = ("cat", "dog", "eel")
N_UNLABELLED = 8
FOLDER = "runs/few"


@pytest.fixture
def commands_of_page():
    """The commands of the block that makes runs/few."""
    (block,) = [
        block
        for block in blocks("docs/own-data.md")
        if any(FOLDER in words and "jobs/students.py" in words for words in block)
    ]
    return [words for words in block if words[0] == "python"]


@pytest.fixture
def root(tmp_path):
    """A folder of four labelled clips for each of three scenes, hums of different pitch, and others."""
    names = [f"{scene}/{number}" for scene in SCENES for number in range(4)]
    names += [f"unlabelled/may/{number}" for number in range(N_UNLABELLED)]
    times_s = np.arange(RATE // 2) / RATE
    for seed, name in enumerate(names):
        pitch_hz = 200 * 3 ** SCENES.index((name.split("/")[0], SCENES[seed % 3])["may" in name])
        noise = np.random.default_rng(seed).normal(0, 0.02, len(times_s))
        file = tmp_path / "own" / f"{name}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, 0.2 * np.sin(2 * np.pi * pitch_hz * times_s) + noise, RATE)
    return tmp_path / "own"


def test_five_commands_lead_from_few_labelled_clips_to_a_student_and_a_report(
    commands_of_page, root, called, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(RECIPES, "tiny_isotropic", replace(TINY_STUDENT, name="tiny_isotropic"))
    backbone = write_backbone(tmp_path / "tiny.onnx")
    places = {
        FOLDER: [str(root)],
        f"{FOLDER}-store": [str(tmp_path / "store")],
        "probe:aisfx": [f"probe:{backbone}"],
        "demo_cpr": ["--onnx-rate", str(RATE)],
    }
    said = {}
    for _, script, *words in commands_of_page:
        typed = [each for word in words for each in places.get(word, [word])]
        if "--seeds" in typed:
            typed[typed.index("--seeds") :] = ["--seeds", "0", "--pool", "unlabelled"]
            typed += ["--max-steps", "2"]
        said[script] = called(script, *typed)
    assert list(said) == [
        f"jobs/{name}.py" for name in ("prepare", "teachers", "ensemble", "students", "report")
    ]
    assert "--recipes probe:aisfx --splits 100" in said["jobs/prepare.py"]
    assert "--recipes tiny_isotropic --pool unlabelled" in said["jobs/ensemble.py"]
    assert "alone split 100 learns from labels alone" in said["jobs/students.py"]
    page = (tmp_path / "runs" / "report-folder.html").read_text()
    assert f"unlabelled ({N_UNLABELLED})" in page
    assert re.search("Clips without labels taught 1 of . systems, .*: unlabelled", page)
