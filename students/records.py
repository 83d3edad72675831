"""The recipe in a student's record."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from logit_store import LogitKey
from students.errors import NoStudent
from students.recipe import StudentRecipe

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def restore_recipe(record: Mapping[str, Any], key: LogitKey | None = None) -> StudentRecipe:
    """Return the recipe that a student was trained with.

    Args:
        record: the student's record.
        key: the key of its logits, for the error.

    Raises:
        NoStudent: the record is not that of a student, or it was written by another version; says
            what does not fit.
    """
    from pydantic import ValidationError

    recipe = read_recipe_entry(record, key)
    # JSON has lists where the arguments have tuples, and only the model knows their types.
    arguments = {name: _to_tuples(value) for name, value in recipe["arguments"].items()}
    try:
        return _make_adapter().validate_python(recipe | {"arguments": arguments}, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        raise NoStudent(
            f"{key or recipe['name']}: its recipe was written by another version "
            f"({'.'.join(map(str, first['loc']))}={first['input']!r}: {first['msg']}): train it again"
        ) from error


@functools.cache
def _make_adapter() -> "TypeAdapter[StudentRecipe]":
    """Make what checks a recipe; this takes longer than hundreds of checks."""
    # It takes a tenth of the time of --help to import, and few commands read records.
    from pydantic import TypeAdapter

    return TypeAdapter(StudentRecipe)


def read_recipe_entry(record: Mapping[str, Any], key: LogitKey | None = None) -> dict[str, Any]:
    """Return the recipe of a student's record as it was written, whatever the version.

    Raises:
        NoStudent: the record is not that of a student.
    """
    recipe = record.get("recipe")
    if record.get("kind") != "student" or not isinstance(recipe, dict):
        raise NoStudent(
            f"{key or 'a member'}: its record is that of {record.get('kind', 'imported logits')!r}, "
            "expected 'student': name a student that was trained here"
        )
    return recipe


def _to_tuples(value: Any) -> Any:
    return tuple(map(_to_tuples, value)) if isinstance(value, list) else value
