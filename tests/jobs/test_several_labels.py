"""The commands on a folder whose clips have several labels or none, from recordings to a report."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
from tiny import FRONT_END, RATE
from tiny_student import TINY_STUDENT

from logit_store import LogitStore
from students import RECIPES
from teachers import recipes

N_CLIPS = 24
LABELS = ("high|low", "high", "low", "|", "")
"""Of two hums, one, or none; and a clip to which nobody listened."""


@pytest.fixture
def root(tmp_path):
    """A folder of hums of two pitches, half a second each."""
    root, lines = tmp_path / "own", ["path,labels"]
    root.mkdir()
    times_s = np.arange(RATE // 2) / RATE
    for number in range(N_CLIPS):
        cell = LABELS[number % len(LABELS)]
        sound = np.random.default_rng(number).normal(0, 0.02, len(times_s))
        for label, pitch_hz in (("high", 1800), ("low", 300)):
            if label in cell:
                sound += 0.2 * np.sin(2 * np.pi * pitch_hz * times_s)
        soundfile.write(root / f"{number:02}.wav", sound, RATE)
        lines.append(f"{number:02}.wav,{cell}")
    (root / "clips.csv").write_text("\n".join(lines))
    return root


@pytest.fixture
def tiny_recipes(monkeypatch):
    student = replace(TINY_STUDENT, name="tiny_isotropic")
    monkeypatch.setitem(RECIPES, "tiny_isotropic", student)
    teacher = replace(recipes.RECIPES["demo_cpr"], name="demo_cpr", front_end=FRONT_END)
    monkeypatch.setitem(recipes.RECIPES, "demo_cpr", teacher)


def test_commands_lead_from_clips_with_several_labels_to_a_report(
    root, tiny_recipes, called, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    data = ("--corpus", "folder", "--root", root, "--store", tmp_path / "store")
    few = ("--splits", "100", "--max-steps", "2")
    assert "2 classes" in called("jobs/prepare.py", *data, "--sample-rate", RATE)
    teachers = ("jobs/teachers.py", *data, *few, "--recipes", "demo_cpr")
    said = called(*teachers, "--seeds", "0", "1")
    assert "mAP" in said
    assert "accuracy" not in said
    called("jobs/ensemble.py", *data, "--average", "probabilities")
    said = called(
        "jobs/ensemble.py", *data, "--metric", "mean_average_precision", "--name", "by_map"
    )
    assert "no bound holds" in said
    taught = ("jobs/students.py", *data, *few, "--recipes", "tiny_isotropic")
    called(*taught, "--ensemble", "stepwise", "--pool", "unlabelled")
    called(*taught, "--no-teacher", "--ways", "as_named+adversarial")
    called("jobs/report.py", *data)
    page = (tmp_path / "runs" / "report-folder.html").read_text()
    assert "mAP %" in page
    store = LogitStore(tmp_path / "store")
    for name in ("stepwise", "by_map"):
        assert store.ensembles.read("folder", 100, name)["labels"] == "several"
    (student,) = store.sql(
        "select member from members where kind = 'student' and member like '%pool%'"
    )["member"].to_pylist()
    assert np.isfinite(store.read(store.keys("folder", member=student))).all()
    refused = [
        (
            (*teachers, "--cross-fit", "2"),
            "--cross-fit 2: clips of corpus folder have several labels",
        ),
        ((*teachers[:-1], "probe:aisfx"), "a probe chooses one of the classes"),
        ((*taught, "--ensemble", "stepwise", "--ways", "dist"), "compares classes with each other"),
        (
            ("jobs/ensemble.py", *data, "--metric", "macro_accuracy"),
            "take log_loss or mean_average",
        ),
        (
            ("jobs/search.py", *data, "--split", "100"),
            "search: clips of corpus folder have several",
        ),
    ]
    for words, reason in refused:
        assert reason in " ".join(called(*words, code=1).split())
