"""The options of a command: a dataclass whose fields are explained by a docstring below them.

tyro builds the command line from it; `describe_options` returns the same for the reference.
"""

import ast
import inspect
import io
import itertools
import re
import shlex
import sys
import textwrap
import types
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import MISSING, Field, dataclass, fields
from types import MappingProxyType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import tyro

COLUMNS = 80
"""Width of help."""
EXAMPLE_HEADING = "Example:"
"""Heading, in a command's docstring, of the commands that can be typed as they are."""
_CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
_FRAMES = re.compile(r"[\u2500-\u257f]|\x1b\[[0-9;]*m|-{4,}|^[|+]|[|+]$", re.MULTILINE)
"""Characters of boxes in all encodings, and colours."""

_Options = TypeVar("_Options")


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a command, described for people."""

    name: str
    """What is typed: --store, or MEMBER for a positional argument."""
    values: str
    """The values that may follow: INT, {counts,convex}, or STR ... for several; else empty."""
    default: str | None
    """The default as it would be typed; empty if there is none, None if the option is required."""
    meaning: str


def parse_options(
    kind: type[_Options], program: str, about: str, arguments: Sequence[str] | None = None
) -> _Options:
    """Parse the command line into options.

    An error ends the process with code 2: it is shown in a box on a terminal, and in one line in a
    pipe, as a log needs it.

    Args:
        kind: A dataclass of options.
        program: The program as it is typed, `python jobs/teachers.py`.
        about: What the command does, with an example: a docstring.
        arguments: The arguments; those of this process if None.
    """
    for field, meaning in _read_docstrings(kind):
        # Otherwise tyro would use the docstring with the line breaks of the source.
        field.metadata = MappingProxyType({**field.metadata, "help": meaning})
    with report_errors_in_one_line(program):
        return tyro.cli(
            kind, prog=program, description=_format_head(about), args=arguments, config=_CONFIG
        )


@contextmanager
def report_errors_in_one_line(program: str) -> Iterator[None]:
    """In a pipe, print an error of tyro in one line instead of a box of many lines."""
    if sys.stderr.isatty():
        yield
        return
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            yield
    finally:
        words = _FRAMES.sub(" ", complaint.getvalue()).split()
        if words:
            sys.stderr.write(f"{program}: {' '.join(words)}\n")


def _format_head(about: str) -> str:
    """Return the text above the options, in COLUMNS columns."""
    parts = inspect.cleandoc(about).split("\n\n")
    # tyro joins a line that begins with a letter to the one before it.
    filled = [
        part
        if part.startswith(EXAMPLE_HEADING)
        else textwrap.fill(part, COLUMNS, subsequent_indent="  ")
        for part in parts
    ]
    return "\n\n".join(filled)


def find_examples(about: str) -> list[str]:
    """Return the commands below `Example:` in a docstring, each on one line."""
    _, _, below = inspect.cleandoc(about).partition(f"{EXAMPLE_HEADING}\n")
    joined = inspect.cleandoc(below).replace("\\\n", " ")
    return [" ".join(line.split()) for line in joined.splitlines()]


def describe_options(kind: type) -> list[Option]:
    """Return the options of a dataclass, required ones first.

    Raises:
        ValueError: A field has no docstring.
    """
    hints = get_type_hints(kind, include_extras=True)
    options = [
        _describe_option(field, hints[field.name], meaning)
        for field, meaning in _read_docstrings(kind)
    ]
    return sorted(options, key=lambda option: option.default is not None)


def _describe_option(field: Field[Any], hint: Any, meaning: str) -> Option:
    default = _format_default(field)
    name = field.name.replace("_", "-")
    if tyro.conf.Positional in getattr(hint, "__metadata__", ()):
        return Option(name.upper(), "", default, meaning)
    # A flag is typed to change its default.
    typed = f"--no-{name}" if field.default is True else f"--{name}"
    return Option(typed, _format_values(hint), default, meaning)


def _format_values(hint: Any) -> str:
    inside = get_args(hint)
    match get_origin(hint):
        case typing.Annotated:
            return _format_values(inside[0])
        case typing.Literal:
            return f"{{{','.join(map(str, inside))}}}"
        case typing.Union | types.UnionType:
            return " or ".join(
                _format_values(each) for each in inside if each is not types.NoneType
            )
        case _ if inside:
            return f"{_format_values(inside[0])} ..."
    return "" if hint is bool else hint.__name__.upper()


def _format_default(field: Field[Any]) -> str | None:
    value = field.default if field.default_factory is MISSING else field.default_factory()
    if value is MISSING:
        return None
    if value is None or value == "" or isinstance(value, bool):
        return ""
    return shlex.join(map(str, value if isinstance(value, tuple) else (value,)))


def _read_docstrings(kind: type) -> list[tuple[Field[Any], str]]:
    """Return each field of a dataclass with the docstring below it, on one line.

    Raises:
        ValueError: A field has no docstring.
    """
    meanings: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        for field, text in itertools.pairwise(cast(ast.ClassDef, definition).body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                match text:
                    case ast.Expr(ast.Constant(str(docstring))):
                        meanings[field.target.id] = " ".join(docstring.split())
    lacking = [field.name for field in fields(kind) if field.name not in meanings]
    if lacking:
        raise ValueError(f"{kind.__qualname__}: no docstring below {', '.join(lacking)}")
    return [(field, meanings[field.name]) for field in fields(kind)]
