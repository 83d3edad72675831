"""Finds the command lines in documents, splits them as a shell would, and checks them."""

import importlib
import inspect
import re
import shlex
import subprocess
import textwrap
from pathlib import Path

import click
from command_lines import read
from ray.scripts.scripts import cli as ray_command

from students.device.boards import BOARDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    *("README.md", "CONTRIBUTING.md"),
    *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
)

SCRIPTS = ("docs/own-data.md",)
"""Pages that also make files: bash runs what stands between their commands as a whole."""

_SETTING = re.compile(r"[A-Za-z_]\w*=")


class UnknownCommand(Exception):
    """A document names a command that this module cannot check."""


def fenced(text: str, language: str) -> list[str]:
    """Return the text of a page's blocks of a language, also of those indented by a list."""
    pattern = rf"^( *)```{language}\n(.*?)^ *```"
    found = re.findall(pattern, text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for _, block in found]


def blocks(page: str) -> list[list[list[str]]]:
    """Return the ```sh blocks of a page: each a list of commands, each command a list of words.

    A variable that a block sets (NAME=value) replaces $NAME in it and in later blocks.
    """
    variables: dict[str, str] = {}
    found = fenced((ROOT / page).read_text(), "sh")
    split = _script if page in SCRIPTS else _commands
    return [split(block, variables) for block in found]


def _script(block: str, variables: dict[str, str]) -> list[list[str]]:
    """Return the commands of a block, with `bash -euc TEXT` for the text between them."""
    parts = re.split(
        r"^((?:source |python -m |python jobs/|[A-Z]+=).*\n)",
        block.replace("\\\n", " "),
        flags=re.MULTILINE,
    )
    commands = []
    for place, part in enumerate(parts):
        if place % 2:
            commands += _commands(part, variables)
        elif part.strip():
            commands.append(["bash", "-euc", part])
    return commands


def _commands(block: str, variables: dict[str, str]) -> list[list[str]]:
    commands, begun = [], ""
    for line in block.replace("\\\n", " ").splitlines(keepends=True):
        begun += line
        try:
            words = shlex.split(_filled_in(begun, variables), comments=True)
        except ValueError:  # a quotation that continues on the next line
            continue
        begun = ""
        if len(words) == 1 and _SETTING.match(words[0]):
            name, _, value = words[0].partition("=")
            variables[name] = value
        elif words:
            commands.append(words)
    if begun:
        raise ValueError(f"a quotation without end: {begun}")
    return commands


def _filled_in(line: str, variables: dict[str, str]) -> str:
    return re.sub(r"\$([A-Z]+)\b", lambda match: variables.get(match[1], match[0]), line)


def check(words: list[str]) -> None:
    """Make sure that a command exists and accepts these options.

    Raises:
        UnknownCommand: this module cannot check it.
        AssertionError, SystemExit, click.UsageError: it does not exist, or has other options.
    """
    match words:
        case ["source", ".venv/bin/activate"] | ["chmod", "600", "~/.ray/auth_token"]:
            pass
        case ["export", *settings] if all(_SETTING.match(each) for each in settings):
            pass
        case ["make", "-C", "student_c", *targets]:
            rules = (ROOT / "students/c/templates/Makefile").read_text()
            for target in targets:
                assert re.search(rf"^{re.escape(target)}:", rules, re.MULTILINE), target
        case ["student_c/student", *_]:
            pass
        case ["qemu-system-arm", "-M", machine, *_]:
            assert machine in {board.machine for board in BOARDS.values()}, machine
        case ["make", target, *settings] if all(_SETTING.match(each) for each in settings):
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
        case ["bash", "-euc", text]:
            subprocess.run(["bash", "-nc", text], check=True)
        case ["ray", *arguments]:
            _check_ray(arguments)
        case ["python", "-m", *_]:
            _read(words)
        case ["python", script, *_]:
            assert (ROOT / script).is_file(), f"there is no {script}"
            _read(words)
        case _:
            raise UnknownCommand(shlex.join(words))


def options_of(script: str) -> type:
    """Return the class that a job's command line is read into."""
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    return inspect.get_annotations(module.main)["options"]


def _read(words: list[str]) -> None:
    try:
        read(shlex.join(words))
    except ValueError as error:
        raise UnknownCommand(str(error)) from error


def _check_ray(words: list[str]) -> None:
    """Check a command line of Ray's, and that of the job that it runs."""
    parse_ray(words)
    if "--" in words:
        check(words[words.index("--") + 1 :])


def parse_ray(words: list[str]) -> None:
    """Parse words as Ray's command line does, down to the command that would run.

    Raises:
        click.UsageError: the command has other options.
    """
    command, name = ray_command, "ray"
    while isinstance(command, click.Group):
        name, *words = words
        command = command.commands[name]
    command.make_context(name, words)
