"""The job of 2025 from a store to two ZIP files, in this process: a student with a network per device."""

import copy
import hashlib
import json
from dataclasses import replace
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from dcase_corpus import N_CLIPS, SIZE, add_student, member_of, write_challenge
from dcase_package import LABEL, TEXTS, as_yaml

from audio.corpora import tau, tau_evaluation
from audio.errors import CorpusError
from jobs.submission import SubmissionOptions, main
from jobs.worker.device_entrants import choose_samples
from logit_store import LogitKey, LogitStore
from report.dcase import validate_inference
from report.dcase.device_entrant import load_device_entrant
from report.dcase.validate import check_package
from students import build
from terminal.console import UserError
from training import locate_weights
from training.keys import locate_record

DEVICES = ("a", "b")
SPLIT = 25


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_challenge(tmp_path_factory.mktemp("data"))


@pytest.fixture
def store(root, tmp_path, monkeypatch):
    """A store with a general student and one with a network per device."""
    monkeypatch.setenv("TUTTI_CACHE", str(root.parent / "cache"))
    store = LogitStore(tmp_path / "store")
    store.write_clips("tau", tau.read(root).clips_table())
    add_device_student(store, add_student(store, SPLIT, "tiny-1"))
    return store


def add_device_student(store, general):
    """Store untrained networks of two recording devices, with the general student's logits."""
    key = LogitKey("tau", SPLIT, member_of("tiny_per_device-1", SPLIT))
    parts = []
    for number, name in enumerate(DEVICES):
        torch.manual_seed(100 + number)
        weights = safetensors.torch.save(build("isotropic", n_classes=10, **SIZE).state_dict())
        digest = {"weights_sha256": hashlib.sha256(weights).hexdigest()}
        store.objects.write(locate_weights("student", key.member, number + 1), weights)
        store.objects.write_json(locate_record("student", key.member, number + 1), digest)
        parts.append({"recording_device": name, **digest})
    record = store.read_record(general) | {
        "start": general.member,
        "ensemble": general.member,
        "per_device": {"devices": list(DEVICES)},
        "parts": parts,
    }
    store.write(key, store.read([general])[0], record)
    return key


def texts():
    """Return what people write for 2025."""
    written: Any = copy.deepcopy(TEXTS)
    for name in ("split_adaptations", "system_adaptations"):
        del written["system"]["description"][name]
    written["system"]["inference_code"] = "https://example.org/inference"
    return written


@pytest.fixture
def options(root, store, tmp_path):
    (tmp_path / "meta.yaml").write_text(as_yaml(texts()))
    return SubmissionOptions(
        challenge=2025,
        root=str(root),
        store=store.address,
        label=LABEL,
        students=("tiny_per_device",),
        meta=tmp_path / "meta.yaml",
        to=tmp_path / "out" / "submission.zip",
    )


def read_package(file):
    with ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_both_packages_follow_the_rules_and_say_what_the_networks_say(options, store, root, capsys):
    assert main(options) == 0
    assert check_package(options.to, N_CLIPS, 2025) == []
    assert "device-specific" not in capsys.readouterr().err
    submission = read_package(options.to)
    inference = read_package(options.to.with_name("submission_inference.zip"))
    output = submission[f"task1/{LABEL}/{LABEL}.output.csv"]
    assert inference[f"predictions/{LABEL}/output.csv"] == output
    assert output.decode().splitlines()[1].startswith("audio/0.wav\t")
    told = yaml.safe_load(submission[f"task1/{LABEL}/{LABEL}.meta.yaml"])
    description = told["system"]["description"]
    assert description["num_models_at_inference"] == 3
    results = told["results"]["development_dataset"]
    assert list(results) == ["device_specific", "general"]
    for device, same in (("s1", True), ("c", True), ("a", False)):
        pair = [results[each]["device_wise"][device]["logloss"] for each in results]
        assert (pair[0] == pair[1]) is same
    n_parameters = told["system"]["complexity"]["total_parameters"]
    costs = json.loads(inference[f"predictions/{LABEL}/complexity.json"])
    assert (
        costs["max_Params"] == 2 * n_parameters == told["system"]["complexity"]["total_model_size"]
    )
    checked = json.loads(inference[f"predictions/{LABEL}/test_accuracy.json"])
    # All scenes have equally many test clips, so the mean over scenes is that over clips.
    accuracy = results["device_specific"]["overall"]["accuracy"]
    assert checked["Test Accuracy"] == pytest.approx(accuracy, abs=0.01)


@pytest.fixture
def without_run(monkeypatch):
    """The packages are not run: another test does that."""
    answer = {"networks": {}, "logits": [], "classes": []}
    monkeypatch.setattr(validate_inference, "_ask", lambda *_: answer)
    monkeypatch.setattr(validate_inference, "_check_logits", lambda *_: [])


def test_a_general_student_alone_is_one_network_for_all_devices(options, without_run, root, store):
    assert main(replace(options, students=("tiny",))) == 0
    told = yaml.safe_load(read_package(options.to)[f"task1/{LABEL}/{LABEL}.meta.yaml"])
    assert told["system"]["description"]["num_models_at_inference"] == 1
    results = told["results"]["development_dataset"]
    assert results["device_specific"] == results["general"]


def test_the_networks_predict_the_clips_of_their_devices_as_rounded(store, root):
    corpus = tau.read(root)
    key = LogitKey("tau", SPLIT, member_of("tiny_per_device-1", SPLIT))
    entrant = load_device_entrant(store, key, corpus, "fp16")
    rows = corpus.rows(SPLIT, "test")
    specific_NK, general_NK = entrant.predict("test", corpus, rows, store, torch.device("cpu"))
    known = np.isin(corpus.column("recording_device")[rows], DEVICES)
    assert (specific_NK[known] != general_NK[known]).any(axis=1).all()
    np.testing.assert_array_equal(specific_NK[~known], general_NK[~known])
    weight = next(entrant.by_device["a"].student.parameters())
    assert torch.equal(weight, weight.half().float())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "int8"}, "at int8: .* choose --precision fp16"),
        ({"evaluation_clips": 12}, "--evaluation-clips 12: the list of 2025 says how many"),
    ],
)
def test_what_2025_does_not_take_is_refused_before_anything_is_predicted(options, changes, message):
    with pytest.raises(UserError, match=message):
        main(replace(options, **changes))


def test_the_texts_of_2024_lack_what_2025_asks_for(options, capsys):
    options.meta.write_text(as_yaml(TEXTS))
    assert main(options) == 1
    assert "system.inference_code: missing" in capsys.readouterr().err


def test_a_dry_run_shows_the_accuracy_with_and_without_the_networks(options, capsys):
    assert main(replace(options, dry_run=True)) == 0
    printed = capsys.readouterr().out
    assert "3 network(s)" in printed
    assert "device_specific" in printed
    assert not options.to.exists()


def test_samples_are_of_all_recording_devices(root):
    evaluation = tau_evaluation.read_with_devices(root.parent / tau_evaluation.FOLDER_OF_2025)
    samples = choose_samples(evaluation)
    assert {each.device_id for each in samples} == {"a", "b", "s9"}
    assert len({each.filename for each in samples}) == len(samples) == 8
    assert all(each.file.is_file() for each in samples)


@pytest.mark.parametrize(
    ("list_", "message"),
    [
        (
            "filename\naudio/0.wav\n",
            "line 1: 'filename', expected the columns filename and device_id",
        ),
        (
            "filename\tdevice_id\naudio/0.wav\n",
            "line 2: 'audio/0.wav', expected .* a recording device",
        ),
        (
            "filename\tdevice_id\naudio/0.wav\ta\naudio/0.wav\tb\n",
            "line 3: audio/0.wav is there twice",
        ),
        ("filename\tdevice_id\n", "lists no clip"),
        ("filename\tdevice_id\naudio/99.wav\ta\n", "1 of 1 clips are missing"),
    ],
)
def test_a_malformed_list_of_2025_is_refused_with_its_line(root, tmp_path, list_, message):
    (tmp_path / "evaluation_setup").mkdir()
    (tmp_path / "evaluation_setup" / "fold1_test.csv").write_text(list_)
    with pytest.raises(CorpusError, match=message):
        tau_evaluation.read_with_devices(tmp_path)
