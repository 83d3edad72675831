"""A command's options: a dataclass whose fields have their meaning in a docstring below them.

tyro makes the command line of it; `described` tells the same to whoever writes a reference.
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
EXAMPLE = "Example:"
"""Heads the part of a command's docstring that can be typed as it stands."""
_CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
_FRAMES = re.compile(r"[\u2500-\u257f]|\x1b\[[0-9;]*m|-{4,}|^[|+]|[|+]$", re.MULTILINE)
"""Of boxes, in all encodings, and colours."""

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a command, for people."""

    name: str
    """As it is typed: --store, or MEMBER where only its place tells."""
    values: str
    """What may follow it: INT, {counts,convex}, STR ... where there may be several; else empty."""
    default: str | None
    """As it would be typed; empty if there is none, None where it must be given."""
    meaning: str


def parsed(
    kind: type[Kind], program: str, about: str, arguments: Sequence[str] | None = None
) -> Kind:
    """The options that were typed.

    What cannot be read ends the process with code 2: with a drawing for people, and in a pipe with
    the one line that a log has room for.

    Args:
        kind: a dataclass of options.
        program: as it is typed, `python jobs/teachers.py`.
        about: what the command does, and an example: a docstring.
        arguments: those of this process if None.
    """
    for field, meaning in _meanings(kind):
        # tyro would take the docstring, with the line breaks of the source.
        field.metadata = MappingProxyType({**field.metadata, "help": meaning})
    with one_line(program):
        return tyro.cli(
            kind, prog=program, description=_head(about), args=arguments, config=_CONFIG
        )


@contextmanager
def one_line(program: str) -> Iterator[None]:
    """Say in a pipe in one line what tyro draws a box of many lines around."""
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


def _head(about: str) -> str:
    """What stands above the options, in so many columns as everything."""
    parts = inspect.cleandoc(about).split("\n\n")
    # tyro joins a line that begins with a letter to the one before it.
    filled = [
        part if part.startswith(EXAMPLE) else textwrap.fill(part, COLUMNS, subsequent_indent="  ")
        for part in parts
    ]
    return "\n\n".join(filled)


def examples(about: str) -> list[str]:
    """The commands below `Example:` in a docstring, each on one line."""
    _, _, below = inspect.cleandoc(about).partition(f"{EXAMPLE}\n")
    joined = inspect.cleandoc(below).replace("\\\n", " ")
    return [" ".join(line.split()) for line in joined.splitlines()]


def described(kind: type) -> list[Option]:
    """The options of a dataclass, those without which it does not go first.

    Raises:
        ValueError: one has no docstring.
    """
    hints = get_type_hints(kind, include_extras=True)
    found = [_option(field, hints[field.name], meaning) for field, meaning in _meanings(kind)]
    return sorted(found, key=lambda option: option.default is not None)


def _option(field: Field[Any], hint: Any, meaning: str) -> Option:
    default = _default(field)
    name = field.name.replace("_", "-")
    if tyro.conf.Positional in getattr(hint, "__metadata__", ()):
        return Option(name.upper(), "", default, meaning)
    # A flag is typed to change what it is without.
    typed = f"--no-{name}" if field.default is True else f"--{name}"
    return Option(typed, _values(hint), default, meaning)


def _values(hint: Any) -> str:
    inside = get_args(hint)
    match get_origin(hint):
        case typing.Annotated:
            return _values(inside[0])
        case typing.Literal:
            return f"{{{','.join(map(str, inside))}}}"
        case typing.Union | types.UnionType:
            return " or ".join(_values(each) for each in inside if each is not types.NoneType)
        case _ if inside:
            return f"{_values(inside[0])} ..."
    return "" if hint is bool else hint.__name__.upper()


def _default(field: Field[Any]) -> str | None:
    value = field.default if field.default_factory is MISSING else field.default_factory()
    if value is MISSING:
        return None
    if value is None or value == "" or isinstance(value, bool):
        return ""
    return shlex.join(map(str, value if isinstance(value, tuple) else (value,)))


def _meanings(kind: type) -> list[tuple[Field[Any], str]]:
    """Each field of a dataclass with the docstring below it, on one line.

    Raises:
        ValueError: a field has none.
    """
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        for field, text in itertools.pairwise(cast(ast.ClassDef, definition).body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                match text:
                    case ast.Expr(ast.Constant(str(told))):
                        found[field.target.id] = " ".join(told.split())
    lacking = [field.name for field in fields(kind) if field.name not in found]
    if lacking:
        raise ValueError(f"{kind.__qualname__}: no docstring below {', '.join(lacking)}")
    return [(field, found[field.name]) for field in fields(kind)]
