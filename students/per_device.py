"""A student with a network for each known recording device, and its general student for all others.

Each network begins as a copy of the general student and is fine-tuned on the clips of its device, with the
general student as its teacher: the second stage of DCASE 2025 task 1. It is a run of its own with a folder of
its own, `students/v1/MEMBER/part_1` ...; the member's logits and record are written last, as those of any
member. Dimensions: N clips, K classes.
"""

import copy
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from audio.clips import Corpus
from audio.feed import Feed
from audio.front_ends import FrontEnd
from audio.micirp import HEARD_UNSEEN
from audio.parts import leave_out
from logit_store import LogitKey, LogitStore
from students.catalogue import build
from students.devices import find_known_devices
from students.distill import make_run
from students.errors import NoStudent
from students.keys import make_device_key
from students.records import read_recipe_entry, restore_recipe
from students.soft import TeacherLogits
from students.stages import DeviceStage
from students.stored import load_student
from students.student import Student
from training import OnEpoch, Run, fetch_weights
from training.cross_fit import average_histories, count_on, train_part
from training.keys import hash_clip_order, locate_record
from training.prediction import predict_rows
from training.provenance import describe_provenance


@dataclass(frozen=True, eq=False, slots=True)
class DeviceStudents:
    """A general student and the networks of the known recording devices, in evaluation mode."""

    key: LogitKey
    general: Student
    by_device: Mapping[str, Student]
    front_end: FrontEnd

    def find(self, recording_device: str) -> Student:
        """Return the network for a recording device: the general one if it is not known."""
        return self.by_device.get(recording_device, self.general)


def specialise(
    general: LogitKey,
    stage: DeviceStage,
    corpus: Corpus,
    store: LogitStore,
    *,
    responses: Path | None,
    device: torch.device,
    on_epoch: OnEpoch = lambda metrics: None,
) -> LogitKey:
    """Fine-tune a copy of a student for each known recording device, unless the result is stored.

    Args:
        general: the key of the student, which is in the store.
        stage: how its copies are fine-tuned.
        corpus: the corpus that the student was trained on.
        store: the store of the student, and of the checkpoints, weights, records and logits.
        responses: the student's folder of impulse responses; its copies hear none of them.
        device: where to train.
        on_epoch: called after each epoch; counts the epochs of all copies.

    Raises:
        NoStudent: the member was not trained here.
        CorpusError: the fit clips have fewer than two known recording devices.
        LogitStoreError: the student is not in the store, or has changed.
    """
    began, record = time.monotonic(), store.read_record(general)
    key = make_device_key(general, record["seed"], stage, corpus, responses)
    if key in store:
        return key
    recipe = stage.make_recipe(restore_recipe(record, general))
    devices = find_known_devices(corpus, general.split)
    start = load_student(store, general, len(corpus.scenes)).student.state_dict()
    (general_NK,) = store.read([general], clip_ids=corpus.table["clip_id"].to_pylist())
    soft = TeacherLogits(general.member, general_NK, (general,))
    feed = Feed.open(corpus, recipe.front_end, recipe.augmentation, responses, device)

    def prepare(name: str) -> tuple[Run, Student]:
        own = copy.copy(feed)
        own.corpus = keep_device(corpus, general.split, name)
        run, student = make_run(own, recipe, general.split, record["seed"], soft)
        student.load_state_dict(start)
        return run, student

    told = _describe(general, record, stage, devices)
    joined_NK, recording_devices = general_NK.copy(), corpus.column("recording_device")
    for part, name in enumerate(devices):
        run, student = prepare(name)
        if locate_record("student", key.member, part + 1) not in store.objects:
            counted = count_on(on_epoch, part, len(devices))
            n_clips = len(run.feed.corpus.rows(general.split, "fit"))
            known = told | {"recording_device": name, "clips": n_clips}
            train_part(run, student, part, key, "student", known, store, counted)
        student.load_state_dict(_read_weights(store, key, part))
        rows = np.flatnonzero(recording_devices == name)
        joined_NK[rows] = predict_rows(run, rows)
    whole = told | _join_parts(store, key, len(devices)) | describe_provenance(device)
    whole |= {"last_attempt_s": time.monotonic() - began}
    histories = [each["history"] for each in _read_parts(store, key, len(devices))]
    with_history = whole | {"history": average_histories(histories)}
    store.objects.write_json(locate_record("student", key.member), with_history)
    store.write(key, joined_NK, whole, row_order=hash_clip_order(corpus))
    return key


def keep_device(corpus: Corpus, split: int, recording_device: str) -> Corpus:
    """Return the corpus with only one device's clips in `fit`, and in `select` if it has some there.

    All clips and their rows stay. The select clips choose nothing here: they show how a run goes.
    """
    others_N = corpus.column("recording_device") != recording_device
    left_out_N = np.zeros(len(corpus), dtype=bool)
    for fold in ("fit", "select"):
        rows = corpus.rows(split, fold)
        own = rows[~others_N[rows]]
        left_out_N[rows] = others_N[rows] & (fold == "fit" or len(own) > 0)
    return leave_out(corpus, split, left_out_N)


def load_device_students(store: LogitStore, key: LogitKey, n_classes: int) -> DeviceStudents:
    """Load a general student and the networks of its known recording devices.

    A student without such networks is one whose general network is for all devices.

    Args:
        store: the store with its record and its weights.
        key: the key of its logits.
        n_classes: number of classes.

    Raises:
        NoStudent: the member was not trained here, or is a teacher.
        LogitStoreError: the member is not in the store, or its weights have changed.
    """
    record = store.read_record(key)
    recipe = read_recipe_entry(record, key)
    if "per_device" not in record:
        loaded = load_student(store, key, n_classes)
        if loaded.tuned_in_int8:
            raise NoStudent(f"{key} was fine-tuned in int8: name {record['quantised_from']}")
        return DeviceStudents(key, loaded.student, {}, loaded.front_end)
    general = LogitKey(key.corpus, key.split, record["start"])
    loaded = load_student(store, general, n_classes)
    by_device = {}
    for part, name in enumerate(record["per_device"]["devices"]):
        student = build(recipe["model"], n_classes=n_classes, **recipe["arguments"])
        student.load_state_dict(_read_weights(store, key, part))
        by_device[name] = student.eval()
    return DeviceStudents(key, loaded.student, by_device, loaded.front_end)


def _read_weights(store: LogitStore, key: LogitKey, part: int) -> dict[str, torch.Tensor]:
    file = fetch_weights(store, "student", key.member, part=part + 1)
    return safetensors.torch.load_file(file)


def _describe(
    general: LogitKey, record: Mapping[str, Any], stage: DeviceStage, devices: tuple[str, ...]
) -> dict[str, Any]:
    """Return what the record says before anything is trained."""
    kept = {name: record[name] for name in _KEPT if name in record}
    return kept | {
        "kind": "student",
        "protocol": record["protocol"],
        "start": general.member,
        "ensemble": general.member,
        "per_device": asdict(stage) | {"devices": list(devices)},
    }


_KEPT = ("recipe", "seed", "responses", HEARD_UNSEEN, "macs", "params", "params_in_float32", "ram")
"""Entries of the record that are those of the general student."""


def _join_parts(store: LogitStore, key: LogitKey, n_parts: int) -> dict[str, Any]:
    """Return what the member's record says of its networks."""
    records = _read_parts(store, key, n_parts)
    names = ("recording_device", "clips", "epochs", "training_s", "weights_sha256")
    return {
        "parts": [{name: each[name] for name in names} for each in records],
        "epochs": max(each["epochs"] for each in records),
        "best_epoch": max(each["best_epoch"] for each in records),
        "training_s": sum(each["training_s"] for each in records),
    }


def _read_parts(store: LogitStore, key: LogitKey, n_parts: int) -> list[dict[str, Any]]:
    return [
        store.objects.read_json(locate_record("student", key.member, part + 1))
        for part in range(n_parts)
    ]
