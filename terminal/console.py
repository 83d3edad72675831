"""The console of all commands: the output of lines, errors and progress."""

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from redact import redact_secrets

if TYPE_CHECKING:
    from rich.progress import Progress

console = Console(highlight=False, soft_wrap=True)
error_console = Console(stderr=True, highlight=False, soft_wrap=True)


class UserError(Exception):
    """An error that the user of a command can correct; the message says how, without secrets."""

    def __init__(self, message: str) -> None:
        super().__init__(redact_secrets(message))


def progress_bar(on: Console | None = None) -> "Progress":
    """Return a progress bar with the time left, on the console of all commands if none is given.

    It is silent if the output is no terminal, and disappears when it is done.
    """
    # Imported here: it takes longer than the rest of this module, and most commands end before it.
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    on = on or console
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=on,
        disable=not on.is_terminal,
        transient=True,
    )


def say_next(*commands: Sequence[str]) -> None:
    """Print what to do next: complete command lines, the best first."""
    for head, words in zip(("next:", *["  or:"] * len(commands)), commands, strict=False):
        console.print(f"{head} {shlex.join(words)}", markup=False)


def repeat_command(*, less: str = "") -> list[str]:
    """Return the command line of this process, without the option `less`."""
    return ["python", *(word for word in sys.argv if word != less)]
