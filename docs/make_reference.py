"""Writes docs/reference.md from the code: `make reference`, or python -m docs.make_reference."""

import importlib
import inspect
from argparse import SUPPRESS
from dataclasses import dataclass
from pathlib import Path

from cluster import simulated
from logit_store import __main__ as logit_store_command
from report.dcase import __main__ as dcase_command
from students import classify
from students.complexity import __main__ as complexity_command
from students.export import __main__ as export_command
from terminal import EXAMPLE_HEADING, Option, describe_options

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "reference.md"
HEAD = """# Every command, every option

Made from the code by `make reference`; a test says if it is not fresh. The same is in each command's
`--help`. An option that is left out has its default; where that column is empty, the text says what
happens without it, and an option that takes no value is off.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One command of the project, for people."""

    program: str
    """As it is typed: python jobs/teachers.py."""
    about: str
    """What it does, and an example: a docstring."""
    options: list[Option]
    kind: type | None = None
    """What tyro reads its options into; None of the command that does without."""


def commands() -> list[Command]:
    """All commands: those of jobs/ by their names, then those of the packages."""
    return [*_jobs(), *_of_the_store(), *_others()]


def _jobs() -> list[Command]:
    files = sorted((ROOT / "jobs").glob("*.py"))
    names = [file.stem for file in files if "\nif __name__ ==" in file.read_text()]
    return [_job(name) for name in names]


def _job(name: str) -> Command:
    main = importlib.import_module(f"jobs.{name}").main
    kind = inspect.get_annotations(main, eval_str=True)["options"]
    return _of_tyro(f"python jobs/{name}.py", main.__doc__ or "", kind)


def _of_the_store() -> list[Command]:
    return [
        _of_tyro(f"{logit_store_command.PROGRAM} {kind.__name__.lower()}", kind.__doc__ or "", kind)
        for kind in logit_store_command.COMMANDS
    ]


def _others() -> list[Command]:
    check, complexity = dcase_command.Check, complexity_command.ComplexityOptions
    export = export_command.ExportOptions
    return [
        _of_tyro(export_command.PROGRAM, export.__doc__ or "", export),
        _classify(),
        _of_tyro(complexity_command.PROGRAM, complexity.__doc__ or "", complexity),
        _of_tyro(f"{dcase_command.PROGRAM} check", check.__doc__ or "", check),
        _of_tyro(
            "python -m cluster.simulated",
            simulated.main.__doc__ or "",
            simulated.SimulatedClusterOptions,
        ),
    ]


def _of_tyro(program: str, about: str, kind: type) -> Command:
    return Command(program=program, about=about, options=describe_options(kind), kind=kind)


def _classify() -> Command:
    about = f"{classify.ABOUT}\n\n{EXAMPLE_HEADING}\n    {classify.EXAMPLE}\n"
    options = [
        Option(
            name=action.option_strings[0] if action.option_strings else str(action.metavar),
            values=action.dest.upper() if action.option_strings else "",
            default=None if action.required else str(action.default or ""),
            meaning=(action.help or "").replace(" (default: %(default)s)", ""),
        )
        for action in classify.make_parser()._actions
        if action.default is not SUPPRESS
    ]
    return Command(program=classify.PROGRAM, about=about, options=options)


def reference() -> str:
    """The page."""
    return "\n".join([HEAD, *map(_section, commands())])


def _section(command: Command) -> str:
    told, _, typed = inspect.cleandoc(command.about).partition(f"{EXAMPLE_HEADING}\n")
    rows = "\n".join(map(_row, command.options))
    return (
        f"## `{command.program}`\n\n{told.strip()}\n\n```sh\n{inspect.cleandoc(typed)}\n```\n\n"
        f"| option | default | |\n|---|---|---|\n{rows}\n"
    )


def _row(option: Option) -> str:
    default = f"`{option.default}`" if option.default else ""
    if option.default is None:
        default = "must be given"
    typed = f"{option.name} {option.values}".strip()
    cells = [f"`{typed}`", default, option.meaning.replace("|", r"\|")]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    FILE.write_text(reference())
