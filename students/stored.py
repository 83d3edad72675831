"""A student out of the store."""

from dataclasses import dataclass

import safetensors.torch

from audio.log_mel import FrontEnd
from logit_store import LogitKey, LogitStore
from students.catalogue import build
from students.student import Student
from training import weights_object


class NoStudent(ValueError):
    """A member that is no student of which there are weights."""


@dataclass(frozen=True, eq=False, slots=True)
class StoredStudent:
    """A student with its weights, and what its clips become before it."""

    key: LogitKey
    student: Student
    front_end: FrontEnd


def load(store: LogitStore, key: LogitKey, n_classes: int) -> StoredStudent:
    """A student as it was stored, in evaluation mode.

    Args:
        store: has its record and its weights.
        key: of its logits.
        n_classes: that it tells apart.

    Raises:
        NoStudent: the member was not taught here, or is a teacher.
        LogitStoreError: it is not there.
    """
    record = store.record(key)
    recipe = record.get("recipe")
    if record.get("kind") != "student" or not isinstance(recipe, dict):
        raise NoStudent(
            f"{key}: its record is that of {record.get('kind', 'imported logits')!r}, expected "
            "'student': name a student that was taught here"
        )
    student = build(recipe["model"], n_classes=n_classes, **recipe["arguments"])
    weights = store.read_object(weights_object("student", key.member))
    student.load_state_dict(safetensors.torch.load(weights))
    return StoredStudent(key, student.eval(), FrontEnd(**recipe["front_end"]))
