"""The job from a store to a ZIP, in this process: five students of ten scenes, twelve clips."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
import yaml
from dcase_corpus import N_CLIPS, SIZE, SPLITS, add_student, member_of, write_challenge
from dcase_package import LABEL, TEXTS, as_yaml
from tiny import FRONT_END

from audio.corpora import tau, tau_evaluation
from audio.feed import Feed
from audio.views import Augmentation
from jobs.submission import SubmissionOptions, main
from jobs.worker import entrants
from jobs.worker.entrants import find_best_students
from logit_store import LogitKey, LogitStore, MissingMember, MissingObject
from report.dcase.challenge import CHALLENGE_SCENES
from report.dcase.entrant import load_entrant
from report.dcase.validate import check_package
from students import build
from terminal.console import UserError
from training import locate_weights, predict

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A development set and an evaluation set beside it, of noise."""
    return write_challenge(tmp_path_factory.mktemp("data"))


@pytest.fixture
def store(root, tmp_path, monkeypatch):
    """A store with a student for each split."""
    # One for all tests, because decoding the same clips again proves nothing.
    monkeypatch.setenv("TUTTI_CACHE", str(root.parent / "cache"))
    store = LogitStore(tmp_path / "store")
    store.write_clips("tau", tau.read(root).clips_table())
    for split in SPLITS:
        add_student(store, split, "tiny-1")
    return store


@pytest.fixture
def options(root, store, tmp_path):
    (tmp_path / "meta.yaml").write_text(as_yaml(TEXTS))
    return SubmissionOptions(
        root=str(root),
        store=store.address,
        label=LABEL,
        students=("tiny",),
        meta=tmp_path / "meta.yaml",
        to=tmp_path / "out" / "submission.zip",
        evaluation_clips=N_CLIPS,
    )


def rows_of(package, split):
    with ZipFile(package) as archive:
        content = archive.read(f"task1/{LABEL}/{LABEL}.output.split_{split}.csv").decode()
    return list(csv.DictReader(io.StringIO(content), delimiter="\t"))


def told_in(package):
    with ZipFile(package) as archive:
        return yaml.safe_load(archive.read(f"task1/{LABEL}/{LABEL}.meta.yaml"))


def test_the_package_follows_the_rules_and_holds_what_the_students_say(options, store, capsys):
    assert main(options) == 0
    assert check_package(options.to, N_CLIPS) == []
    printed = capsys.readouterr().out
    assert f"{LABEL}.output.split_100.csv" in printed
    assert "still to be handed in with it: the technical report" in printed
    for split in SPLITS:
        rows = rows_of(options.to, split)
        assert [row["filename"] for row in rows] == [f"{n}.wav" for n in range(N_CLIPS)]
        for row in rows:
            probabilities = [float(row[scene]) for scene in CHALLENGE_SCENES]
            assert sum(probabilities) == pytest.approx(1, abs=1e-5)
            assert row["scene_label"] == CHALLENGE_SCENES[int(np.argmax(probabilities))]
    complexity = told_in(options.to)["system"]["complexity"]
    assert complexity["total_parameters"] == sum(
        parameter.numel() for parameter in build("isotropic", n_classes=10, **SIZE).parameters()
    )
    assert complexity["total_model_size"] == 2 * complexity["total_parameters"]


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_results_are_those_of_what_is_handed_in_on_the_test_clips(options, store, root, precision):
    assert main(replace(options, precision=precision)) == 0
    results = told_in(options.to)["results"]["development_dataset"]["split_25"]
    corpus = tau.read(root)
    test = corpus.rows(25, "test")
    key = LogitKey("tau", 25, member_of("tiny-1", 25))
    entrant = load_entrant(store, key, corpus, precision)
    feed = Feed.open(corpus, FRONT_END, Augmentation(), None, torch.device("cpu"))
    logits_NK = predict(entrant.student, entrant.student, feed.iterate_batches(test))
    # The logits in the store are made up and differ.
    assert (logits_NK.argmax(1) != store.read([key], test)[0].argmax(1)).mean() > 0.5
    right = logits_NK.argmax(1) == corpus.labels()[test]
    # All scenes have equally many test clips, so the mean over scenes is that over clips.
    assert results["overall"]["accuracy"] == pytest.approx(100 * right.mean(), abs=1e-4)
    on_s5 = corpus.column("recording_device")[test] == "s5"
    assert results["device_wise"]["s5"]["accuracy"] == pytest.approx(100 * right[on_s5].mean())
    size = told_in(options.to)["system"]["complexity"]["total_model_size"]
    # As the challenge counts, though biases and step sizes of int8 take more bytes in the file.
    assert size == entrant.parameter_bytes
    assert size == entrant.complexity.params * {"int8": 1, "fp16": 2}[precision]
    assert (entrant.file_bytes is None) == (precision == "fp16")


def test_a_student_that_the_test_clips_have_judged_is_refused(options, store):
    key = add_student(store, 25, "judged-1", protocol="published")
    with pytest.raises(
        UserError, match=f"{key} was trained with protocol published, expected hone"
    ):
        main(
            replace(
                options, students=("tiny-1*05", "tiny-1*10", "tiny-1*50", "tiny-1*100", "judged")
            )
        )


def test_predictions_that_are_in_the_store_are_not_made_again(options, monkeypatch):
    assert main(options) == 0
    first = options.to.read_bytes()

    def refuse(*_):
        raise AssertionError("predicted again")

    monkeypatch.setattr("report.dcase.entrant.predict", refuse)
    assert main(options) == 0
    assert options.to.read_bytes() == first
    with pytest.raises(AssertionError, match="predicted again"):
        main(replace(options, precision="fp32"))


def test_each_split_takes_the_student_that_is_best_on_select(store):
    better = add_student(store, 25, "tiny-2", seed=7, sure=9.0)
    worse = add_student(store, 50, "tiny-2", seed=7, sure=-9.0)
    keys = find_best_students(store, "tau", ["tiny"])
    assert keys[25] == better
    assert keys[50] != worse
    assert list(keys) == list(SPLITS)


def test_a_split_without_such_a_student_is_named_with_those_that_exist(store):
    with pytest.raises(UserError) as refused:
        find_best_students(store, "tau", ["tiny-100000000005", "tiny-100000000100"])
    assert "no student of split 10, 25, 50 has such a name" in str(refused.value)
    assert "tiny-100000000010 (split 10)" in str(refused.value)


def test_a_teacher_is_no_student(store):
    for split in SPLITS:
        store.write(LogitKey("tau", split, "big-1"), np.zeros((120, 10)), {"kind": "teacher"})
    with pytest.raises(UserError, match="no student of split 5, 10, 25, 50, 100 has such a name"):
        find_best_students(store, "tau", ["big"])


def test_a_name_that_no_member_has_is_refused(options):
    with pytest.raises(MissingMember, match="huge"):
        main(replace(options, students=("huge",)))


def test_all_that_the_texts_lack_is_named_before_anything_is_predicted(
    options, monkeypatch, capsys
):
    monkeypatch.setattr(entrants, "predict_evaluation_clips", None)
    options.meta.write_text("submission: {name: x}\nsystem: {source_code: null}\n")
    assert main(options) == 1
    printed = capsys.readouterr().err
    assert "meta.yaml, submission.abbreviation: missing, expected a text of at most 10" in printed
    assert "meta.yaml, submission.authors: missing" in printed
    assert "meta.yaml, system.description.framework: missing" in printed
    assert not options.to.exists()


def test_a_student_beyond_the_limits_is_refused_before_anything_is_predicted(
    options, store, monkeypatch, capsys
):
    monkeypatch.setattr(entrants, "predict_evaluation_clips", None)
    add_student(store, 100, "wide-1", sure=9.0, filters=300)
    assert main(replace(options, students=("tiny-1*[05]", "wide"), precision="fp32")) == 1
    printed = capsys.readouterr().err
    assert re.search(
        r"total_model_size: \d+, expected a number of bytes, 1 \.\.\. 128,000", printed
    )


def test_a_broken_rule_leaves_no_package_and_the_former_one_alone(options, monkeypatch, capsys):
    options.to.parent.mkdir()
    options.to.write_bytes(b"former")
    monkeypatch.setattr(entrants, "encode_csv", lambda logits_NK, clips, scenes: b"filename\n")
    assert main(options) == 1
    assert "output.split_5.csv, line 1: columns filename" in capsys.readouterr().err
    assert [file.name for file in options.to.parent.iterdir()] == ["submission.zip"]
    assert options.to.read_bytes() == b"former"


def test_a_clip_that_cannot_be_read_is_named(options, root, tmp_path):
    evaluation = root.parent / tau_evaluation.FOLDER
    copy = tmp_path / "evaluation"
    for file in ("evaluation_setup/fold1_test.csv", *(f"audio/{n}.wav" for n in range(N_CLIPS))):
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        (copy / file).write_bytes(
            b"" if file == "audio/3.wav" else (evaluation / file).read_bytes()
        )
    with pytest.raises(UserError, match=r"1 of 12 clips .* audio/3\.wav: .*fetch these again"):
        main(replace(options, evaluation=copy))


def test_a_dry_run_shows_who_would_predict_and_writes_nothing(options, monkeypatch, capsys):
    monkeypatch.setattr(entrants, "predict_evaluation_clips", None)
    assert main(replace(options, dry_run=True)) == 0
    assert member_of("tiny-1", 50) in capsys.readouterr().out
    assert not options.to.exists()


def test_the_technical_report_goes_into_the_package(options, tmp_path, capsys):
    (tmp_path / "report.pdf").write_bytes(b"%PDF")
    assert main(replace(options, technical_report=tmp_path / "report.pdf")) == 0
    with ZipFile(options.to) as archive:
        assert archive.read("task1/Doe_UNI_task1.technical_report.pdf") == b"%PDF"
    assert "still to be handed in" not in capsys.readouterr().out


def test_a_student_that_was_imported_as_logits_is_refused(options, store):
    key = LogitKey("tau", 5, member_of("tiny-1", 5))
    (logits_NK,) = store.read([key])
    store.write(key, logits_NK, {"kind": "student", "recipe": "tiny"})
    with pytest.raises(UserError, match="name a student that was trained here"):
        main(options)


def test_a_student_whose_weights_are_gone_is_named(options, store):
    store.objects.delete(locate_weights("student", member_of("tiny-1", 5)))
    with pytest.raises(MissingObject, match=member_of("tiny-1", 5)):
        main(options)


def test_the_texts_that_the_page_shows_are_whole(options):
    (shown,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "submission.md").read_text(), re.DOTALL)
    options.meta.write_text(shown)
    assert main(replace(options, dry_run=True)) == 0


def test_the_command_that_the_page_shows_has_no_unknown_option():
    shown = re.findall(
        r"(python jobs/submission.py .*?)```", (DOCS / "submission.md").read_text(), re.DOTALL
    )
    known = SubmissionOptions.__dataclass_fields__
    asked = [
        each.removeprefix("--").replace("-", "_")
        for each in re.findall(r"--[a-z-]+", " ".join(shown))
    ]
    assert asked
    assert [each for each in asked if each not in known] == []
