"""A student out of the store, and the recipe that taught it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
from pydantic import TypeAdapter, ValidationError

from audio.log_mel import FrontEnd
from logit_store import LogitKey, LogitStore
from students.catalogue import build
from students.quantise import quantised
from students.recipes import StudentRecipe
from students.student import Student
from training import weights_object


class NoStudent(ValueError):
    """A member that is no student of which there are weights and a recipe."""


@dataclass(frozen=True, eq=False, slots=True)
class StoredStudent:
    """A student with its weights, and what its clips become before it."""

    key: LogitKey
    student: Student
    front_end: FrontEnd
    learnt_in_int8: bool
    """Whether its layers round as those of int8 do, to ranges that it has learnt."""


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
    recipe = _told(record, key)
    student = build(recipe["model"], n_classes=n_classes, **recipe["arguments"])
    learnt_in_int8 = "quantisation" in record
    if learnt_in_int8:
        student = quantised(student.eval(), record["quantisation"]["input_shape"])
    weights = store.read_object(weights_object("student", key.member))
    student.load_state_dict(safetensors.torch.load(weights))
    front_end = FrontEnd(**recipe["front_end"])
    return StoredStudent(key, student.eval(), front_end, learnt_in_int8)


def recipe_of(record: Mapping[str, Any], key: LogitKey | None = None) -> StudentRecipe:
    """The recipe that a student's record tells, equal to the one that taught it.

    Args:
        record: of a student.
        key: of its logits, for the error.

    Raises:
        NoStudent: it is no student's record, or that of another version; says what does not fit.
    """
    told = _told(record, key)
    # JSON has lists where the arguments have tuples, and only the model knows their types.
    arguments = {name: _as_tuples(value) for name, value in told["arguments"].items()}
    try:
        return TypeAdapter(StudentRecipe).validate_python(
            told | {"arguments": arguments}, extra="forbid"
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise NoStudent(
            f"{key or told['name']}: its recipe is that of another version "
            f"({'.'.join(map(str, first['loc']))}={first['input']!r}: {first['msg']}): teach it again"
        ) from error


def _told(record: Mapping[str, Any], key: LogitKey | None) -> dict[str, Any]:
    recipe = record.get("recipe")
    if record.get("kind") != "student" or not isinstance(recipe, dict):
        raise NoStudent(
            f"{key or 'a member'}: its record is that of {record.get('kind', 'imported logits')!r}, "
            "expected 'student': name a student that was taught here"
        )
    return recipe


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value
