"""The commands on a folder whose clips have several labels or none, from recordings to a report."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
from report_store import ReportStore
from tiny import FRONT_END, RATE
from tiny_student import TINY_STUDENT

from logit_store import LogitStore
from students import RECIPES
from teachers import recipes, taggers

N_CLIPS = 24
LABELS = ("high|low", "high", "low", "|", "")
"""Of two hums, one, or none; and a clip to which nobody listened."""


@pytest.fixture
def root(tmp_path):
    """A folder of hums of two pitches, half a second each."""
    root, lines = tmp_path / "own", ["path,labels,device"]
    root.mkdir()
    times_s = np.arange(RATE // 2) / RATE
    for number in range(N_CLIPS):
        cell = LABELS[number % len(LABELS)]
        sound = np.random.default_rng(number).normal(0, 0.02, len(times_s))
        for label, pitch_hz in (("high", 1800), ("low", 300)):
            if label in cell:
                sound += 0.2 * np.sin(2 * np.pi * pitch_hz * times_s)
        soundfile.write(root / f"{number:02}.wav", sound, RATE)
        lines.append(f"{number:02}.wav,{cell},{'ab'[number % 2]}")
    (root / "clips.csv").write_text("\n".join(lines))
    return root


@pytest.fixture
def tiny_recipes(monkeypatch):
    student = replace(TINY_STUDENT, name="tiny_isotropic")
    monkeypatch.setitem(RECIPES, "tiny_isotropic", student)
    teacher = replace(recipes.RECIPES["demo_cpr"], name="demo_cpr", front_end=FRONT_END)
    monkeypatch.setitem(recipes.RECIPES, "demo_cpr", teacher)


@pytest.fixture
def tagged(monkeypatch, tmp_path):
    """A class map of both hums, and a tagger that says the same of all clips."""

    def tag(backbone, corpus, store, device):
        return np.tile(np.linspace(-3, 3, 527, dtype=np.float32), (len(corpus), 1)), "0123"

    monkeypatch.setattr(taggers, "compute_tags", tag)
    (tmp_path / "map.csv").write_text("class,id\nhigh,/m/0l156k\nlow,/m/06xkwv\nlow,/m/07rcgpl\n")
    return tmp_path / "map.csv"


@pytest.mark.slow
def test_commands_lead_from_clips_with_several_labels_to_a_report(
    root, tiny_recipes, tagged, called, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    data = ("--corpus", "folder", "--root", root, "--store", tmp_path / "store")
    few = ("--splits", "100", "--max-steps", "2")
    assert "2 classes" in called("jobs/prepare.py", *data, "--sample-rate", RATE)
    teachers = ("jobs/teachers.py", *data, *few, "--recipes", "demo_cpr")
    said = called(*teachers, "--seeds", "0", "1")
    assert "mAP" in said
    assert "accuracy" not in said
    said = called("jobs/tag.py", *data, "--class-map", tagged, "--taggers", "mn10_as")
    assert "tagger_mn10_as" in said
    called("jobs/ensemble.py", *data, "--average", "probabilities")
    said = called(
        "jobs/ensemble.py", *data, "--metric", "mean_average_precision", "--name", "by_map"
    )
    assert "no bound holds" in said
    taught = ("jobs/students.py", *data, *few, "--recipes", "tiny_isotropic")
    called(*taught, "--ensemble", "stepwise", "--pool", "unlabelled")
    called(*taught, "--no-teacher", "--ways", "as_named+adversarial", "as_named+mixup")
    called(*taught, "--ensemble", "stepwise", "--first-pool", "unlabelled")
    compared = called(*taught, "--ensemble", "stepwise", "--compare", "--seeds", "0")
    assert "mAP is in %" in compared
    called("jobs/quantise.py", *data, *few, "--student", "tiny_isotropic_pool")
    called(*taught, "--ensemble", "stepwise", "--first-corpus", "demo")
    called(*taught, "--ensemble", "stepwise", "--prune-to", "450")
    said = called(*taught, "--ensemble", "stepwise", "--per-device")
    assert "mAP on the select clips in %, each clip by the general student" in said
    said = called(*taught, "--ensemble", "stepwise", "--ways", "features", code=1)
    assert "embeddings come into the store with probes" in " ".join(said.split())
    called("jobs/report.py", *data)
    page = (tmp_path / "runs" / "report-folder.html").read_text()
    assert "mAP %" in page
    store = LogitStore(tmp_path / "store")
    tags = [key for key in store.keys("folder") if key.member.startswith("tagger_mn10_as")]
    assert {key.split for key in tags} == {100}
    assert np.ptp(store.read(tags), axis=(0, 1)).tolist() == [0, 0]
    assert store.read_record(tags[0])["class_map"]["low"] == ["/m/06xkwv", "/m/07rcgpl"]
    for name in ("stepwise", "by_map"):
        assert store.ensembles.read("folder", 100, name)["labels"] == "several"
    students = store.keys("folder", kind="student")
    assert len(students) > 5
    assert np.isfinite(store.read(students)).all()


def test_what_needs_one_label_a_clip_is_refused_before_anything_runs(root, called, tmp_path):
    data = ("--corpus", "folder", "--root", root, "--store", tmp_path / "store", "--splits", "100")
    teachers = ("jobs/teachers.py", *data, "--recipes")
    students = ("jobs/students.py", *data, "--recipes", "tiny_isotropic", "--no-teacher", "--ways")
    refused = [
        ((*teachers, "demo_cpr", "--cross-fit", "2"), "--cross-fit 2: clips of corpus folder have"),
        ((*teachers, "probe:aisfx"), "a probe chooses one of the classes"),
        ((*students, "rsc"), "rsc (Challenge) needs the true class of each clip"),
        (
            ("jobs/search.py", *data[:-2], "--split", "100"),
            "search: clips of corpus folder have several labels",
        ),
    ]
    for words, reason in refused:
        assert reason in " ".join(called(*words, code=1).split())


def test_tags_are_for_clips_with_several_labels(called, tagged, tmp_path):
    said = called("jobs/tag.py", "--store", tmp_path / "store", "--class-map", tagged, code=1)
    assert "clips of corpus demo have one label each" in " ".join(said.split())


@pytest.mark.parametrize(
    ("several", "metric", "reason"),
    [
        (True, "macro_accuracy", "take log_loss or mean_average_precision"),
        (False, "mean_average_precision", "have one label each: take log_loss or macro_accuracy"),
    ],
)
def test_metrics_that_clips_do_not_have_are_refused(several, metric, reason, called, tmp_path):
    made = ReportStore(tmp_path, several=several)
    made.member("teacher", 1, 1.0)
    data = ("--corpus", "tau", "--store", made.store.address, "--splits", "100")
    said = called("jobs/ensemble.py", *data, "--metric", metric, code=1)
    assert reason in " ".join(said.split())
