"""Loads a student from the store."""

from dataclasses import dataclass

import safetensors.torch

from audio.front_ends import FrontEnd
from logit_store import LogitKey, LogitStore
from students.catalogue import build
from students.cost import ParameterCount
from students.errors import NoStudent
from students.parameters import count_parameters
from students.quantise import quantise
from students.records import read_recipe_entry
from students.student import Student
from training import fetch_weights


@dataclass(frozen=True, eq=False, slots=True)
class StoredStudent:
    """A student with its weights and its front-end."""

    key: LogitKey
    student: Student
    front_end: FrontEnd
    tuned_in_int8: bool
    """Whether it was fine-tuned in int8: its layers round, and their ranges are learnt."""
    params: ParameterCount
    """Its parameters as the challenge counts them: with branches folded, before norms are."""


def load_student(store: LogitStore, key: LogitKey, n_classes: int) -> StoredStudent:
    """Load a student as it was stored, in evaluation mode.

    Args:
        store: the store with its record and its weights.
        key: the key of its logits.
        n_classes: number of classes.

    Raises:
        NoStudent: the member was not trained here, or is a teacher, or has a network per recording device.
        LogitStoreError: the member is not in the store, or its weights have changed.
    """
    record = store.read_record(key)
    recipe = read_recipe_entry(record, key)
    if "per_device" in record:
        raise NoStudent(
            f"{key} has a network for each of the recording devices "
            f"{', '.join(record['per_device']['devices'])}: name its general student, {record['start']}; python "
            "jobs/submission.py --challenge 2025 hands in all of them"
        )
    student = build(recipe["model"], n_classes=n_classes, **recipe["arguments"])
    params = count_parameters(student)
    tuned_in_int8 = "quantisation" in record
    if tuned_in_int8:
        student = quantise(student.eval(), record["quantisation"]["input_shape"])
    weights = fetch_weights(store, "student", key.member)
    student.load_state_dict(safetensors.torch.load_file(weights))
    front_end = FrontEnd(**recipe["front_end"])
    return StoredStudent(key, student.eval(), front_end, tuned_in_int8, params)
