"""Reads command lines as the project's commands do, without running them."""

import shlex

from docs.make_reference import list_commands
from students import classify
from terminal import parse_options

COMMANDS = tuple(list_commands())


def read(line: str) -> object:
    """Return the options that a typed line gives to a command; SystemExit if it cannot read it."""
    words = shlex.split(line.replace("\\\n", " "))
    for command in COMMANDS:
        program = command.program.split()
        if words[: len(program)] == program:
            arguments = words[len(program) :]
            if command.kind is None:
                return classify.make_parser().parse_args(arguments)
            return parse_options(command.kind, command.program, command.about, arguments)
    raise ValueError(f"no command of the project: {line}")


def steps(printed: str) -> list[str]:
    """Return the command lines that a command's output ends with."""
    # Without those of a job that was started by an absolute path, or of another program.
    heads = tuple(f"{head} python {how}" for head in ("next:", "  or:") for how in ("jobs/", "-m "))
    found = [line[6:] for line in printed.splitlines() if line.startswith(heads)]
    return [line for line in found if not line.endswith("--help")]
