"""Command lines as documents tell people to type them: found, read as a shell would, checked."""

import importlib
import inspect
import re
import shlex
import subprocess
import textwrap
from pathlib import Path

import click
import tyro
from ray.scripts.scripts import cli as ray_command

from cluster import simulated
from report.dcase.__main__ import Check
from students import export

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    *("README.md", "CONTRIBUTING.md"),
    *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
)

SCRIPTS = ("docs/own-data.md",)
"""Pages that also make files: what stands between their commands is for bash, and run whole."""

_SETTING = re.compile(r"[A-Za-z_]\w*=")


class UnknownCommand(Exception):
    """A document names a command that nobody here knows how to check."""


def fenced(text: str, language: str) -> list[str]:
    """What stands in a page's blocks of a language, also in those that a list indents."""
    pattern = rf"^( *)```{language}\n(.*?)^ *```"
    found = re.findall(pattern, text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for _, block in found]


def blocks(page: str) -> list[list[list[str]]]:
    """The ```sh blocks of a page: each a list of commands, each command a list of words.

    What a block sets (NAME=value) is filled in for $NAME in it, and in those that follow.
    """
    variables: dict[str, str] = {}
    found = fenced((ROOT / page).read_text(), "sh")
    read = _script if page in SCRIPTS else _commands
    return [read(block, variables) for block in found]


def _script(block: str, variables: dict[str, str]) -> list[list[str]]:
    """The commands of a block, and `bash -euc TEXT` for what stands between them."""
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
        except ValueError:  # a quotation that goes on in the next line
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
    """Make sure that there is such a command, and that it takes such options.

    Raises:
        UnknownCommand: nobody knows.
        AssertionError, SystemExit, click.UsageError: it is not there, or takes other options.
    """
    match words:
        case ["source", ".venv/bin/activate"] | ["chmod", "600", "~/.ray/auth_token"]:
            pass
        case ["export", *settings] if all(_SETTING.match(each) for each in settings):
            pass
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
        case ["bash", "-euc", text]:
            subprocess.run(["bash", "-nc", text], check=True)
        case ["ray", *arguments]:
            _check_ray(arguments)
        case ["python", "-m", module, *arguments]:
            _check_module(module, arguments)
        case ["python", script, *arguments]:
            assert (ROOT / script).is_file(), f"there is no {script}"
            tyro.cli(options_of(script), args=arguments)
        case _:
            raise UnknownCommand(shlex.join(words))


def options_of(script: str) -> type:
    """What a job's command line is read into."""
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    return inspect.get_annotations(module.main)["options"]


def _check_module(module: str, arguments: list[str]) -> None:
    match module:
        case "students.export":
            tyro.cli(export.Options, args=arguments)
        case "logit_store" | "students.complexity" | "students.classify":
            pass  # these are run, wherever they stand
        case "report.dcase":
            tyro.extras.subcommand_cli_from_dict({"check": Check}, args=arguments)
        case "cluster.simulated":
            tyro.cli(simulated.Options, args=arguments)
        case _:
            raise UnknownCommand(f"python -m {module}")


def _check_ray(words: list[str]) -> None:
    """What Ray's command line is to take, and where it is to run a job, what that is."""
    parse_ray(words)
    if "--" in words:
        check(words[words.index("--") + 1 :])


def parse_ray(words: list[str]) -> None:
    """Parse as Ray's command line does, down to the command that would run.

    Raises:
        click.UsageError: it takes other options.
    """
    command, name = ray_command, "ray"
    while isinstance(command, click.Group):
        name, *words = words
        command = command.commands[name]
    command.make_context(name, words)
