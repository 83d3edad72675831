"""Runs a command: parses its options, and prints errors as messages."""

import io
import logging
import shlex
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from rich.logging import RichHandler

from audio.errors import BrokenAudio, CorpusError, UnfitLength
from jobs.plan.options import CorpusOptions
from logit_store import LogitStoreError
from teachers import UnfitClips, UnknownTeacher, WeightsError
from terminal import parse_options
from terminal.console import UserError, error_console, repeat_command

REPORT = ("python", "jobs/report.py")
INTERRUPTED = 130


CommandOptions = TypeVar("CommandOptions", bound=CorpusOptions)


def run(main: Callable[[Any], int], options: type[CommandOptions]) -> None:
    """Parse the command line, run `main`, exit with its code; errors become one message.

    Args:
        main: the command; its docstring is the help, and has an example.
        options: the dataclass of its options.
    """
    typed = parse_options(options, shlex.join(repeat_command()[:2]), main.__doc__ or "")
    logging.basicConfig(
        level=logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=error_console, show_time=False, show_path=False)],
    )
    # A submitted job has no terminal: without this its lines arrive in blocks.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    unfit = (UnfitLength, UnfitClips, UnknownTeacher, WeightsError)
    known = (UserError, CorpusError, BrokenAudio, LogitStoreError, *unfit, OSError)
    try:
        code = main(typed)
    except KeyboardInterrupt:
        error_console.print(
            f"\ninterrupted: the same command continues where this one stopped: {shlex.join(repeat_command())}",
            markup=False,
        )
        code = INTERRUPTED
    except known as error:
        if typed.debug:
            raise
        error_console.print(f"error: {error}", markup=False)
        code = 1
    sys.exit(code)
