"""Writes docs/reference.md from the code: `make reference`, or python -m docs.make_reference."""

import importlib
import inspect
from argparse import SUPPRESS, Action
from dataclasses import dataclass
from pathlib import Path

from cluster import simulated
from disk import write_whole
from logit_store import __main__ as logit_store_command
from report.dcase import __main__ as dcase_command
from students import classify
from students.complexity import __main__ as complexity_command
from students.device import __main__ as device_command
from students.export import __main__ as export_command
from terminal import EXAMPLE_HEADING, Option, describe_options

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "reference.md"
HEAD = """# Every command, every option

This page is made from the code by `make reference`; a test fails if it is out of date. Each command's
`--help` says the same. An option that is not given has its default. Where that column is empty, the text
says what happens without the option; an option that takes no value is then off.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One command of the project."""

    program: str
    """The words to type, such as `python jobs/teachers.py`."""
    about: str
    """The docstring that says what it does, with an example."""
    options: list[Option]
    kind: type | None = None
    """The class that tyro reads its options into; None for the command that uses argparse."""


def list_commands() -> list[Command]:
    """Return all commands: those of jobs/ by name, then those of the packages."""
    return [*_list_jobs(), *_list_store_commands(), *_list_other_commands()]


def _list_jobs() -> list[Command]:
    files = sorted((ROOT / "jobs").glob("*.py"))
    names = [file.stem for file in files if "\nif __name__ ==" in file.read_text()]
    return [_describe_job(name) for name in names]


def _describe_job(name: str) -> Command:
    main = importlib.import_module(f"jobs.{name}").main
    kind = inspect.get_annotations(main, eval_str=True)["options"]
    return _describe_command(f"python jobs/{name}.py", main.__doc__ or "", kind)


def _list_store_commands() -> list[Command]:
    return [
        _describe_command(
            f"{logit_store_command.PROGRAM} {kind.__name__.lower()}", kind.__doc__ or "", kind
        )
        for kind in logit_store_command.COMMANDS
    ]


def _list_other_commands() -> list[Command]:
    check, complexity = dcase_command.Check, complexity_command.ComplexityOptions
    inference = dcase_command.Run
    export, device = export_command.ExportOptions, device_command.DeviceOptions
    return [
        _describe_command(export_command.PROGRAM, export.__doc__ or "", export),
        _describe_command(device_command.PROGRAM, device.__doc__ or "", device),
        _describe_classify(),
        _describe_command(complexity_command.PROGRAM, complexity.__doc__ or "", complexity),
        _describe_command(f"{dcase_command.PROGRAM} check", check.__doc__ or "", check),
        _describe_command(f"{dcase_command.PROGRAM} run", inference.__doc__ or "", inference),
        _describe_command(
            "python -m cluster.simulated",
            simulated.main.__doc__ or "",
            simulated.SimulatedClusterOptions,
        ),
    ]


def _describe_command(program: str, about: str, kind: type) -> Command:
    return Command(program=program, about=about, options=describe_options(kind), kind=kind)


def _describe_classify() -> Command:
    about = f"{classify.ABOUT}\n\n{EXAMPLE_HEADING}\n    {classify.EXAMPLE}\n"
    options = [
        Option(
            name=action.option_strings[0] if action.option_strings else str(action.metavar),
            values=_name_values(action) if action.option_strings else "",
            default=None if action.required else str(action.default or ""),
            meaning=(action.help or "").replace(" (default: %(default)s)", ""),
        )
        for action in classify.make_parser()._actions
        if action.default is not SUPPRESS
    ]
    return Command(program=classify.PROGRAM, about=about, options=options)


def _name_values(action: Action) -> str:
    is_switch = action.nargs == 0
    return "" if is_switch else str(action.metavar or action.dest.upper())


def render_reference() -> str:
    """Return the text of the page."""
    return "\n".join([HEAD, *map(_render_section, list_commands())])


def _render_section(command: Command) -> str:
    about, _, example = inspect.cleandoc(command.about).partition(f"{EXAMPLE_HEADING}\n")
    rows = "\n".join(map(_render_row, command.options))
    return (
        f"## `{command.program}`\n\n{about.strip()}\n\n```sh\n{inspect.cleandoc(example)}\n```\n\n"
        f"| option | default | |\n|---|---|---|\n{rows}\n"
    )


def _render_row(option: Option) -> str:
    default = f"`{option.default}`" if option.default else ""
    if option.default is None:
        default = "must be given"
    typed = f"{option.name} {option.values}".strip()
    cells = [f"`{typed}`", default, option.meaning.replace("|", r"\|")]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    write_whole(FILE, render_reference().encode())
