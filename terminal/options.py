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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import MISSING, Field, dataclass, fields
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

import tyro

from redact import redact_secrets
from terminal.values import LONGEST_NAME, Check

COLUMNS = 80
"""Width of help."""
EXAMPLE_HEADING = "Example:"
"""Heading, in a command's docstring, of the commands that can be typed as they are."""
_CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_TITLE = re.compile(r"\A[\u2500-\u257f ]*(\S.*?)[\u2500-\u257f ]*\n")
"""The first line of a box, which is its title."""
_FRAMES = re.compile(r"[\u2500-\u257f]|-{4,}|^[|+]|[|+]$", re.MULTILINE)
"""Characters of boxes in all encodings."""
_SAID_TWICE = re.compile(r"\A(.+?:) \1")
"""The text of some boxes begins with the box's title."""

_INVALID_CHOICE = re.compile(
    r"\AInvalid choice: invalid choice '(.*)' for argument '(.+?)'\. Expected one of (\(.+?\))\."
)
"""Value, option and choices; these come from a set if None is one, which nobody can type."""

_NO_NUMBER = re.compile(
    r"\AValue error: Error parsing (\S+): .*?"
    r"(invalid literal for int\(\)|could not convert string to float)[^:]*: '(.*?)'"
)
"""Option, what its value should have been, and the value."""

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
    """Parse the command line into options, and check every value.

    An error ends the process with code 2: in one line that names the option, its value and what was
    expected. What only the parser finds, such as an unknown option, it shows in a box on a terminal.

    Args:
        kind: A dataclass of options.
        program: The program as it is typed, `python jobs/teachers.py`.
        about: What the command does, with an example: a docstring.
        arguments: The arguments; those of this process if None.
    """
    for field, meaning in _read_docstrings(kind):
        # Otherwise tyro would use the docstring with the line breaks of the source.
        field.metadata = MappingProxyType({**field.metadata, "help": meaning})
    arguments = sys.argv[1:] if arguments is None else arguments
    if fault := _find_unusable_word(arguments):
        _refuse(program, fault)
    with _report_errors_in_one_line(program, arguments):
        options = tyro.cli(
            kind, prog=program, description=_format_head(about), args=arguments, config=_CONFIG
        )
    if fault := find_fault_of_options(options):
        _refuse(program, fault)
    return options


def parse_command(
    kinds: Sequence[type[_Options]], program: str, arguments: Sequence[str] | None = None
) -> _Options:
    """Parse the command line of a program with several commands, as `parse_options` does.

    Args:
        kinds: The dataclasses of the commands' options; a command is named like its class.
        program: The program as it is typed, `python -m logit_store`.
        arguments: The arguments; those of this process if None.
    """
    name, *rest = arguments = (sys.argv[1:] if arguments is None else arguments) or [""]
    commands = {kind.__name__.lower(): kind for kind in kinds}
    if name in commands:
        return parse_options(
            commands[name], f"{program} {name}", commands[name].__doc__ or "", rest
        )
    if not name.startswith("-"):
        given = f"{_show(name)}: " if name else ""
        _refuse(program, f"{given}expected a command: {', '.join(commands)} (each has --help)")
    subcommands: dict[str, Callable[..., _Options]] = {**commands}
    with _report_errors_in_one_line(program, arguments):
        return tyro.extras.subcommand_cli_from_dict(subcommands, prog=program, args=arguments)


def _refuse(program: str, fault: str) -> NoReturn:
    sys.stderr.write(f"{program}: {fault}\n")
    sys.exit(2)


def _find_unusable_word(arguments: Sequence[str]) -> str | None:
    """Return what is wrong with the first word that no option takes: nothing in it, or no text."""
    for before, word in itertools.pairwise(["", *arguments]):
        option, is_joined, value = word.partition("=") if word.startswith("--") else ("", "", word)
        name = option if is_joined else before if before.startswith("--") else "argument"
        if not value.strip() and (is_joined or not option):
            return f"{name} {_show(value)}: expected a value"
        if "\0" in word or any("\ud800" <= letter <= "\udfff" for letter in word):
            return f"{name} {_show(value)}: expected text in UTF-8, without NUL"
    return None


def find_fault_of_options(options: object) -> str | None:
    """Return the first option whose value its type refuses, with the value and what was expected.

    Args:
        options: A dataclass of options, whose types are those of `terminal.values`.
    """
    hints = get_type_hints(type(options), include_extras=True)
    for field in fields(cast(Any, options)):
        value = getattr(options, field.name)
        if (fault := _find_fault(hints[field.name], value)) is not None:
            return f"{_name_option(hints[field.name], field.name)} {fault}"
    return None


def _find_fault(hint: Any, value: Any) -> str | None:
    """Return a value, or the first of several, that its type refuses, and what was expected."""
    if value is None:
        return None
    inside = get_args(hint)
    match get_origin(hint):
        case typing.Annotated:
            checks = [each for each in hint.__metadata__ if isinstance(each, Check)]
            for fault in filter(None, (check.find_fault(value) for check in checks)):
                return f"{_show(value)}: {fault}"
            return _find_fault(inside[0], value)
        case typing.Union | types.UnionType:
            return next(filter(None, (_find_fault(each, value) for each in inside)), None)
        case kind if kind is tuple:
            return next(filter(None, (_find_fault(inside[0], each) for each in value)), None)
    return None


def _show(value: Any) -> str:
    """Return a value as it was typed, or if that would not be readable, quoted and shortened."""
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    text = redact_secrets(text, text)  # a part of a secret would not be found in it
    if text.strip() and text.isprintable() and len(text) <= LONGEST_NAME:
        return text
    shown = ascii(text)
    return shown if len(shown) <= COLUMNS else f"{shown[:COLUMNS]}... ({len(text):,} characters)"


def _name_option(hint: Any, field: str) -> str:
    name = field.replace("_", "-")
    is_positional = tyro.conf.Positional in getattr(hint, "__metadata__", ())
    return name.upper() if is_positional else f"--{name}"


@contextmanager
def _report_errors_in_one_line(program: str, arguments: Sequence[str]) -> Iterator[None]:
    """In a pipe, print an error of tyro in one line instead of a box of many lines."""
    if sys.stderr.isatty():
        yield
        return
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            yield
    finally:
        # Secrets are found in broken lines, but not where these are joined.
        said = redact_secrets(_COLOURS.sub("", complaint.getvalue()), *arguments)
        titled = _TITLE.sub(r"\1: ", said)
        words = _SAID_TWICE.sub(r"\1", " ".join(_FRAMES.sub(" ", titled).split()), count=1)
        words = _NO_NUMBER.sub(_say_number, _INVALID_CHOICE.sub(_say_choices, words))
        if words:
            sys.stderr.write(f"{program}: {words}\n")


def _say_choices(invalid: re.Match[str]) -> str:
    """Say what the project's own checks would say of a value that is none of the choices."""
    value, option, shown = invalid.groups()
    choices: tuple[str, ...] = ast.literal_eval(shown)
    if "None" in choices:
        others = [each for each in choices if each != "None"]
        choices = tuple(sorted(others, key=lambda each: (len(each) * each.isdigit(), each)))
    return f"{option} {value}: expected one of {', '.join(choices)}."


def _say_number(fault: re.Match[str]) -> str:
    """Say what the project's own checks would say of a value that is no number."""
    option, kind, value = fault.groups()
    return f"{option} {value}: expected a {'whole ' if 'int' in kind else ''}number."


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
    name = _name_option(hint, field.name)
    if not name.startswith("--"):
        return Option(name, "", default, meaning)
    # A flag is typed to change its default.
    typed = f"--no-{name[2:]}" if field.default is True else name
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
