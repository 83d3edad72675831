"""Errors of workers reach the driver with their text and attributes."""

import ast
import builtins
import inspect
import pickle
import re
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import pytest

from audio.errors import BrokenClip
from disk import PortableError
from logit_store import EmbeddingKey, LogitKey, UnfitImport

PROJECT = Path(__file__).resolve().parents[2]
KEY = LogitKey("tau", 25, "mn10-0123456789ab")
SAMPLES = {
    "EmbeddingKey": EmbeddingKey("tau", "aisfx-0123456789ab"),
    "LogitKey": KEY,
    "LogitKey | EmbeddingKey": KEY,
    "Path": Path("folder"),
    "Sequence[LogitKey]": [KEY],
    "Sequence[UnfitImport]": [UnfitImport(Path("a.pt"), "empty")],
    "Sequence[str]": ["a", "b"],
    "bool": True,
    "datetime": datetime(2026, 1, 31, tzinfo=UTC),
    "float": 1.5,
    "int": 7,
    "int | None": 7,
    "range | None": range(3, 7),
    "list[BrokenClip]": [BrokenClip("a.wav", "empty")],
    "str": "an umlaut: ä",
    "str | None": None,
}
"""An argument for each type that a constructor of an error takes."""


def is_builtin_error(name: str) -> bool:
    found = getattr(builtins, name, None)
    return isinstance(found, type) and issubclass(found, BaseException)


def find_error_classes() -> list[type[BaseException]]:
    """Find all classes of errors, without the import of modules that have none."""
    packages = [
        path.parent for path in PROJECT.glob("*/__init__.py") if path.parent.name != "tests"
    ]
    classes = {
        (path, node.name): [ast.unparse(base).rpartition(".")[2] for base in node.bases]
        for package in packages
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    errors: set[tuple[Path, str]] = set()
    while True:
        names = {name for _, name in errors}
        more = {
            place
            for place, bases in classes.items()
            if any(is_builtin_error(base) or base in names for base in bases)
        }
        if more <= errors:
            break
        errors |= more
    modules = [(path.relative_to(PROJECT).with_suffix("").parts, name) for path, name in errors]
    return [getattr(import_module(".".join(parts)), name) for parts, name in sorted(modules)]


def make(cls: type[BaseException]) -> BaseException:
    if not inspect.isfunction(cls.__init__):
        return cls("the reason")
    arguments = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        kind = inspect.formatannotation(parameter.annotation)
        arguments[name] = SAMPLES[re.sub(r"\w+\.|'", "", kind)]
    return cls(**arguments)


@pytest.mark.parametrize("cls", find_error_classes(), ids=lambda cls: cls.__name__)
def test_every_error_of_the_project_survives_pickling(cls: type[BaseException]) -> None:
    error = make(cls)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert str(again) == str(error) != ""
    assert again.args == error.args
    # Errors within an error have no equality.
    assert repr(again.__dict__) == repr(error.__dict__)


class Numbered(PortableError, OSError):
    """An error of the system."""


def test_an_error_with_a_number_and_a_file_keeps_them() -> None:
    error = pickle.loads(pickle.dumps(Numbered(28, "No space left on device", "a.wav")))
    assert (error.errno, error.strerror, error.filename) == (28, "No space left on device", "a.wav")
